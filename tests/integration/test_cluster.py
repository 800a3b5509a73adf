"""A build on a real Dask cluster: what must never happen is a leg that meets the other, bytes that nobody checked, a
build that hangs, or a sandbox that goes on when nobody waits for it."""

import os
import pickle
import secrets
import signal
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from builder.backends import process
from builder.backends.bubblewrap import Bubblewrap
from builder.backends.cluster.runners import ClusterOrder, cluster_runners
from builder.backends.cluster.worker import own_programs
from builder.backends.local_site import UnpackedRoots
from builder.backends.local_store import LocalStore
from builder.errors import BuildFailedError, FetchError, MissingError, NotProvenError
from builder.model.digest import sha256_hex
from builder.model.lock import Lock
from builder.model.plan import OutputInput, Step, TextInput
from builder.model.task import Content, RootTask, StepResult, TaskFrame
from builder.model.variation import VARIATIONS
from builder.pipeline.graph import GraphLeg, LegRunner, run_graph
from builder.pipeline.run_step import Site, run_step
from tests.fakes.silent_progress import SilentProgress
from tests.integration.dask_cluster import (
    LIMIT,
    WAITING,
    DaskCluster,
    child_of,
    dask_cluster,
    go_on,
    sandboxes,
    wait_for_step,
    wait_until_gone,
    worker_of,
)
from tests.integration.made_once import made_once

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.xdist_group("cluster")]

# what a shell, the probe and the variations of leg b need
PACKAGES = frozenset(
    """
coreutils dash libacl1 libattr1 libc-bin libc6 libexpat1 libfaketime libgcc-s1 libgmp10 libpcre2-8-0 libselinux1
libpython3.11-minimal libpython3.11-stdlib locales python3-minimal python3.11-minimal util-linux zlib1g
libsmartcols1 libtinfo6 libcap-ng0 libudev1 libuuid1 libsystemd0 libmount1 libblkid1 libssl3 libcrypt1
""".split()  # noqa: SIM905 - thirty names
)
TEXT = "what both legs are given\n"
PRODUCE = Step(
    "produce",
    ("sh", "-c", "echo produced; (cat in/text; seq 100000) > out/made"),
    (TextInput(TEXT, "in/text"),),
    ("made",),
    root="small",
)
COMBINE = Step(
    "combine",
    ("sh", "-c", "sha256sum < in/made > out/digest; cp in/made out/copy"),
    (OutputInput("produce", "made", "in/made"),),
    ("digest", "copy"),
    root="small",
)
Results = Mapping[str, Mapping[str, StepResult]]


class Silent:
    """A Watcher that says nothing."""

    def started(self, leg: str, step: str) -> None: ...

    def finished(self, leg: str, result: StepResult) -> None: ...


def waiting_step(mark: str) -> Step:
    """A step that waits until it is told to go on."""
    command = WAITING.format(mark=mark) + " cp in/text out/text"
    return Step("wait", ("sh", "-c", command), (TextInput(TEXT, "in/text"),), ("text",), root="small")


@pytest.fixture
def mark() -> str:
    return f"mark-{secrets.token_hex(8)}"


@pytest.fixture(scope="session")
def small_root(quickstart_lock: Lock, locked_inputs: LocalStore) -> RootTask:
    """A pinned root that is quick to unpack."""
    packages = [package for package in quickstart_lock.group("roots.tools") if package.name in PACKAGES]
    assert len(packages) == len(PACKAGES)
    return RootTask("small", tuple(Content(package.sha256, package.size) for package in packages))


