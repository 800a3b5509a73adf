"""What an engine says that cannot work here, and what it asks of a root; no sandbox is needed for that."""

import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from builder.backends.bubblewrap import Bubblewrap
from builder.backends.leg_environment import check_root
from builder.backends.process import run
from builder.errors import BuildFailedError, DocumentError, ExitStatus, MissingError
from builder.model.variation import VARIATION_A, VARIATION_B, Variation

SETARCH = "/usr/bin/setarch"
TASKSET = "/usr/bin/taskset"
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
PLAIN_B = replace(VARIATION_A, name="b")


def root_with(directory: Path, *files: str) -> Path:
    """A directory that looks like a pinned root with these files."""
    root = directory / "root"
    for name in ("build", "srv", "var/tmp", "tmp", "usr/bin"):
        (root / name).mkdir(parents=True)
    for name in ("/usr/bin/true", *files):
        (root / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (root / name.lstrip("/")).touch()
    return root


def test_without_bubblewrap_the_next_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError) as caught:
        _ = Bubblewrap(str(tmp_path / "bwrap")).engine_version
    assert caught.value.hint == "apt install bubblewrap"
    assert caught.value.status is ExitStatus.MISSING


def test_forbidden_user_namespaces_are_explained(tmp_path: Path) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    program.chmod(0o755)
    with (
        pytest.raises(MissingError, match="setting up uid map: Permission denied") as caught,
        Bubblewrap(str(program)).open(tmp_path, VARIATION_A, tmp_path / "scratch"),
    ):
        pytest.fail("a leg was opened without a sandbox")
    assert "AppArmor" in str(caught.value.hint)
    assert "user namespaces" in str(caught.value.hint)
    assert not (tmp_path / "scratch").exists()


CUT_SHORT = """#!{python}
import os, sys
if sys.argv[1] == "--info-fd":
    os.write(int(sys.argv[2]), b'{{ "child-pid": 4194305')  # more than any process can have
    sys.exit(1)
"""


def test_a_sandbox_that_is_killed_while_it_says_what_it_started_is_a_failed_step(tmp_path: Path) -> None:
    """bwrap writes that in pieces; half of it must not end as a bug."""
    program = tmp_path / "bwrap"
    program.write_text(CUT_SHORT.format(python=sys.executable))
    program.chmod(0o755)
    with (
        Bubblewrap(str(program)).open(root_with(tmp_path), VARIATION_A, tmp_path / "scratch") as workspace,
        pytest.raises(BuildFailedError, match="exit status 1"),
    ):
        workspace.run(("true",), {}, lambda _: None)


NEVER_ENDS = """#!{python}
import sys, time
if "/usr/bin/python3" in sys.argv:
    open({started!r}, "w").close()
    time.sleep(1000)
"""


def test_what_prepares_a_root_can_be_cancelled(tmp_path: Path) -> None:
    started = tmp_path / "started"
    program = tmp_path / "bwrap"
    program.write_text(NEVER_ENDS.format(python=sys.executable, started=str(started)))
    program.chmod(0o755)
    root, engine = root_with(tmp_path, "/usr/bin/python3"), Bubblewrap(str(program))

    def cancel() -> None:
        assert any(started.exists() or time.sleep(0.01) for _ in range(6000))
        engine.cancel()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(cancel)
        with (
            pytest.raises(BuildFailedError, match="bwrap"),
            engine.open(root, VARIATION_A, tmp_path / "scratch"),
        ):
            pytest.fail("a leg was opened on a root that was not prepared")
    assert not list((tmp_path / "root.prepared").iterdir())


TRY_WITHOUT_NAMESPACES = """
import sys
sys.path.insert(0, sys.argv[1])
from builder.backends.bubblewrap import Bubblewrap
from builder.errors import MissingError
try:
    Bubblewrap().engine_version
except MissingError as error:
    print(error.hint)
"""


def test_the_setting_that_forbids_user_namespaces_is_named() -> None:
    """In a namespace of its own, where the limit of this machine can be set to 0 without touching it."""
    if shutil.which("bwrap") is None or shutil.which("unshare") is None:
        pytest.skip("bwrap or unshare is not installed")
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    command = [sys.executable, "-c", TRY_WITHOUT_NAMESPACES, str(Path(__file__).parents[3])]
    output = run(["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh", *command]).stdout.decode()
    assert output.startswith("user namespaces are forbidden by /proc/sys/user/max_user_namespaces = 0: ")


def test_a_leg_without_variations_needs_nothing_of_its_root(tmp_path: Path) -> None:
    check_root(root_with(tmp_path), VARIATION_A)


def test_a_root_with_everything_is_enough(tmp_path: Path) -> None:
    check_root(root_with(tmp_path, SETARCH, TASKSET, FAKETIME), VARIATION_B)


@pytest.mark.parametrize(
    ("variation", "missing", "package"),
    [
        (replace(PLAIN_B, aslr=False), SETARCH, "util-linux"),
        (replace(PLAIN_B, old_kernel_release=True), SETARCH, "util-linux"),
        (replace(PLAIN_B, single_cpu=True), TASKSET, "util-linux"),
        (replace(PLAIN_B, time_offset_days=400), FAKETIME, "libfaketime"),
    ],
)
def test_a_root_that_cannot_vary_an_axis_is_refused(
    tmp_path: Path, variation: Variation, missing: str, package: str
) -> None:
    others = {SETARCH, TASKSET, FAKETIME} - {missing}
    with pytest.raises(MissingError, match=f"has no {missing}") as caught:
        check_root(root_with(tmp_path, *others), variation)
    assert package in str(caught.value.hint)


@pytest.mark.parametrize(
    "change", [{"build_path": "/usr/bin/build"}, {"build_path": "/nowhere/a"}, {"tmpdir": "/usr/t"}]
)
def test_a_build_path_that_would_hide_a_part_of_the_root_is_refused(tmp_path: Path, change: dict[str, str]) -> None:
    with pytest.raises(DocumentError, match="no empty directory on the way"):
        check_root(root_with(tmp_path), replace(VARIATION_A, **change))  # type: ignore[arg-type]


def test_the_axes_left_alone_come_with_a_reason() -> None:
    reasons = Bubblewrap().not_varied(VARIATION_B)
    assert "disorderfs" in reasons["fileordering"]
    assert all(reasons.values())
