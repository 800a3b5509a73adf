"""stdout and stderr that are closed, full or hostile: never a verdict, never a traceback, never a forged line.

Each test runs the program as a process of its own, because its own descriptors are what is broken.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder.cli.output import Result, Table, emit
from tests.fakes.small_release import SmallRelease, publish_small

PROGRAM = (sys.executable, "-m", "builder")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> SmallRelease:
    return publish_small(tmp_path_factory.mktemp("release"))


def verify_command(published: SmallRelease, *options: str, key: Path | None = None) -> list[str]:
    key = key or next(published.manifest.parents[3].glob("*.pub"))
    return [*PROGRAM, "verify", str(published.manifest), "--key", str(key), *options]


def shell(command: list[str], redirection: str) -> subprocess.CompletedProcess[bytes]:
    """Run with the streams that a shell's `redirection` gives."""
    script = f'"$@" {redirection}'
    return subprocess.run(["bash", "-c", script, "bash", *command], capture_output=True, check=False)


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "<&- >&-"])
def test_a_good_verdict_that_cannot_be_printed_is_no_pass_and_no_other_verdict(
    published: SmallRelease, options: tuple[str, ...], redirection: str
) -> None:
    done = shell(verify_command(published, *options), redirection)
    assert done.returncode == 5
    assert b"could not be printed" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_pipe_that_nobody_reads_is_no_verdict(published: SmallRelease, options: tuple[str, ...]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(verify_command(published, *options), stdout=write_end, stderr=subprocess.PIPE, check=False)
    os.close(write_end)
    assert done.returncode == 5
    assert b"Broken pipe" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", ">&- 2>&-", "2>/dev/full"])
def test_a_negative_verdict_stays_one(published: SmallRelease, tmp_path: Path, redirection: str) -> None:
    other = publish_small(tmp_path)
    (key,) = other.manifest.parents[3].glob("*.pub")
    assert shell(verify_command(published, key=key), redirection).returncode == 7


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_without_stderr_the_document_is_still_the_only_thing_on_stdout(redirection: str) -> None:
    done = shell([*PROGRAM, "verify", "/absent.json", "--key", "/absent.pub", "--json"], redirection)
    assert json.loads(done.stdout)["status"] == done.returncode == 5


def test_help_into_a_closed_pipe_is_no_verdict() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run([*PROGRAM, "--help"], stdout=write_end, stderr=subprocess.DEVNULL, check=False)
    os.close(write_end)
    assert done.returncode == 5


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_locale_that_cannot_encode_the_result_is_no_crash(
    published: SmallRelease, environment: dict[str, str]
) -> None:
    done = subprocess.run(
        verify_command(published, "--registers"), capture_output=True, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_name_that_is_not_utf_8_is_shown_with_escapes_in_text_and_json(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\x1b[2J"
    done = subprocess.run([*PROGRAM, "key", "show", name, "--json"], capture_output=True, check=False)
    assert json.loads(done.stdout)["status"] == done.returncode == 5
    assert b"\x1b" not in done.stderr
    assert rb"\x1b[2J" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_cell_with_a_newline_cannot_forge_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    cell = "x is not in the manifest\nverify: m.json: verified\x1b[2J"
    emit(Result("verify", {}, [Table(("step",), ((cell,),)), "a block\rb"]), as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "step",
        r"x is not in the manifest\nverify: m.json: verified\x1b[2J",
        r"a block\rb",
    ]
