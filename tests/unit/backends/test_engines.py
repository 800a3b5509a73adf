"""Engines by name."""

import sys
from pathlib import Path

import pytest

from builder.backends.engines import DOCKER, default_engine_b, open_engine
from builder.backends.process import run
from builder.errors import DocumentError, MissingError

PROJECT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "engine"),
    [
        ("bubblewrap", "bubblewrap"),
        ("docker", "docker"),
        ("docker=unix:///x.sock", "docker"),
        ("docker=default", "docker"),
    ],
)
def test_an_engine_is_opened_by_its_name(text: str, engine: str) -> None:
    assert open_engine(text).engine == engine


@pytest.mark.parametrize("text", ["", "podman", "docker=", "bubblewrap=x", "bubblewrap=", "Docker", "docker=ftp://x"])
def test_what_is_no_engine_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="wanted one of"):
        open_engine(text)


def test_a_context_that_is_not_there_is_missing() -> None:
    with pytest.raises(MissingError, match="no docker context 'no-such-context-of-anybody'"):
        open_engine("docker=no-such-context-of-anybody")


def test_without_a_daemon_both_legs_are_in_bubblewrap_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    engine, note = default_engine_b()
    assert engine == "bubblewrap"
    assert note.startswith("both legs run in bubblewrap: docker at unix://")
    assert "\n" not in note
    with pytest.raises(MissingError, match=r"none\.sock"):
        _ = open_engine(DOCKER).engine_version


HELP = """
import sys
from builder.cli.main import run
import builder.backends.docker.engine
run(["build", "--help"])
run(["--help"])
sys.exit("docker" in sys.modules or "requests" in sys.modules)
"""


def test_help_does_not_load_docker() -> None:
    run([sys.executable, "-c", HELP], cwd=PROJECT)
