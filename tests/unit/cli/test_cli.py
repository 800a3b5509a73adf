"""Every exit goes through `run`: a status with one meaning, one error on stderr, one document on stdout."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from builder.cli.main import run
from builder.cli.output import Result, Table, emit
from builder.encoding.schema import load_schema
from builder.errors import ExitStatus, worst_status


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object]]:
    """Run with --json; the one document must fit the published schema."""
    status = run([*arguments, "--json"])
    output = capsys.readouterr().out
    document = json.loads(output)
    jsonschema.validate(document, load_schema("result-v1"))
    assert document["status"] == status
    return status, document


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in ("lock", "fetch", "export-inputs", "build", "measure", "release", "verify", "diff", "key", "quote"):
        assert f"\n  {verb} " in text


VERBS = ["lock", "fetch", "export-inputs", "build", "measure", "release", "verify", "diff", "key", "eventlog", "quote"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert run([verb, "--help"]) == 0
    assert f"Usage: tdx-builder {verb}" in capsys.readouterr().out


def test_help_starts_without_the_heavy_imports() -> None:
    code = "import sys; from builder.cli.main import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"jsonschema", "requests", "cryptography", "securesystemslib", "docker", "rich", "yaml"}
    assert not heavy & set(done.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["verify"],
        ["lock", "--offline", "x"],
        ["build", "--leg", "c", "x"],
        ["key", "new", "--type", "rsa", "x"],
    ],
)
def test_wrong_usage_is_status_2_with_a_hint(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tdx-builder: error: ")
    assert "hint: " in captured.err


def test_an_error_with_json_is_one_document(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, document = run_json(capsys, "lock", str(tmp_path), "--check", "--offline")
    assert status == 2
    assert document["error"] == {
        "kind": "DocumentError",
        "message": f"{tmp_path}: no recipe.yaml there",
        "hint": "name a directory that holds a recipe.yaml",
    }


def test_a_missing_key_is_status_5(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    status, document = run_json(capsys, "verify", str(tmp_path / "manifest.json"), "--key", str(tmp_path / "none.pub"))
    assert status == 5
    assert "none.pub" in str(document["error"])


def test_a_missing_manifest_is_not_a_verdict(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["key", "new", str(tmp_path / "key")]) == 0
    capsys.readouterr()
    status, _ = run_json(capsys, "verify", str(tmp_path / "manifest.json"), "--key", str(tmp_path / "key.pub"))
    assert status == 2


def test_a_full_disk_is_status_5_and_names_the_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "new", "/dev/full/key"]) == 5
    assert "/dev/full/key" in capsys.readouterr().err


def test_a_key_is_made_shown_and_never_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "release"
    status, made = run_json(capsys, "key", "new", str(path), "--type", "ecdsa-p256")
    assert status == 0
    assert path.stat().st_mode & 0o777 == 0o600
    _, shown = run_json(capsys, "key", "show", f"{path}.pub")
    assert shown["result"] == {"key_id": made["result"]["key_id"], "type": "ecdsa-p256"}  # type: ignore[index]
    before = path.read_bytes()
    assert run(["key", "new", str(path)]) == 2
    assert path.read_bytes() == before


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_the_program(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert run(["completion", shell]) == 0
    assert "tdx-builder" in capsys.readouterr().out


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"\xff" * 5000, b"[]", b"[1]"])
def test_what_is_no_event_log_is_status_2(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: bytes) -> None:
    (tmp_path / "log").write_bytes(data)
    assert run(["eventlog", "replay", str(tmp_path / "log")]) == 2
    assert run(["quote", "show", str(tmp_path / "log")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_table_in_a_pipe_is_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(("name", "digest"), (("a", "00"), ("longer", "11")), caption="Files")
    emit(Result("show", {}, [table, "done"]), as_json=False)
    assert capsys.readouterr().out == "Files\nname    digest\na       00\nlonger  11\ndone\n"


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ([], 8),
        ([0], 0),
        ([0, 8], 8),
        ([8, 6], 6),
        ([6, 1], 1),
        ([1, 7], 7),
        ([7, 70], 70),
        ([0, 4], 4),
        ([4, 1], 1),
    ],
)
def test_one_status_speaks_for_several_and_for_none_it_is_not_proven(statuses: list[int], status: int) -> None:
    assert worst_status([ExitStatus(each) for each in statuses]) == status


def test_an_unexpected_exception_is_a_bug_and_no_verdict() -> None:
    code = (
        "import builder.cli.key, builder.cli.main as m\n"
        "class Broken:\n"
        "    def __str__(self): raise RuntimeError('broken')\n"
        "m._VERBS['key'] = ('builder.cli.absent', 'x')\n"
        "raise SystemExit(m.run(['key', '--json']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert json.loads(done.stdout)["status"] == 70
    assert "please report it" in done.stderr