@pytest.fixture
def client_store(locked_inputs: LocalStore, store: Path, tmp_path: Path) -> LocalStore:
    """The client's store, with the text that steps are given."""
    keep_text(locked_inputs, TEXT, tmp_path)
    return LocalStore(store)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where workers have their stores: one that comes later with the same name finds its roots unpacked."""
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="session")
def unpacked(small_root: RootTask, locked_inputs: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of unpacked roots of a machine that has built both legs before."""

    def make(roots: Path) -> None:
        root = UnpackedRoots(roots, locked_inputs, SilentProgress()).path(small_root)
        for leg in "ab":
            with Bubblewrap().open(root, VARIATIONS[leg], roots / leg):
                pass

    return made_once(tmp_path_factory, "small-roots", make)


@pytest.fixture(scope="module")
def cluster(directory: Path, unpacked: Path) -> Iterator[DaskCluster]:
    """Two workers, shared by the tests that leave them alive."""
    with dask_cluster(directory, unpacked, "one", "two") as cluster:
        yield cluster


@pytest.fixture
def mortal_cluster(directory: Path, unpacked: Path) -> Iterator[DaskCluster]:
    """Two workers of the test's own."""
    with dask_cluster(directory, unpacked, "three", "four") as cluster:
        yield cluster


def keep_text(store: LocalStore, text: str, directory: Path) -> str:
    (directory / "text").write_text(text)
    return store.add_file(directory / "text")[0]


def order_for(cluster: DaskCluster, store: LocalStore, out: Path) -> ClusterOrder:
    logs = {leg: out / leg / "logs" for leg in "ab"}
    return ClusterOrder(cluster.address, str(cluster.directory / "shared"), store, logs, cold=False, patience=LIMIT)


def build(steps: tuple[Step, ...], runners: Mapping[str, LegRunner], root: RootTask, *, legs: str = "ab") -> Results:
    frames = [
        TaskFrame(VARIATIONS[leg], "bubblewrap", {"SOURCE_DATE_EPOCH": "1"}, {"small": root}, {}, own_programs())
        for leg in legs
    ]
    graph_legs = tuple(GraphLeg(frame, runners[frame.variation.name]) for frame in frames)
    return run_graph(steps, graph_legs, Silent(), jobs=4, cache=None)


def build_on(order: ClusterOrder, steps: tuple[Step, ...], root: RootTask, *, legs: str = "ab") -> Results:
    with cluster_runners(order) as runners:
        return build(steps, runners, root, legs=legs)


def build_here(steps: tuple[Step, ...], root: RootTask, store: LocalStore, unpacked: Path, directory: Path) -> Results:
    """The same build without a cluster."""
    roots = UnpackedRoots(unpacked, store, SilentProgress())
    runners = {}
    with ThreadPoolExecutor(4) as pool:
        for leg in "ab":
            work, logs = directory / leg / "work", directory / leg / "logs"
            site = Site(store, Bubblewrap(), roots.path, work, logs, own_programs(), clock=lambda: 1)
            runners[leg] = LegRunner(pool, partial(run_step, site=site))
        return build(steps, runners, root)


class Background:
    """A build of leg a in another thread, of one step that waits, and what became of it."""

    def __init__(self, order: ClusterOrder, mark: str, root: RootTask) -> None:
        self._mark = mark
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(build_on, order, (waiting_step(mark),), root, legs="a")

    def step(self, *, besides: int = 0) -> int:
        """The process of its step, which waits."""
        return wait_for_step(self._mark, besides=besides, check=self._require_running)

    def _require_running(self) -> None:
        assert not self._future.done(), self._future.exception()

    def result(self) -> Results:
        return self._future.result(LIMIT)

    def error(self) -> BaseException | None:
        return self._future.exception(LIMIT)


