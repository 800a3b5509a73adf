"""Real legs in each engine: what must never happen is a leg that reaches out, leaves something behind, or claims what
it lacks."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builder.errors import BuildFailedError, DocumentError
from builder.model.variation import VARIATION_A, VARIATION_B, Variation
from builder.ports import Sandbox, Workspace
from tests.integration.docker_daemon import ENGINES, engine_called
from tests.integration.leg_runs import ENVIRONMENT, shell, workspace_of

pytestmark = [pytest.mark.network, pytest.mark.xdist_group("docker")]

both_legs = pytest.mark.parametrize("variation", [VARIATION_A, VARIATION_B], ids=["a", "b"])


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Sandbox:
    return engine_called(request.param, request)


@pytest.fixture(scope="module", params=[VARIATION_A, VARIATION_B], ids=["a", "b"])
def leg(
    request: pytest.FixtureRequest, engine: Sandbox, pinned_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """A workspace of each leg in turn, shared by the tests that leave nothing in it that another one would find."""
    scratch = tmp_path_factory.mktemp("leg") / "scratch"
    with workspace_of(engine, pinned_root, scratch, request.param) as workspace:
        yield workspace


@pytest.fixture(scope="module")
def leg_b(engine: Sandbox, pinned_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One workspace for what does not depend on the leg, shared like `leg`."""
    with workspace_of(engine, pinned_root, tmp_path_factory.mktemp("leg") / "scratch", VARIATION_B) as workspace:
        yield workspace


