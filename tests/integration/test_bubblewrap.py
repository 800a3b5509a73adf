"""What is bubblewrap's own: its command to paste, and that an ordinary user can run it."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from builder.backends.bubblewrap import Bubblewrap
from builder.backends.process import run
from builder.backends.scratch import remove_tree
from builder.errors import BuildFailedError
from builder.model.variation import VARIATION_A
from tests.integration.leg_runs import ENVIRONMENT, shell, workspace_of

pytestmark = [pytest.mark.network, pytest.mark.xdist_group("pinned_root")]

PROJECT = Path(__file__).parents[2]


def test_a_failed_step_can_be_pasted_and_the_bytecode_is_read_only(pinned_root: Path, tmp_path: Path) -> None:
    with workspace_of(Bubblewrap(), pinned_root, tmp_path / "scratch", VARIATION_A) as leg:
        assert "bwrap" not in shell(leg, "ls /usr/bin")
        with pytest.raises(BuildFailedError, match="Read-only file system") as caught:
            leg.run(("sh", "-c", "echo x > /run/bytecode/x"), ENVIRONMENT, bytearray().extend)
    assert "env -i" in caught.value.message
    assert "--setenv SOURCE_DATE_EPOCH 1700000000" in caught.value.message


AS_ORDINARY_USER = """
import os, sys
from pathlib import Path
assert os.getuid() == os.geteuid() == 65534
sys.path.insert(0, sys.argv[1])
from builder.backends.bubblewrap import Bubblewrap
from builder.backends.deb_root import unpack_root
from builder.backends.scratch import remove_tree
from builder.model.variation import VARIATIONS
from tests.fakes.silent_progress import SilentProgress
directory = Path(sys.argv[2])
root = directory / "roots" / "tools"
root.parent.mkdir()
unpack_root(sorted((directory / "debs").iterdir()), root, SilentProgress())
for variation in VARIATIONS.values():
    with Bubblewrap().open(root, variation, directory / "scratch") as workspace:
        workspace.run(("python3", "inside/probe.py", "0"), {}, lambda data: None)
        script = "echo x > out/x; mkdir d; touch d/f; chmod 0 d out/x out .; id -u; id -g"
        workspace.run(("sh", "-c", script), {}, sys.stdout.buffer.write)
        assert workspace.get("x").read_bytes() == b"x\\n"
    assert not (directory / "scratch").exists()
remove_tree(root)
"""


def interpreter_of_everybody() -> str:
    """A Python that a user without rights can start and import this project with; skips if there is none."""
    for python in (sys.executable, "/usr/bin/python3"):
        script = "import sys; sys.path.insert(0, sys.argv[1]); import builder.backends.bubblewrap, tests.fakes"
        if run([*as_nobody(), python, "-c", script, str(PROJECT)], environment={}, accept=range(256)).status == 0:
            return python
    pytest.skip("no Python >= 3.11 that user 65534 can run and import this project with")


def as_nobody() -> list[str]:
    return [shutil.which("setpriv") or "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.mark.slow
def test_an_ordinary_user_can_unpack_a_root_and_run_both_legs(root_debs: list[Path]) -> None:
    if os.getuid() != 0:
        pytest.skip("not root: the other tests of this file already ran as an ordinary user")
    python = interpreter_of_everybody()
    directory = Path(tempfile.mkdtemp())  # pytest's own directories are closed to others
    try:
        (directory / "debs").mkdir()
        for deb in root_debs:
            shutil.copyfile(deb, directory / "debs" / deb.name)
        os.chown(directory, 65534, 65534)
        (directory / "debs").chmod(0o755)
        command = [*as_nobody(), python, "-c", AS_ORDINARY_USER, str(PROJECT), str(directory)]
        assert run(command, environment={}).stdout == b"0\n0\n1234\n4321\n"
    finally:
        remove_tree(directory)