def test_build_on_a_cluster_is_that_of_one_machine_and_its_legs_never_meet(
    cluster: DaskCluster, small_root: RootTask, client_store: LocalStore, unpacked: Path, tmp_path: Path
) -> None:
    order = order_for(cluster, client_store, tmp_path)
    there = build_on(order, (PRODUCE, COMBINE), small_root)
    here = build_here((PRODUCE, COMBINE), small_root, client_store, unpacked, tmp_path)

    for leg, step in [(leg, step) for leg in "ab" for step in ("produce", "combine")]:
        assert there[leg][step].outputs == here[leg][step].outputs
        assert there[leg][step].log == here[leg][step].log
        assert client_store.path(there[leg][step].log) is not None
        assert all(client_store.path(content.sha256) for content in there[leg][step].outputs.values())
    workers = {leg: {result.worker for result in there[leg].values()} for leg in "ab"}
    assert sorted(name.split()[0] for names in workers.values() for name in names) == ["one", "two"]


def test_cold_build_unpacks_its_root_anew_from_the_shared_store_and_leaves_nothing(
    cluster: DaskCluster, small_root: RootTask, client_store: LocalStore, tmp_path: Path
) -> None:
    for worker in cluster.workers.values():
        plant(worker.store, "etc/planted")
    step = replace(
        PRODUCE, argv=("sh", "-c", "if test -e /etc/planted; then echo planted; else echo clean; fi > out/made")
    )
    order = order_for(cluster, client_store, tmp_path)

    assert made_by(build_on(order, (step,), small_root, legs="a"), client_store) == "planted\n"
    assert made_by(build_on(replace(order, cold=True), (step,), small_root, legs="a"), client_store) == "clean\n"
    assert [worker.left_behind() for worker in cluster.workers.values()] == [[], []]


def plant(store: Path, name: str) -> None:
    """Put a file into the root that a worker keeps unpacked."""
    (root,) = store.glob("roots/*/small")
    (root / name).parent.chmod(0o755)
    (root / name).touch()


def made_by(results: Results, store: LocalStore) -> str:
    path = store.path(results["a"]["produce"].outputs["made"].sha256)
    assert path is not None
    return path.read_text()


def test_damaged_object_in_the_shared_store_is_refused(
    cluster: DaskCluster, small_root: RootTask, locked_inputs: LocalStore, tmp_path: Path, mark: str
) -> None:
    sha256 = keep_text(locked_inputs, mark, tmp_path)
    shared = cluster.directory / "shared/objects" / sha256[:2] / sha256
    shared.parent.mkdir(parents=True, exist_ok=True)
    shared.write_text(mark.upper())
    step = replace(PRODUCE, inputs=(TextInput(mark, "in/text"),))

    with pytest.raises(FetchError, match=f"worker .*object sha256:{sha256}.*pinned is {sha256}"):
        build_on(order_for(cluster, locked_inputs, tmp_path), (step,), small_root)


def test_step_that_fails_names_its_worker_and_leaves_its_log(
    cluster: DaskCluster, small_root: RootTask, client_store: LocalStore, tmp_path: Path
) -> None:
    step = replace(PRODUCE, argv=("sh", "-c", "echo all is lost; exit 3"))
    with pytest.raises(BuildFailedError, match=r"worker (one|two) \(.*exit status 3"):
        build_on(order_for(cluster, client_store, tmp_path), (step,), small_root, legs="a")
    assert (tmp_path / "a/logs/produce.log").read_text() == "all is lost\n"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_client_that_is_gone_leaves_no_sandbox(
    cluster: DaskCluster,
    small_root: RootTask,
    client_store: LocalStore,
    store: Path,
    tmp_path: Path,
    mark: str,
    how: int,
) -> None:
    order = pickle.dumps(
        (cluster.address, str(cluster.directory / "shared"), str(store), str(tmp_path), mark, small_root)
    )
    command = [sys.executable, "-m", "tests.integration.cluster_client", order.hex()]
    with process.start(command, environment=dict(os.environ), cwd=Path(__file__).parents[2]) as client:
        wait_for_step(mark)
        os.kill(client.pid, how)
        assert client.wait(LIMIT) == (130 if how == signal.SIGINT else -how)
    wait_until_gone(mark)


