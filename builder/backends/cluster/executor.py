"""The executor of one leg: each step goes to a worker of the leg, and to another one if that worker is lost.

A thread follows each step: it publishes the inputs, hands the step to dask through its `concurrent.futures` interface,
watches the worker, and fetches what came out. Dask itself never moves a step to another worker.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any

from builder.backends.cluster.object_store import ObjectStore, transfer_all
from builder.backends.cluster.placement import RemoteWorker
from builder.backends.cluster.view import Client, ClusterView
from builder.backends.cluster.worker import LOG_ATTRIBUTE
from builder.errors import BuilderError, BuildFailedError, FetchError, MissingError, NotProvenError
from builder.model.task import StepResult, StepTask
from builder.pipeline.run_step import MOST_LOG, MOST_OUTPUT, log_path

StepFunction = Callable[[StepTask], StepResult]

_POLL_SECONDS = 0.25
_MOST_LOST = 3  # a step that ends one worker after the other must not go through the whole cluster
_MOST_STEPS = 256  # at the same time; the graph has its own, smaller limit


@dataclass(frozen=True)
class LegOnCluster:
    """What the executor of a leg works with: `logs` gets the logs of steps that failed, `patience` are the seconds to
    wait for a worker that may take the place of a lost one."""

    leg: str
    client: Client
    view: ClusterView
    store: ObjectStore
    logs: Path
    patience: float


class ClusterExecutor(Executor):
    """A concurrent.futures.Executor for functions of one StepTask that can be pickled."""

    def __init__(self, leg: LegOnCluster) -> None:
        self._leg = leg
        self._threads = ThreadPoolExecutor(_MOST_STEPS, thread_name_prefix=f"cluster-{leg.leg}")
        self._cancelled = threading.Event()
        self._mutex = threading.Lock()
        self._steps: Counter[str] = Counter()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn(task)` on a worker of the leg. The future has MissingError if no worker is left to run it, FetchError
        if what a worker published is not what it says, and whatever else the step failed with."""
        return self._threads.submit(self._follow, fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the executor; with `cancel_futures`, whatever still runs as well."""
        if cancel_futures:
            self.cancel()
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)

    def cancel(self) -> None:
        """End what runs, now and from now on. Does not wait for it."""
        self._cancelled.set()

    def _follow(self, function: StepFunction, task: StepTask) -> StepResult:
        self._publish_inputs(task)
        try:
            result = self._run(function, task)
        except BuilderError as error:
            self._keep_log(task, error)
            raise
        self._fetch_outputs(task, result)
        return result

    def _run(self, function: StepFunction, task: StepTask) -> StepResult:
        lost: list[RemoteWorker] = []
        while len(lost) < _MOST_LOST:
            with self._turn(task, lost) as worker:
                try:
                    return self._attempt(function, task, worker=worker)
                except _LostWorkerError:
                    lost.append(worker)
        raise MissingError(
            f"{_name(task)}: {len(lost)} workers were lost while they ran it, one after the other: "
            f"{', '.join(worker.name for worker in lost)}",
            hint="look at the logs of these workers: the step may need more memory than they have",
        )

    def _attempt(self, function: StepFunction, task: StepTask, *, worker: RemoteWorker) -> StepResult:
        executor = self._leg.client.get_executor(
            workers=[worker.address], allow_other_workers=False, pure=False, retries=0
        )
        future: Future[StepResult] = executor.submit(function, task)
        try:
            while not wait([future], timeout=_POLL_SECONDS).done:
                self._require_wanted(task)
                if worker not in self._leg.view.workers(self._leg.leg):
                    raise _LostWorkerError
            return self._result(future, task, worker=worker)
        finally:
            future.cancel()

    def _result(self, future: Future[StepResult], task: StepTask, *, worker: RemoteWorker) -> StepResult:
        try:
            result = future.result()
        except BuilderError:
            raise
        except (CancelledError, OSError) as error:  # dask's word for a lost scheduler or a worker that does not answer
            self._require_wanted(task)
            self._leg.view.require_scheduler()
            raise _LostWorkerError from error
        except Exception as error:
            if type(error).__name__ == "KilledWorker":
                raise _LostWorkerError from error
            raise BuildFailedError(f"{_name(task)}: worker {worker.name}: {type(error).__name__}: {error}") from error
        by = result.worker if isinstance(result, StepResult) else f"something that answers {type(result).__name__}"
        if by != worker.name:
            raise NotProvenError(f"{_name(task)}: was run by {by}, wanted {worker.name}")
        return result

    @contextmanager
    def _turn(self, task: StepTask, lost: list[RemoteWorker]) -> Iterator[RemoteWorker]:
        """The worker of the leg with the fewest of our steps, counted during the block."""
        workers = self._wait_for_workers(task, lost)
        with self._mutex:
            worker = min(workers, key=lambda worker: self._steps[worker.address])
            self._steps[worker.address] += 1
        try:
            yield worker
        finally:
            with self._mutex:
                self._steps[worker.address] -= 1

    def _wait_for_workers(self, task: StepTask, lost: list[RemoteWorker]) -> list[RemoteWorker]:
        deadline = time.monotonic() + self._leg.patience
        while not (workers := [worker for worker in self._leg.view.workers(self._leg.leg) if worker not in lost]):
            self._require_wanted(task)
            if time.monotonic() >= deadline:
                raise self._nobody_left(task, lost)
            self._cancelled.wait(_POLL_SECONDS)
        return workers

    def _nobody_left(self, task: StepTask, lost: list[RemoteWorker]) -> MissingError:
        how = f"worker {lost[-1].name} was lost while it ran, and" if lost else "the workers of the leg were lost, and"
        return MissingError(
            f"{_name(task)}: {how} no other came within {self._leg.patience:g} s that does not serve another leg; "
            f"{self._leg.view.describe()}",
            hint="start another `dask worker` with a store of its own and build again, or wait longer: --cluster-wait",
        )

    def _require_wanted(self, task: StepTask) -> None:
        if self._cancelled.is_set():
            raise BuildFailedError(f"{_name(task)}: cancelled")

    def _publish_inputs(self, task: StepTask) -> None:
        def publish(sha256: str) -> None:
            self._require_wanted(task)
            self._leg.store.publish(sha256)

        transfer_all(publish, sorted({deb.sha256 for deb in task.root.debs} | {item.sha256 for item in task.inputs}))

    def _fetch_outputs(self, task: StepTask, result: StepResult) -> None:
        for name, content in result.outputs.items():
            if content.size > MOST_OUTPUT:
                raise FetchError(f"{_name(task)}: output {name} has {content.size} bytes, more than {MOST_OUTPUT}")
            self._leg.store.fetch(content.sha256, content.size)
        self._fetch_log(result.log)

    def _fetch_log(self, sha256: str) -> Path:
        """A log, no larger than logs may be; FetchError if it is not to be had."""
        return self._leg.store.fetch(sha256, min(self._leg.store.size(sha256) or 0, MOST_LOG))

    def _keep_log(self, task: StepTask, error: BuilderError) -> None:
        """Put the log of a failed step where it is after a local build, if there is one."""
        sha256 = getattr(error, LOG_ATTRIBUTE, None)
        if isinstance(sha256, str):
            with suppress(BuilderError, OSError):  # what went wrong first is what is told
                self._leg.logs.mkdir(parents=True, exist_ok=True)
                copyfile(self._fetch_log(sha256), log_path(self._leg.logs, task.step))


class _LostWorkerError(Exception):
    """The worker that ran a step is not there any more."""


def _name(task: StepTask) -> str:
    return f"leg {task.variation.name}, step {task.step}"
