"""The executor of a leg: what must never happen is a step that nobody waits for, hangs, or was run by someone else."""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from builder.backends.cluster.executor import ClusterExecutor, LegOnCluster
from builder.backends.cluster.object_store import ObjectStore
from builder.backends.cluster.view import ClusterView
from builder.backends.cluster.worker import LOG_ATTRIBUTE
from builder.backends.local_store import LocalStore
from builder.errors import BuildFailedError, FetchError, MissingError, NotProvenError
from builder.model.digest import sha256_hex
from builder.model.task import Content, RootTask, StepResult, StepTask, TaskInput
from builder.model.variation import VARIATIONS
from builder.pipeline.run_step import MOST_OUTPUT
from tests.fakes.fake_cluster import FakeCluster, always, description, steps_that_never_end

pytest.importorskip("fsspec", reason="the extra `cluster` is not installed")

INPUT, OUTPUT, LOG = b"input", b"output", b"log"
LIMIT = 30.0  # seconds; only a failing test waits as long
TASK = StepTask(
    variation=VARIATIONS["a"],
    engine="fake",
    step="compile",
    argv=("make",),
    inputs=(TaskInput(sha256_hex(INPUT), len(INPUT), "in/input"),),
    outputs=("output",),
    environment={},
    root=RootTask("tools", ()),
    programs="0" * 64,
)


def result_of(worker: str) -> StepResult:
    return StepResult(
        step="compile",
        outputs={"output": Content(sha256_hex(OUTPUT), len(OUTPUT))},
        log=sha256_hex(LOG),
        probes=(),
        not_varied={},
        engine="fake",
        engine_version="1",
        started=1,
        finished=2,
        worker=worker,
    )


def done_by(worker: str, task: StepTask) -> StepResult:
    return result_of(worker)


def put(store: LocalStore | ObjectStore, data: bytes, directory: Path) -> None:
    (directory / "data").write_bytes(data)
    store.add_file(directory / "data")


@pytest.fixture
def shared(tmp_path: Path) -> ObjectStore:
    """The shared store as a worker sees it, with what the step made."""
    store = ObjectStore(str(tmp_path / "shared"), LocalStore(tmp_path / "worker"))
    put(store, OUTPUT, tmp_path)
    put(store, LOG, tmp_path)
    return store


@contextmanager
def executor_of(cluster: FakeCluster, tmp_path: Path, *, patience: float = LIMIT) -> Iterator[ClusterExecutor]:
    own = LocalStore(tmp_path / "client")
    put(own, INPUT, tmp_path)
    store = ObjectStore(str(tmp_path / "shared"), own)
    view = ClusterView(cluster, "ab", address="fake", refresh=0.0)
    executor = ClusterExecutor(LegOnCluster("a", cluster, view, store, tmp_path / "logs", patience))
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def run(cluster: FakeCluster, tmp_path: Path, *, patience: float = LIMIT) -> StepResult:
    with executor_of(cluster, tmp_path, patience=patience) as executor:
        result: StepResult = executor.submit(steps_that_never_end, TASK).result(LIMIT)
        return result


def cluster_of(*names: str, **settings: object) -> FakeCluster:
    """Of `one` and `two`, `one` serves leg a; of `one`, `two` and `three`, which are dealt by name, also `two`."""
    return FakeCluster({name: description(name) for name in names}, **settings)  # type: ignore[arg-type]


def test_step_is_run_by_a_worker_of_its_leg_and_its_outputs_come_back(tmp_path: Path, shared: ObjectStore) -> None:
    cluster = cluster_of("one", "two", behave=done_by)
    assert run(cluster, tmp_path) == result_of("one")
    assert cluster.submitted == ["one"]
    client = LocalStore(tmp_path / "client")
    assert all(client.path(sha256_hex(data)) for data in (OUTPUT, LOG))
    assert shared.fetch(sha256_hex(INPUT), len(INPUT)).read_bytes() == INPUT


