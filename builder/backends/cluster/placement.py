"""Which worker of a cluster serves which leg: never one for both, and never another one during a build.

What is divided among the legs are machines where there are enough of them, else stores. What persists on a worker lies
in its store: a worker that comes back with its store, after it was killed, belongs to the leg that it had; workers that
share a store belong to one leg, on whatever machines they are; and one that would bring a machine of one leg together
with a store of the other serves neither. Pure: knows nothing of how a worker is reached.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from builder.errors import NotProvenError


@dataclass(frozen=True)
class RemoteWorker:
    """A worker that may run steps: its address, the name under which records list it, the identity of its machine's
    running kernel, that of its store, the directory of that, and which meeting this is: one that was gone is another
    worker."""

    address: str
    name: str
    machine: str
    store: str
    directory: str
    meeting: int = 0


class Placement:
    """The legs of one build and the machines and stores of their workers."""

    def __init__(self, legs: Sequence[str], workers: Sequence[RemoteWorker]) -> None:
        """Divide the workers of the cluster. NotProvenError if that leaves a leg without one."""
        self._legs = tuple(legs)
        self._live: tuple[RemoteWorker, ...] = ()
        for self.by_machine in (True, False):
            self._leg_of: dict[tuple[str, str], str] = {}  # by what persists: a machine, a store
            self.update(workers)
            if all(self.workers(leg) for leg in self._legs):
                return
        raise _too_few(self._legs, workers)

    def update(self, live: Sequence[RemoteWorker]) -> None:
        """What is there now. A new place goes to the leg that has the fewest workers."""
        self._live = tuple(live)
        sizes = Counter(self._places(worker)[0] for worker in live)
        for worker in sorted(live, key=lambda worker: (-sizes[self._places(worker)[0]], self._places(worker))):
            places = self._places(worker)
            legs = {self._leg_of[place] for place in places if place in self._leg_of}
            if not legs:
                legs = {min(self._legs, key=lambda leg: len(self.workers(leg)))}
            if len(legs) == 1:
                self._leg_of |= dict.fromkeys(places, *legs)

    def workers(self, leg: str) -> tuple[RemoteWorker, ...]:
        """The workers of a leg that are there."""
        return tuple(worker for worker in self._live if self._leg(worker) == leg)

    def describe(self) -> str:
        """Who is there, for an error."""
        return ", ".join(f"{worker.name} for {self._name_of_leg(worker)}" for worker in self._live) or "no worker"

    def _places(self, worker: RemoteWorker) -> tuple[tuple[str, str], ...]:
        store = "store", worker.store
        return (("machine", worker.machine), store) if self.by_machine else (store,)

    def _leg(self, worker: RemoteWorker) -> str | None:
        legs = {self._leg_of.get(place) for place in self._places(worker)}
        return legs.pop() if len(legs) == 1 else None

    def _name_of_leg(self, worker: RemoteWorker) -> str:
        leg = self._leg(worker)
        return f"leg {leg}" if leg is not None else "no leg (its machine and its store are of different ones)"


def _too_few(legs: Sequence[str], workers: Sequence[RemoteWorker]) -> NotProvenError:
    there = ", ".join(f"{worker.name} with the store {worker.directory}" for worker in workers) or "no worker"
    return NotProvenError(
        f"{len(legs)} legs need as many workers with stores of their own; usable in the cluster: {there}",
        hint="start another `dask worker`, each with its own TDX_BUILDER_STORE",
    )
