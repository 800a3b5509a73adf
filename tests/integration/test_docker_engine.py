"""Legs on real docker daemons: nothing pulled, nothing mounted, nothing left, and nothing that a step could reach."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from builder.backends.bubblewrap import Bubblewrap
from builder.backends.docker.engine import DockerEngine
from builder.backends.docker.host import find_host
from builder.backends.docker.owner import OWNER_LABEL, own_label
from builder.backends.docker.root import REPOSITORY
from builder.backends.process import run, start
from builder.compare.legs import compare_axes
from builder.errors import BuildFailedError, MissingError
from builder.model.build_info import AxisVerdict, BuildInfo
from builder.model.variation import AXES, VARIATION_A, VARIATION_B
from builder.pipeline.run_step import MOST_OUTPUT
from builder.ports import Sandbox, Workspace
from tests.fakes.docker_contexts import endpoint, write_context
from tests.integration.docker_daemon import RunningDaemon, client_of, docker_daemon, docker_engine, owned
from tests.integration.leg_runs import ENVIRONMENT, probe, shell, workspace_of
from tests.integration.test_bubblewrap import as_nobody, interpreter_of_everybody

pytestmark = [pytest.mark.network, pytest.mark.xdist_group("docker")]

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def engine(local_daemon: RunningDaemon) -> DockerEngine:
    return docker_engine(local_daemon.url)


@pytest.fixture(scope="module")
def leg_b(engine: Sandbox, pinned_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace shared by tests that leave nothing in it that another one would find."""
    with workspace_of(engine, pinned_root, tmp_path_factory.mktemp("leg") / "scratch", VARIATION_B) as workspace:
        yield workspace


@pytest.fixture(scope="module", params=["a", "b"])
def leg(
    request: pytest.FixtureRequest, engine: Sandbox, pinned_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """The same of each leg in turn: a is root, b is not."""
    if request.param == "b":
        yield request.getfixturevalue("leg_b")
        return
    with workspace_of(engine, pinned_root, tmp_path_factory.mktemp("leg") / "scratch", VARIATION_A) as workspace:
        yield workspace


def python(leg: Workspace, script: str) -> str:
    output = bytearray()
    leg.run(("python3", "-c", script), ENVIRONMENT, output.extend)
    return output.decode()


# where the daemon is


def make_context(name: str, url: str, environment: Mapping[str, str]) -> None:
    """By docker's own command line where it is there: Debian 13 has it in a package of its own, that 12 has not."""
    if shutil.which("docker"):
        run(["docker", "context", "create", name, "--docker", f"host={url}"], environment=environment)
    else:
        write_context(Path(environment["DOCKER_CONFIG"]), name, endpoint(name, url))


def test_one_step_gives_the_same_bytes_in_bubblewrap_here_and_in_docker_on_another_host(
    pinned_root: Path, other_daemon: RunningDaemon, tmp_path: Path
) -> None:
    """The other host is reached by a context."""
    environment = {"DOCKER_CONFIG": str(tmp_path / "config"), "PATH": os.environ["PATH"]}
    make_context("other", other_daemon.url, environment)
    remote = DockerEngine(find_host("other", environment))
    (tmp_path / "data").write_bytes(b"the same" * 10_000)
    build = "mkdir t; cp in/data t; chmod 644 t/data; chmod 755 t; mksquashfs t out/image -quiet -no-progress -all-root"
    results, infos = [], []
    for engine, variation in ((Bubblewrap(), VARIATION_A), (remote, VARIATION_B)):
        with workspace_of(engine, pinned_root, tmp_path / "scratch", variation) as workspace:
            workspace.put(tmp_path / "data", "in/data")
            before = probe(workspace)
            shell(workspace, build)
            results.append(workspace.get("image").read_bytes())
            probes = (before, probe(workspace))
        version, unvaried = engine.engine_version, engine.not_varied(variation)
        infos.append(BuildInfo(variation.name, engine.engine, version, probes, unvaried, 1, 2))
    assert results[0] == results[1]
    found = {comparison.axis: comparison.verdict for comparison in compare_axes(*infos)}
    refused = dict.fromkeys(infos[1].not_varied, AxisVerdict.NOT_VARIED)
    assert found == dict.fromkeys(AXES, AxisVerdict.VARIED) | refused
    assert set(refused) <= {"fileordering", "num_cpus"}
    assert infos[1].engine_version == remote.engine_version != ""


def test_the_daemon_of_docker_host_is_used(other_daemon: RunningDaemon) -> None:
    found = DockerEngine(find_host("", {"DOCKER_HOST": other_daemon.url})).daemon()
    assert found.identity == client_of(other_daemon).info()["ID"]


def test_a_daemon_that_does_not_answer_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="nobody.sock") as caught:
        _ = docker_engine(f"unix://{tmp_path}/nobody.sock").engine_version
    assert "apt install docker.io" in str(caught.value.hint)


