"""Where the store is, whoever runs it and whatever is set."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder.cli.wiring import default_store


def test_an_empty_variable_does_not_make_a_store_in_the_working_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TDX_BUILDER_STORE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/cache")
    assert default_store() == Path("/somewhere/cache/tdx-builder/store")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that the system does not know")
def test_a_user_without_a_home_is_told_to_name_a_store() -> None:
    code = "import os; os.setuid(54321); from builder.cli.main import main; main(['fetch', '/absent', '--offline'])"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    program = [sys.executable, "-c", f"import click, builder.cli.inputs, builder.cli.main; {code}"]
    done = subprocess.run(program, capture_output=True, env=environment, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert "--store" in done.stderr
    assert "Traceback" not in done.stderr
