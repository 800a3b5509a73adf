"""--engine-a and --engine-b."""

from pathlib import Path

import pytest

from builder.cli.engines import chosen_engines
from builder.errors import DocumentError, MissingError


@pytest.fixture(autouse=True)
def no_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")


def test_without_a_daemon_a_note_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen_engines(None, None) == {"a": "bubblewrap", "b": "bubblewrap"}
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("note: both legs run in bubblewrap: ") == 1
    assert captured.err.count("\n") == 1


def test_nothing_is_said_of_docker_where_it_was_not_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen_engines(None, None, legs=("a",)) == {"a": "bubblewrap"}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("a", "b"), [("docker", None), (None, "docker"), ("docker=unix:///nobody.sock", None)])
def test_docker_asked_for_by_name_is_not_replaced(a: str | None, b: str | None) -> None:
    with pytest.raises(MissingError, match="does not answer"):
        chosen_engines(a, b)


@pytest.mark.parametrize("text", ["podman", "docker=", "bubblewrap=x"])
def test_an_engine_that_nobody_knows_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="is not an engine"):
        chosen_engines(text, None)