AS_ORDINARY_USER = """
import sys
sys.path.insert(0, sys.argv[1])
from builder.backends.docker.daemon import open_daemon
from builder.backends.docker.host import find_host
from builder.errors import MissingError
try:
    open_daemon(find_host(sys.argv[2], {}))
except MissingError as error:
    print(error.hint)
"""


def test_a_socket_that_is_not_ours_names_the_group(local_daemon: RunningDaemon) -> None:
    command = [*as_nobody(), interpreter_of_everybody(), "-c", AS_ORDINARY_USER, str(PROJECT), local_daemon.url]
    assert "group docker" in run(command, environment={}).stdout.decode()


def test_nothing_but_our_images_is_on_the_daemon(leg_b: Workspace, local_daemon: RunningDaemon) -> None:
    shell(leg_b, "true")
    tags = {tag for image in client_of(local_daemon).images() for tag in image["RepoTags"]}
    assert tags
    assert all(tag.startswith(f"{REPOSITORY}:") for tag in tags)


# what a hostile step can do

SYSTEM_CALLS = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(*arguments)
    print(name, result, errno.errorcode.get(ctypes.get_errno(), 0))
call("mount", 165, b"none", b"/mnt", b"tmpfs", 0, 0)
call("ptrace", 101, 0, 0, 0, 0)
call("keyctl", 250, 0, -3, 1)
call("bpf", 321, 0, 0, 0)
call("unshare_user", 272, 0x10000000)
call("clone_user", 56, 0x10000000 | 17, 0, 0, 0, 0)
call("clone_net", 56, 0x40000000 | 17, 0, 0, 0, 0)
call("clone3", 435, 0, 0)
call("init_module", 175, 0, 0, b"")
call("io_uring_setup", 425, 1, 0)
call("vsock", 41, 40, 1, 0)
call("open_tree", 428, -100, b"/", 1)
call("setns", 308, os.open("/proc/self/ns/net", os.O_RDONLY), 0)
"""


def test_a_step_cannot_use_the_kernel_against_its_machine(leg: Workspace) -> None:
    answers = dict(line.split(" ", 1) for line in python(leg, SYSTEM_CALLS).splitlines())
    assert answers.pop("clone3") == "-1 ENOSYS"
    assert len(answers) == 12
    assert set(answers.values()) == {"-1 EPERM"}


def test_user_namespaces_are_for_the_steps_that_ask_for_them(
    engine: DockerEngine, pinned_root: Path, tmp_path: Path
) -> None:
    mount = "import ctypes; print(ctypes.CDLL(None).mount(b'x', b'/mnt', b'tmpfs', 0, None))"
    variation = replace(VARIATION_A, user_namespaces=True)
    with workspace_of(engine, pinned_root, tmp_path / "scratch", variation) as leg:
        assert shell(leg, f'unshare --user --map-root-user --mount python3 -c "{mount}"') == "0\n"
        assert shell(leg, f'python3 -c "{mount}"') == "-1\n"


def test_a_leg_cannot_gain_rights(leg: Workspace) -> None:
    status = shell(leg, "cat /proc/self/status")
    for line in ("CapBnd:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status


def test_a_leg_has_no_device_of_its_machine(leg: Workspace) -> None:
    names = set(shell(leg, "ls /dev").split())
    assert names <= {
        *("core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty"),
        *("urandom", "zero"),
    }
    with pytest.raises(BuildFailedError, match="not permitted|nicht"):
        shell(leg, "mknod disk b 254 0")


def test_a_step_cannot_change_its_inputs_or_programs(leg: Workspace, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("as it was\n")
    leg.put(tmp_path / "data", "in/kept/data")
    attempts = (
        *("echo x > in/kept/data", "chmod 777 in/kept/data", "rm -f in/kept/data", "mv in other"),
        *("rm -rf inside", "touch in/kept/y"),
    )
    did = shell(leg, "; ".join(f"({attempt}) 2> /dev/null && echo 'did {attempt}'" for attempt in attempts) + "; true")
    assert did == ""
    look = "cat in/kept/data; ls in/kept; test -f inside/probe.py && echo there"
    assert shell(leg, look) == "as it was\ndata\nthere\n"


def test_inputs_can_be_put_between_two_commands(leg_b: Workspace, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        leg_b.put(tmp_path / name, f"in/below/{name}")
        shell(leg_b, f"cat in/below/{name}")
    assert shell(leg_b, "cat in/below/one in/below/two") == "onetwo"


def test_an_output_that_is_too_large_is_refused_before_it_is_copied(leg_b: Workspace, tmp_path: Path) -> None:
    """A file with holes takes no room where it is, and all of it on this machine."""
    shell(leg_b, f"truncate --size={MOST_OUTPUT + 1} out/huge")
    with pytest.raises(BuildFailedError, match=f"out/huge of a step has {MOST_OUTPUT + 1} bytes, more than"):
        leg_b.get("huge")


def test_a_huge_log_comes_whole_and_in_order(leg_b: Workspace) -> None:
    length, last = 0, b""

    def log(data: bytes) -> None:
        nonlocal length, last
        length, last = length + len(data), (last + data)[-4:]

    script = "import sys\nfor _ in range(300): print('x' * 100_000, end='', flush=True)\nsys.stderr.write('END')"
    leg_b.run(("python3", "-c", script), ENVIRONMENT, log)
    assert (length, last) == (30_000_003, b"xEND")


def test_a_step_that_closes_its_output_is_waited_for(leg_b: Workspace) -> None:
    assert shell(leg_b, "exec >&- 2>&-; sleep 1; echo late > out/late") == ""
    assert leg_b.get("late").read_text() == "late\n"


def test_a_step_that_is_killed_for_its_memory_says_so(
    local_daemon: RunningDaemon, tiny_root: Path, tmp_path: Path
) -> None:
    engine = docker_engine(local_daemon.url, memory=16 << 20)
    with (
        workspace_of(engine, tiny_root, tmp_path / "scratch", VARIATION_A) as workspace,
        pytest.raises(BuildFailedError, match="ran out of its memory"),
    ):
        shell(workspace, "exec tail /dev/zero")


def test_a_failed_step_names_a_command_to_paste(leg_b: Workspace) -> None:
    with pytest.raises(BuildFailedError, match="ended with exit status 3") as caught:
        shell(leg_b, "exit 3")
    lines = caught.value.message.splitlines()
    (command,) = [line for line in lines if line.startswith("  command: docker --host unix://")]
    for option in ("--network=none", "--read-only", "--cap-drop=ALL", "--env=SOURCE_DATE_EPOCH=1700000000"):
        assert option in command


# what is left behind


def test_everything_a_leg_makes_has_its_owner_and_is_gone_after_it(
    engine: DockerEngine, local_daemon: RunningDaemon, pinned_root: Path, tmp_path: Path
) -> None:
    before = owned(local_daemon)
    with workspace_of(engine, pinned_root, tmp_path / "scratch", VARIATION_B) as workspace:
        shell(workspace, "true")
        client = client_of(local_daemon)
        assert owned(local_daemon) > before
        assert len(owned(local_daemon)) == len(client.containers(all=True)) + len(client.volumes()["Volumes"])
    assert owned(local_daemon) == before


def test_a_second_run_does_not_touch_the_legs_of_the_first(leg_b: Workspace, local_daemon: RunningDaemon) -> None:
    shell(leg_b, "echo kept > note")
    docker_engine(local_daemon.url).daemon()
    assert shell(leg_b, "cat note") == "kept\n"


def test_what_others_own_is_left_alone(local_daemon: RunningDaemon) -> None:
    client = client_of(local_daemon)
    boot, namespace, pid, start_time = own_label().split("/")
    foreign = [f"other-boot/{namespace}/1/1", f"{boot}/1/{pid}/{start_time}", "", "what is this", own_label()]
    names = [client.create_volume(labels={OWNER_LABEL: owner})["Name"] for owner in foreign]
    gone = client.create_volume(labels={OWNER_LABEL: f"{boot}/{namespace}/{pid}/1"})["Name"]
    docker_engine(local_daemon.url).daemon()
    left = {volume["Name"] for volume in client.volumes()["Volumes"]}
    for name in names:
        client.remove_volume(name)
    assert gone not in left
    assert set(names) <= left


KILLED_RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from builder.model.variation import VARIATION_A
from tests.integration.docker_daemon import docker_engine
with docker_engine(sys.argv[2]).open(Path(sys.argv[3]), VARIATION_A, Path(sys.argv[4])) as workspace:
    workspace.run(("sh", "-c", "echo started; sleep 1000"), {}, lambda data: print("started", flush=True))
"""


