"""What a machine needs to run steps: the pinned roots, unpacked once."""

import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from builder.backends.deb_root import unpack_root
from builder.errors import BuildFailedError, MissingError
from builder.model.digest import sha256_hex
from builder.model.task import ROOT_LAYOUT, Content, RootTask
from builder.ports import ArtifactStore, Progress


class UnpackedRoots:
    """Pinned roots below one directory, each unpacked when it is first asked for. Safe to use from several threads."""

    def __init__(self, directory: Path, store: ArtifactStore, progress: Progress) -> None:
        self._directory = directory
        self._store = store
        self._progress = progress
        self._cancelled = threading.Event()
        self._mutex = threading.Lock()
        self._root_mutexes: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def path(self, root: RootTask) -> Path:
        """Where a root is unpacked, named after its packages. MissingError if the store lacks one of them, or if this
        version unpacks roots in another layout.

        One that is there is taken as it is: nothing looks whether its files are still those of the packages.
        """
        if root.layout != ROOT_LAYOUT:
            raise MissingError(
                f"root {root.name}: this machine unpacks roots in layout {ROOT_LAYOUT}, wanted {root.layout}",
                hint="every machine of a build needs the same version of tdx-builder",
            )
        identity = root_identity(root)
        with self._mutex:
            root_mutex = self._root_mutexes[identity]
        with root_mutex:
            path = self._directory / identity / root.name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_dir():
                progress = _UntilCancelled(self._progress, self._cancelled)
                unpack_root([self._deb(root, deb) for deb in root.debs], path, progress)
            return path

    def cancel(self) -> None:
        """End what is being unpacked, now and from now on, with BuildFailedError; for another thread."""
        self._cancelled.set()

    def _deb(self, root: RootTask, deb: Content) -> Path:
        path = self._store.path(deb.sha256)
        if path is None:
            raise MissingError(
                f"root {root.name}: package sha256:{deb.sha256} is not in the store",
                hint="run `tdx-builder fetch` on the recipe, or import an input archive with `fetch --from`",
            )
        return path


@dataclass(frozen=True)
class _UntilCancelled:
    """A Progress that ends the work whose progress it is told."""

    progress: Progress
    cancelled: threading.Event

    def start(self, task: str, total: int | None = None) -> None:
        self.progress.start(task, total)

    def advance(self, task: str, amount: int) -> None:
        if self.cancelled.is_set():
            raise BuildFailedError(f"{task}: cancelled")
        self.progress.advance(task, amount)

    def finish(self, task: str, note: str = "") -> None:
        self.progress.finish(task, note)


def root_identity(root: RootTask) -> str:
    """The name under which an unpacked root is kept: another one for other packages, or another way to unpack."""
    return sha256_hex("\n".join([str(root.layout), *(deb.sha256 for deb in root.debs)]).encode())
