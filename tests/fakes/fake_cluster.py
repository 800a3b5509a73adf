"""A cluster in this process: workers come and go as a test says, and steps are functions of the test."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from builder import __version__
from builder.backends.cluster.worker import own_programs
from builder.model.task import StepResult, StepTask


def description(name: str, **facts: str) -> dict[str, str]:
    """What a worker that fits says about itself, but for `facts`."""
    own = {"name": name, "machine": "machine", "store": f"store {name}", "directory": "/s", "version": __version__}
    return {**own, "programs": own_programs(), **facts}


def steps_that_never_end(worker: str, task: StepTask) -> StepResult | None:
    return None


def always(outcome: object) -> Callable[[str, StepTask], object]:
    """Every worker gives this, or fails with it."""

    def behave(worker: str, task: StepTask) -> object:
        return outcome

    return behave


@dataclass
class FakeCluster:
    """What a `distributed.Client` of it is asked. `behave(worker, task)` is what a step gives at the worker of that
    address, or None for one that goes on; `answers` is what each worker says about itself, or an exception; `begun` can
    be acquired once for each step that was handed over."""

    answers: dict[str, Any]
    behave: Callable[[str, StepTask], Any] = steps_that_never_end
    status: str = "running"
    submitted: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def scheduler_info(self, n_workers: int) -> Mapping[str, Any]:
        assert n_workers == -1, "not all workers would be listed"
        return {"workers": dict.fromkeys(self.answers)}

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Mapping[str, Any]:  # noqa: ARG002
        return {address: self.answers[address] for address in kwargs.get("workers", [])}

    def get_executor(self, **kwargs: Any) -> "FakeExecutor":
        assert kwargs["pure"] is False, "a step must never be taken for another one"
        assert kwargs["retries"] == 0
        assert kwargs["allow_other_workers"] is False
        (address,) = kwargs["workers"]
        return FakeExecutor(self, address)


class FakeExecutor(Executor):
    """What `Client.get_executor` gives."""

    def __init__(self, cluster: FakeCluster, address: str) -> None:
        self._cluster = cluster
        self._address = address

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ARG002
        future: Future[Any] = Future()
        self._cluster.submitted.append(self._address)
        future.add_done_callback(
            lambda done: self._cluster.cancelled.append(self._address) if done.cancelled() else None
        )
        outcome = self._cluster.behave(self._address, *args)
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        elif outcome is not None:
            future.set_result(outcome)
        self._cluster.begun.release()
        return future

    def _note_cancelled(self, future: Future[Any]) -> None:
        if future.cancelled():
            self._cluster.cancelled.append(self._address)