@pytest.fixture
def fresh_leg(engine: Sandbox, pinned_root: Path, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace of a test's own."""
    with workspace_of(engine, pinned_root, tmp_path / "scratch", VARIATION_B) as workspace:
        yield workspace


def test_a_leg_has_no_network(leg: Workspace) -> None:
    assert [line.split(":")[0].strip() for line in shell(leg, "cat /proc/net/dev").splitlines()[2:]] == ["lo"]
    script = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    with pytest.raises(BuildFailedError, match="Network is unreachable"):
        leg.run(("python3", "-c", script), {}, bytearray().extend)


def test_a_leg_inherits_no_variable(leg: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAKED_FROM_THE_HOST", "1")
    assert "LEAKED_FROM_THE_HOST" not in shell(leg, "env")
    assert "SOURCE_DATE_EPOCH=1700000000" in shell(leg, "env").splitlines()


def test_a_leg_sees_no_file_of_the_host(leg: Workspace, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the host")
    assert shell(leg, f"test -e {tmp_path}/secret && echo there || echo missing") == "missing\n"


def test_a_leg_has_no_capabilities_and_sees_no_process_of_the_host(leg: Workspace) -> None:
    assert "CapEff:\t0000000000000000" in shell(leg, "cat /proc/self/status")
    assert len(shell(leg, "ls -d /proc/[0-9]*").split()) < 10


WRITABLE_OF_PROC = """
import os, stat
for place, directories, names in os.walk("/proc"):
    if place == "/proc":  # processes are the leg's own
        directories[:] = [name for name in directories if not name.isdigit() and name not in ("self", "thread-self")]
    for path in (os.path.join(place, name) for name in names):
        # a null device stands for what is hidden
        if os.access(path, os.W_OK) and not stat.S_ISCHR(os.stat(path).st_mode):
            print(path)
"""


def test_a_leg_cannot_change_the_kernel_of_the_host(leg: Workspace) -> None:
    """Run by root, a leg is root to the files of /proc: a core_pattern would run a program outside of the sandbox."""
    log = bytearray()
    leg.run(("python3", "-c", WRITABLE_OF_PROC), {}, log.extend)
    assert log.decode() == ""


def test_root_inputs_and_programs_are_read_only(leg: Workspace) -> None:
    paths = ["/usr/bin/x", "/etc/passwd", "in/x", "inside/probe.py", "/x"]
    answers = shell(leg, "; ".join(f"(echo changed > {path}) || echo refused" for path in paths)).splitlines()
    assert answers[1::2] == ["refused"] * len(paths)
    assert all(answer.endswith("Read-only file system") for answer in answers[::2])


def test_inputs_have_one_of_two_modes_whatever_they_had(fresh_leg: Workspace, tmp_path: Path) -> None:
    for name, mode in (("data", 0o600), ("program", 0o4777)):
        (tmp_path / name).write_bytes(b"#!/bin/sh\necho ran\n")
        (tmp_path / name).chmod(mode)
    fresh_leg.put(tmp_path / "data", "in/deep/er/data")
    fresh_leg.put(tmp_path / "program", "in/program", executable=True)
    assert shell(fresh_leg, "stat -c %a in/deep/er/data in/program; in/program") == "644\n755\nran\n"
    assert (tmp_path / "data").stat().st_mode & 0o7777 == 0o600, "the original was changed"


@pytest.mark.parametrize("target", ["x", "out/x", "in", "in/", "in/../out/x", "/in/x", "in//x", "../x"])
def test_an_input_cannot_be_put_anywhere_else(leg_b: Workspace, tmp_path: Path, target: str) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(DocumentError, match="not a place for an input"):
        leg_b.put(tmp_path / "data", target)


def test_two_inputs_in_one_place_are_refused(fresh_leg: Workspace, tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    fresh_leg.put(tmp_path / "data", "in/data")
    with pytest.raises(DocumentError, match="two inputs"):
        fresh_leg.put(tmp_path / "data", "in/data")
    with pytest.raises(DocumentError, match="wanted a directory"):
        fresh_leg.put(tmp_path / "data", "in/data/below")


def test_no_mode_in_a_leg_comes_from_the_umask_of_the_host(engine: Sandbox, pinned_root: Path, tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    umask = os.umask(0o077)
    try:
        with workspace_of(engine, pinned_root, tmp_path / "scratch", VARIATION_A) as workspace:
            workspace.put(tmp_path / "data", "in/deep/data")
            modes = shell(workspace, "stat -c %a . in in/deep in/deep/data inside/probe.py inside/builder out $TMPDIR")
    finally:
        os.umask(umask)
    assert modes.split() == ["755", "755", "755", "644", "644", "755", "755", "755"]


def test_steps_of_one_workspace_see_what_earlier_ones_wrote(leg: Workspace) -> None:
    shell(leg, "echo kept > note; echo kept > $TMPDIR/note")
    assert shell(leg, "cat note $TMPDIR/note; rm note $TMPDIR/note") == "kept\nkept\n"


def test_an_output_can_be_read_whatever_its_mode(leg: Workspace) -> None:
    shell(leg, "echo result > out/unreadable; chmod 0 out/unreadable")
    assert leg.get("unreadable").read_text() == "result\n"


@pytest.mark.parametrize(
    "script",
    [
        "true",
        "ln -s /etc/passwd out/result",
        "echo x > file; ln -s ../file out/result",
        "mkdir out/result",
        "mkfifo out/result",
        "rmdir out; mkdir other; echo x > other/result; ln -s other out",
        "rmdir out; ln -s /etc out",
    ],
)
def test_what_is_not_a_regular_file_in_out_is_no_output(leg: Workspace, script: str) -> None:
    shell(leg, f"rm -rf out other file; mkdir out; {script}")
    with pytest.raises(BuildFailedError, match="out/result"):
        leg.get("result")


@pytest.mark.parametrize("name", ["", ".", "..", "../in/x", "a/b", "/etc/passwd"])
def test_an_output_is_named_by_one_name(leg_b: Workspace, name: str) -> None:
    with pytest.raises(DocumentError, match="not the name of a file in out/"):
        leg_b.get(name)


def test_a_failed_step_shows_its_command_its_status_and_the_end_of_its_output(leg_b: Workspace) -> None:
    log = bytearray()
    with pytest.raises(BuildFailedError) as caught:
        leg_b.run(("sh", "-c", "echo first; echo the last words >&2; exit 3"), ENVIRONMENT, log.extend)
    assert "ended with exit status 3" in caught.value.message
    assert caught.value.message.endswith("    first\n    the last words")
    assert log == b"first\nthe last words\n"


def test_a_program_that_is_not_in_the_root_is_a_failed_step(leg_b: Workspace) -> None:
    with pytest.raises(BuildFailedError, match="no-such-program"):
        leg_b.run(("no-such-program",), ENVIRONMENT, bytearray().extend)


def test_an_error_of_the_log_is_not_swallowed(leg_b: Workspace) -> None:
    def full(_: bytes) -> None:
        raise OSError("no space left for the log")

    with pytest.raises(OSError, match="no space left for the log"):
        leg_b.run(("echo", "x"), ENVIRONMENT, full)


@both_legs
def test_directories_without_permissions_do_not_outlive_the_leg(
    engine: Sandbox, pinned_root: Path, tmp_path: Path, variation: Variation
) -> None:
    target = tmp_path / "target-of-a-link"
    target.mkdir(mode=0o500)
    with workspace_of(engine, pinned_root, tmp_path / "scratch", variation) as workspace:
        shell(workspace, f"mkdir -p a/b; touch a/b/c; ln -s {target} a/link; chmod 0 a/b a; chmod 0 out")
    assert target.stat().st_mode & 0o777 == 0o500, "a link was followed"


def test_an_exception_removes_the_workspace(engine: Sandbox, pinned_root: Path, tmp_path: Path) -> None:
    def interrupted() -> None:
        with workspace_of(engine, pinned_root, tmp_path / "scratch", VARIATION_A) as workspace:
            shell(workspace, "echo x > out/x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_a_scratch_directory_of_someone_else_is_not_touched(engine: Sandbox, pinned_root: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(DocumentError, match="exists"), engine.open(pinned_root, VARIATION_A, tmp_path):
        pytest.fail("a leg was opened in a directory that is not its own")
    assert (tmp_path / "precious").exists()


def running_with(text: str) -> list[str]:
    """Processes of this machine with `text` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_what_a_step_leaves_in_the_background_is_gone_when_it_ends(leg: Workspace) -> None:
    marker = f"9{os.getpid()}.{time.monotonic_ns()}"
    leave_behind = "import os\nfor _ in range(300):\n  if not os.fork():\n    os.closerange(0, 9); os.execv(*COMMAND)"
    command = ("/usr/bin/sleep", ["sleep", marker])
    leg.run(("python3", "-c", leave_behind.replace("COMMAND", repr(command))), {}, bytearray().extend)
    assert running_with(marker) == []


def test_cancelling_ends_running_steps_and_all_later_ones(
    request: pytest.FixtureRequest, engine: Sandbox, pinned_root: Path, tmp_path: Path
) -> None:
    engine = engine_called(engine.engine, request)  # one of its own: it is of no use afterwards
    marker = f"9{os.getpid()}.{time.monotonic_ns()}"
    started = threading.Event()

    def step() -> None:
        with workspace_of(engine, pinned_root, tmp_path / "scratch", VARIATION_B) as workspace:
            workspace.run(("sh", "-c", f"echo started; sleep {marker}"), {}, lambda _: started.set())

    with ThreadPoolExecutor() as pool:
        job = pool.submit(step)
        assert started.wait(60)
        engine.cancel()
        with pytest.raises(BuildFailedError):
            job.result(60)
    assert running_with(marker) == []
    assert not (tmp_path / "scratch").exists()
    with pytest.raises(BuildFailedError):
        step()