def test_lost_worker_is_replaced_by_a_new_one_and_its_task_given_up(tmp_path: Path, shared: ObjectStore) -> None:
    cluster = cluster_of("one", "two")

    def behave(worker: str, task: StepTask) -> StepResult | None:
        if worker == "new":
            return result_of("new")
        del cluster.answers["one"]
        cluster.answers["new"] = description("new")
        return None

    cluster.behave = behave
    assert run(cluster, tmp_path).worker == "new"
    assert cluster.submitted == ["one", "new"]
    assert cluster.cancelled == ["one"]


def test_worker_of_the_other_leg_never_helps_out(tmp_path: Path, shared: ObjectStore) -> None:
    cluster = cluster_of("one", "two")

    def lose_the_worker(worker: str, task: StepTask) -> None:
        del cluster.answers[worker]

    cluster.behave = lose_the_worker
    with pytest.raises(MissingError, match="leg a, step compile: worker one was lost.*there is: two for leg b"):
        run(cluster, tmp_path, patience=0.0)
    assert cluster.submitted == ["one"]


def test_step_that_ends_one_worker_after_the_other_is_given_up(tmp_path: Path, shared: ObjectStore) -> None:
    cluster = cluster_of("one", "two")

    def kill_and_replace(worker: str, task: StepTask) -> None:
        del cluster.answers[worker]
        cluster.answers[f"next of {worker}"] = description(f"next of {worker}")

    cluster.behave = kill_and_replace
    with pytest.raises(MissingError, match="3 workers were lost while they ran it") as caught:
        run(cluster, tmp_path)
    assert len(cluster.submitted) == 3
    assert "next of next of one" in caught.value.message


@pytest.mark.parametrize("sign", [CancelledError(), ConnectionResetError(), type("KilledWorker", (Exception,), {})()])
def test_each_of_dasks_words_for_a_lost_worker_is_understood(
    tmp_path: Path, shared: ObjectStore, sign: Exception
) -> None:
    cluster = cluster_of("one", "two", "three")

    def fail_once(worker: str, task: StepTask) -> object:
        return sign if worker == "one" else result_of(worker)

    cluster.behave = fail_once
    assert run(cluster, tmp_path).worker == "two"
    assert cluster.submitted == ["one", "two"]


def test_scheduler_that_is_gone_ends_the_step(tmp_path: Path, shared: ObjectStore) -> None:
    cluster = cluster_of("one", "two")

    def lose_the_scheduler(worker: str, task: StepTask) -> Exception:
        cluster.status = "connecting"
        return CancelledError()

    cluster.behave = lose_the_scheduler
    with pytest.raises(MissingError, match="cluster fake: the scheduler is gone"):
        run(cluster, tmp_path)