def test_what_a_killed_run_left_is_removed_by_the_next(
    local_daemon: RunningDaemon, tiny_root: Path, tmp_path: Path
) -> None:
    before = owned(local_daemon)
    started = threading.Event()
    command = [sys.executable, "-c", KILLED_RUN, str(PROJECT), local_daemon.url, str(tiny_root), str(tmp_path / "s")]
    with start(command, log=lambda _: started.set()) as program:
        assert started.wait(120), program.end_of_output()
        program.kill()
    assert len(owned(local_daemon) - before) >= 7, "nothing was left, so nothing is shown"
    docker_engine(local_daemon.url).daemon()
    assert owned(local_daemon) == before


@pytest.mark.slow
def test_a_daemon_that_goes_away_fails_the_step(tiny_root: Path, tmp_path: Path) -> None:
    with docker_daemon("dying") as daemon, ThreadPoolExecutor() as pool:
        engine = docker_engine(daemon.url)
        started = threading.Event()

        def step() -> None:
            with engine.open(tiny_root, VARIATION_A, tmp_path / "scratch") as workspace:
                workspace.run(("sh", "-c", "echo started; sleep 15"), {}, lambda _: started.set())

        job = pool.submit(step)
        assert started.wait(120)
        os.kill(daemon.program.pid, signal.SIGKILL)
        with pytest.raises(BuildFailedError, match=r"dying.*did not run a step to its end"):
            job.result(120)
    assert not (tmp_path / "scratch").exists()