def test_step_of_a_killed_worker_goes_on_at_a_new_one_and_never_at_the_other_leg(
    mortal_cluster: DaskCluster, small_root: RootTask, client_store: LocalStore, tmp_path: Path, mark: str
) -> None:
    running = Background(order_for(mortal_cluster, client_store, tmp_path), mark, small_root)
    workers = mortal_cluster.workers
    first = worker_of(running.step(), workers.values())
    first.kill()
    wait_until_gone(mark)
    mortal_cluster.start_workers("five")
    pid = running.step()

    assert worker_of(pid, workers.values()) is workers["five"]
    go_on(pid)
    result = running.result()["a"]["wait"]
    assert result.outputs["text"].sha256 == sha256_hex(TEXT.encode())
    assert result.worker.startswith("five ")


def test_killed_worker_that_its_nanny_starts_again_goes_on_with_its_leg(
    directory: Path, unpacked: Path, small_root: RootTask, client_store: LocalStore, tmp_path: Path, mark: str
) -> None:
    with dask_cluster(directory, unpacked) as cluster:
        cluster.start_workers("seven", "eight", nanny=True)
        running = Background(order_for(cluster, client_store, tmp_path), mark, small_root)
        first = running.step()
        worker = worker_of(first, cluster.workers.values())
        os.kill(child_of(worker, first), signal.SIGKILL)
        second = running.step(besides=first)

        assert worker_of(second, cluster.workers.values()) is worker
        go_on(second)
        assert running.result()["a"]["wait"].worker.startswith(f"{worker.name} ")


def test_worker_that_is_lost_for_good_fails_the_build(
    mortal_cluster: DaskCluster, small_root: RootTask, client_store: LocalStore, tmp_path: Path, mark: str
) -> None:
    order = replace(order_for(mortal_cluster, client_store, tmp_path), patience=1.0)
    running = Background(order, mark, small_root)
    first = worker_of(running.step(), mortal_cluster.workers.values())
    first.kill()

    error = running.error()
    assert isinstance(error, MissingError)
    (other,) = mortal_cluster.workers.keys() - {first.name}
    assert f"leg a, step wait: worker {first.name} " in error.message
    assert f"there is: {other} " in error.message
    assert "for leg b" in error.message
    assert not sandboxes(mark)


def test_scheduler_that_dies_ends_the_build(
    mortal_cluster: DaskCluster, small_root: RootTask, client_store: LocalStore, tmp_path: Path, mark: str
) -> None:
    running = Background(order_for(mortal_cluster, client_store, tmp_path), mark, small_root)
    running.step()
    mortal_cluster.scheduler.kill()

    error = running.error()
    assert isinstance(error, MissingError)
    assert "the scheduler is gone" in error.message
    wait_until_gone(mark)


def test_workers_that_are_not_like_us_are_refused(
    directory: Path, unpacked: Path, client_store: LocalStore, tmp_path: Path
) -> None:
    preludes = {"old": "import builder; builder.__version__ = '0.0.1'", "bare": "sys.modules['builder'] = None"}
    with dask_cluster(directory, unpacked) as cluster:
        cluster.start_workers("six", "old", "bare", preludes=preludes)
        with (
            pytest.raises(NotProvenError, match="2 legs need as many workers") as caught,
            cluster_runners(order_for(cluster, client_store, tmp_path)),
        ):
            pass
    assert "usable in the cluster: six " in caught.value.message
    assert "version 0.0.1, wanted" in caught.value.message
    assert "no tdx-builder of this version answers there" in caught.value.message


def test_cluster_that_is_not_there_is_an_error(client_store: LocalStore, tmp_path: Path) -> None:
    shared = str(tmp_path / "shared")
    order = ClusterOrder("tcp://127.0.0.1:1", shared, client_store, {"a": tmp_path}, cold=False, patience=0.5)
    with pytest.raises(MissingError, match=r"cluster tcp://127.0.0.1:1: no scheduler"), cluster_runners(order):
        pass