def test_cancelling_ends_what_runs_and_what_comes_later(tmp_path: Path, shared: ObjectStore) -> None:
    cluster = cluster_of("one", "two")
    with executor_of(cluster, tmp_path) as executor:
        running = executor.submit(steps_that_never_end, TASK)
        assert cluster.begun.acquire(timeout=LIMIT)
        executor.cancel()
        with pytest.raises(BuildFailedError, match="leg a, step compile: cancelled"):
            running.result(LIMIT)
        with pytest.raises(BuildFailedError, match="cancelled"):
            executor.submit(steps_that_never_end, TASK).result(LIMIT)
    assert cluster.cancelled == ["one"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cluster-a")]


@pytest.mark.parametrize("result", [result_of("two"), result_of(""), "done", 7])
def test_result_of_another_worker_is_not_believed(tmp_path: Path, shared: ObjectStore, result: object) -> None:
    cluster = cluster_of("one", "two", behave=always(result))
    with pytest.raises(NotProvenError, match="leg a, step compile: was run by .*, wanted one"):
        run(cluster, tmp_path)


@pytest.mark.parametrize(
    "content", [Content("f" * 64, 1), Content(sha256_hex(OUTPUT), 1), Content(sha256_hex(OUTPUT), MOST_OUTPUT + 1)]
)
def test_output_that_is_not_what_the_result_says_is_refused(
    tmp_path: Path, shared: ObjectStore, content: Content
) -> None:
    result = replace(result_of("one"), outputs={"output": content})
    with pytest.raises(FetchError, match="is not there|has 6 bytes, wanted 1|more than"):
        run(cluster_of("one", "two", behave=always(result)), tmp_path)


def test_result_without_its_log_is_refused(tmp_path: Path, shared: ObjectStore) -> None:
    result = replace(result_of("one"), log="e" * 64)
    with pytest.raises(FetchError, match=f"{'e' * 64}: is not there"):
        run(cluster_of("one", "two", behave=always(result)), tmp_path)


def test_failed_step_keeps_its_error_and_its_log(tmp_path: Path, shared: ObjectStore) -> None:
    error = BuildFailedError("worker one: make ended with exit status 2")
    setattr(error, LOG_ATTRIBUTE, sha256_hex(LOG))
    with pytest.raises(BuildFailedError, match="exit status 2"):
        run(cluster_of("one", "two", behave=always(error)), tmp_path)
    assert (tmp_path / "logs/compile.log").read_bytes() == LOG


def test_log_that_is_not_to_be_had_does_not_hide_why_the_step_failed(tmp_path: Path, shared: ObjectStore) -> None:
    error = BuildFailedError("worker one: make ended with exit status 2")
    setattr(error, LOG_ATTRIBUTE, "not even a digest")
    with pytest.raises(BuildFailedError, match="exit status 2"):
        run(cluster_of("one", "two", behave=always(error)), tmp_path)
    assert list((tmp_path / "logs").glob("*")) == []


def test_bug_on_a_worker_is_an_error_with_its_name(tmp_path: Path, shared: ObjectStore) -> None:
    with pytest.raises(BuildFailedError, match="worker one: ZeroDivisionError: by nothing"):
        run(cluster_of("one", "two", behave=always(ZeroDivisionError("by nothing"))), tmp_path)


def test_input_that_nobody_has_is_not_sent(tmp_path: Path, shared: ObjectStore) -> None:
    cluster = cluster_of("one", "two", behave=done_by)
    task = replace(TASK, inputs=(TaskInput("a" * 64, 1, "in/input"),))
    with executor_of(cluster, tmp_path) as executor, pytest.raises(MissingError, match="a" * 64):
        executor.submit(steps_that_never_end, task).result(LIMIT)
    assert cluster.submitted == []


def test_steps_are_spread_over_the_workers_of_a_leg(tmp_path: Path, shared: ObjectStore) -> None:
    cluster = cluster_of("one", "two", "three")
    with executor_of(cluster, tmp_path) as executor:
        futures = [executor.submit(steps_that_never_end, TASK) for _ in range(4)]
        assert all(cluster.begun.acquire(timeout=LIMIT) for _ in futures)
    assert sorted(cluster.submitted) == ["one", "one", "two", "two"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (description("two", version="0.0.1"), "version 0.0.1, wanted"),
        (description("two", programs="f" * 64), f"programs {'f' * 64}, wanted"),
        (ModuleNotFoundError("No module named 'builder'"), "no tdx-builder of this version answers there"),
        (None, "no tdx-builder of this version answers there"),
        (FileNotFoundError("boot_id"), "no tdx-builder of this version answers there"),
        ({**description("two"), "machine": None}, "states its machine as None"),
        (description("two", store=""), "states its store as ''"),
    ],
)
def test_worker_that_is_not_like_us_is_refused_with_the_reason(answer: object, reason: str) -> None:
    cluster = cluster_of("one", "two")
    cluster.answers["two"] = answer
    with pytest.raises(NotProvenError, match=r"cluster fake: 2 legs need.*usable in the cluster: one ") as caught:
        ClusterView(cluster, "ab", address="fake")
    assert "refused: two: " in caught.value.message
    assert reason in caught.value.message
