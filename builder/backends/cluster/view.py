"""The workers of a cluster as one build sees them: which may be used, for which leg, and which are gone."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Protocol

from builder import __version__
from builder.backends.cluster.placement import Placement, RemoteWorker
from builder.backends.cluster.worker import describe_worker, own_programs
from builder.errors import MissingError, NotProvenError

REFRESH_SECONDS = 1.0


class Client(Protocol):
    """What is asked of a `distributed.Client`."""

    status: str

    def scheduler_info(self, n_workers: int) -> Mapping[str, Any]:
        """What the scheduler knows; `workers` is by address."""

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Mapping[str, Any]:
        """The result of a function on each worker, by address."""

    def get_executor(self, **kwargs: Any) -> Any:
        """A concurrent.futures.Executor."""


class ClusterView:
    """What a build knows of its cluster. Safe to use from several threads.

    Not covered: a scheduler or worker that keeps its connection and says nothing more (stopped, or cut off); the
    scheduler gives a worker up after its own `worker-ttl`.
    """

    def __init__(self, client: Client, legs: Sequence[str], *, address: str, refresh: float = REFRESH_SECONDS) -> None:
        """What is known is asked for again after `refresh` seconds.

        NotProvenError if the cluster has too few workers for the legs that fit.
        """
        self._client = client
        self._address = address
        self._refresh = refresh
        self._mutex = threading.Lock()
        self._known: dict[str, RemoteWorker] = {}
        self._refused: dict[str, str] = {}
        self._meetings = count()
        self._asked = time.monotonic()
        try:
            self._placement = Placement(legs, self._ask())
        except NotProvenError as error:
            raise NotProvenError(f"cluster {address}: {error.message}{self._refusals()}", hint=error.hint) from error

    def workers(self, leg: str) -> Sequence[RemoteWorker]:
        """The workers of a leg that are there now; MissingError if the scheduler is gone."""
        self.require_scheduler()
        with self._mutex:
            if time.monotonic() - self._asked >= self._refresh:
                self._placement.update(self._ask())
                self._asked = time.monotonic()
            return self._placement.workers(leg)

    def require_scheduler(self) -> None:
        """MissingError if the connection to the scheduler is lost: all that ran is lost with it."""
        if self._client.status != "running":
            raise MissingError(
                f"cluster {self._address}: the scheduler is gone, and with it what ran there",
                hint="start a scheduler and workers, and build again",
            )

    def describe(self) -> str:
        """Who is there, for an error."""
        with self._mutex:
            return f"there is: {self._placement.describe()}{self._refusals()}"

    def _ask(self) -> list[RemoteWorker]:
        """The workers that are there and fit."""
        try:
            there = set(self._client.scheduler_info(n_workers=-1)["workers"])
            self._known = {address: worker for address, worker in self._known.items() if address in there}
            self._refused = {address: text for address, text in self._refused.items() if address in there}
            self._meet(there - self._known.keys() - self._refused.keys())
        except (OSError, TimeoutError) as error:
            self.require_scheduler()
            raise MissingError(f"cluster {self._address}: {error}", hint="build again") from error
        return list(self._known.values())

    def _meet(self, addresses: Iterable[str]) -> None:
        """Ask new workers who they are, and refuse those that are not like us."""
        new = sorted(addresses)
        if not new:
            return
        answers = self._client.run(describe_worker, workers=new, on_error="return")
        for address in new:
            try:
                self._known[address] = _remote_worker(address, answers.get(address), meeting=next(self._meetings))
            except NotProvenError as error:
                self._refused[address] = f"{address}: {error.message}"

    def _refusals(self) -> str:
        return "".join(f"; refused: {text}" for text in self._refused.values())


def end_on_workers(client: Client, function: Callable[..., None], *arguments: Any) -> None:
    """Run a function on whatever workers are left; what cannot be reached any more has ended by itself."""
    with suppress(OSError, TimeoutError, ValueError):
        if client.status == "running":
            client.run(function, *arguments, on_error="ignore")


def _remote_worker(address: str, answer: object, *, meeting: int) -> RemoteWorker:
    """The worker that gave this answer; NotProvenError if it is not like us."""
    if not isinstance(answer, dict):
        raise NotProvenError(f"no tdx-builder of this version answers there ({type(answer).__name__}: {answer})")
    for what, wanted in (("version", __version__), ("programs", own_programs())):
        if answer.get(what) != wanted:
            raise NotProvenError(f"its tdx-builder has the {what} {answer.get(what)}, wanted {wanted}")
    name, machine, store, directory = (_stated(answer, fact) for fact in ("name", "machine", "store", "directory"))
    return RemoteWorker(address, name, machine, store, directory, meeting)


def _stated(answer: Mapping[str, object], fact: str) -> str:
    value = answer.get(fact)
    if not isinstance(value, str) or not value:
        raise NotProvenError(f"it states its {fact} as {value!r}, wanted a text")
    return value
