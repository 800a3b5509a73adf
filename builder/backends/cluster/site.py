"""What a worker of a cluster keeps of one build while it goes on: stores, pinned roots, engines."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.backends.cluster.object_store import ObjectStore
from builder.backends.engines import open_engine
from builder.backends.local_site import UnpackedRoots
from builder.backends.local_store import LocalStore
from builder.backends.scratch import remove_tree
from builder.errors import BuildFailedError
from builder.model.task import RootTask
from builder.ports import Sandbox


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker has to know besides the task: the location of the shared store, the name of the build, and whether
    pinned roots are unpacked anew for it (`cold`) or kept in the worker's store."""

    artifacts: str
    build: str
    cold: bool


class BuildOnWorker:
    """One build on one worker. Safe to use from several threads.

    Its directory is removed when the build has ended and none of its steps runs here any more. A build whose client was
    killed while nothing of it ran here never ends: what it keeps goes with the worker.
    """

    def __init__(self, settings: WorkerSettings, store: Path, directory: Path) -> None:
        """`store` is the worker's own, `directory` the build's alone."""
        self.directory = directory
        self.store = ObjectStore(settings.artifacts, LocalStore(store))
        roots = (directory if settings.cold else store) / "roots"
        self._roots = UnpackedRoots(roots, self.store, _NoProgress())
        self._engines: dict[str, Sandbox] = {}
        self._mutex = threading.Lock()
        self._steps = 0
        self._ended = False

    def root(self, task: RootTask) -> Path:
        """A pinned root, unpacked."""
        return self._roots.path(task)

    def engine(self, name: str) -> Sandbox:
        """An engine: the same for all steps, so that it can give out the CPUs of this machine in turn."""
        with self._mutex:
            self._require_open()
            if name not in self._engines:
                self._engines[name] = open_engine(name)
            return self._engines[name]

    @contextmanager
    def holding(self) -> Iterator["BuildOnWorker"]:
        """A step of the build runs during the block. BuildFailedError if the build has ended."""
        with self._mutex:
            self._require_open()
            self._steps += 1
        try:
            yield self
        finally:
            with self._mutex:
                self._steps -= 1
            self._remove_if_over()

    def cancel(self) -> None:
        """End what runs, now and from now on."""
        with self._mutex:
            self._ended = True
            engines = list(self._engines.values())
        for engine in engines:
            engine.cancel()

    def end(self) -> None:
        """Nothing more is coming."""
        self.cancel()
        self._remove_if_over()

    def _require_open(self) -> None:
        if self._ended:
            raise BuildFailedError("the build was cancelled")

    def _remove_if_over(self) -> None:
        with self._mutex:
            if self._ended and not self._steps and self.directory.exists():
                remove_tree(self.directory)


class _NoProgress:
    """Nobody looks at a worker."""

    def start(self, task: str, total: int | None = None) -> None:
        """Say nothing."""

    def advance(self, task: str, amount: int) -> None:
        """Say nothing."""

    def finish(self, task: str, note: str = "") -> None:
        """Say nothing."""