def test_the_version_names_the_storage_driver(engine: DockerEngine, local_daemon: RunningDaemon) -> None:
    info = client_of(local_daemon).info()
    assert engine.engine_version == f"{info['ServerVersion']} {info['Driver']}"


def test_a_cancelled_engine_opens_no_leg(local_daemon: RunningDaemon, tiny_root: Path, tmp_path: Path) -> None:
    engine = docker_engine(local_daemon.url)
    engine.cancel()
    with (
        pytest.raises(BuildFailedError, match="cancelled"),
        workspace_of(engine, tiny_root, tmp_path / "scratch", VARIATION_A),
    ):
        pytest.fail("a leg was opened after it was cancelled")


def test_steps_with_one_cpu_share_the_cpus_of_the_daemon(
    engine: DockerEngine, pinned_root: Path, tmp_path: Path
) -> None:
    def allowed(number: int) -> str:
        with workspace_of(engine, pinned_root, tmp_path / str(number), VARIATION_B) as workspace:
            barrier.wait(60)
            return python(workspace, "import os; print(os.sched_getaffinity(0))")

    count = min(2, engine.daemon().cpus)
    barrier = threading.Barrier(count)
    with ThreadPoolExecutor(count) as pool:
        assert len(set(pool.map(allowed, range(count)))) == count
