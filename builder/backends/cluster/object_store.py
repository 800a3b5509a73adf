"""The artefact store that several machines share: a folder, or any place that fsspec has a URL for.

Its objects lie at `objects/ab/abcd...`, as in a LocalStore. It is never trusted: what is read goes into this machine's
own store, which hashes it, and a wrong byte is an error that names the object. An object is there whole or not at all:
it is written under another name below `uploads/` and renamed; a file system that cannot rename is taken for an object
store, where a put appears whole. What a killed upload left below `uploads/` is never read and may be removed.
"""

import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from builder.backends.atomic_file import storage_errors
from builder.errors import BuilderError, FetchError, MissingError
from builder.model.digest import checked_sha256
from builder.ports import ArtifactStore

Item = TypeVar("Item")

_CHUNK = 1 << 20
_TRANSFERS = 4
_EXTRA_HINT = "pip install 'tdx-builder[cluster]'"
_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")


def absolute_location(location: str) -> str:
    """`location` as every machine can read it: a URL as it is, a folder by its absolute path."""
    return location if "://" in location or "::" in location else str(Path(location).absolute())


class FileSystem(Protocol):
    """What is asked of a file system of fsspec; paths are its own, with slashes."""

    def info(self, path: str) -> Mapping[str, Any]:
        """Facts about a file, `size` in bytes among them; FileNotFoundError if there is none."""

    def open(self, path: str, mode: str) -> BinaryIO:
        """An open file."""

    def makedirs(self, path: str, *, exist_ok: bool) -> None:
        """Make a directory and those above it, where there are directories."""

    def put_file(self, lpath: str, rpath: str) -> None:
        """Upload a file of this machine."""

    def mv(self, path1: str, path2: str) -> None:
        """Move a file."""

    def rm_file(self, path: str) -> None:
        """Remove a file."""


class ObjectStore:
    """An ArtifactStore whose objects are shared: `local` is this machine's part of it, and holds all that was used.

    Safe to use from several threads. Not covered: an object of the right size and wrong bytes is not replaced by
    `publish`; whoever reads it is told.
    """

    def __init__(self, location: str, local: ArtifactStore, *, file_system: FileSystem | None = None) -> None:
        """`location` is a folder or an fsspec URL, or a path of `file_system` if one is given.

        MissingError without fsspec or what the URL's scheme needs.
        """
        self._file_system, self._base = (file_system, location) if file_system else _open_location(location)
        self._shown = _CREDENTIALS.sub("", location)
        self._local = local
        self._published: set[str] = set()
        self._mutex = threading.Lock()

    def path(self, sha256: str) -> Path | None:
        """A read-only file with this digest, copied here first if need be; None if it is nowhere.

        FetchError if the shared object has other bytes or cannot be read.
        """
        path = self._local.path(sha256)
        if path is not None:
            return path
        size = self.size(sha256)
        if size is None:
            return None
        self._fetch(sha256, size)
        return self._local.path(sha256)

    def fetch(self, sha256: str, size: int) -> Path:
        """The same for an object that has to be there with `size` bytes; FetchError if it is not."""
        path = self._local.path(sha256)
        if path is not None:
            return path
        found = self.size(sha256)
        if found != size:
            raise self._error(sha256, "is not there" if found is None else f"has {found} bytes, wanted {size}")
        self._fetch(sha256, size)
        path = self._local.path(sha256)
        if path is None:
            raise self._error(sha256, "was copied here and is gone again")
        return path

    def add_file(self, source: Path, *, move: bool = False) -> tuple[str, int]:
        """Store a file's bytes here, and publish them; gives SHA-256 and size."""
        sha256, size = self._local.add_file(source, move=move)
        self.publish(sha256)
        return sha256, size

    def partial(self, sha256: str) -> AbstractContextManager[Path]:
        """A file to download into, as in the local store; `publish` shares what became of it."""
        return self._local.partial(sha256)

    def publish(self, sha256: str) -> None:
        """Make sure that the shared store has this object of the local one; MissingError if that has none."""
        with self._mutex:
            if sha256 in self._published:
                return
        source = self._local.path(sha256)
        if source is None:
            raise MissingError(f"object sha256:{sha256} is not in the store", hint="run `tdx-builder fetch`")
        if self.size(sha256) != source.stat().st_size:
            self._upload(source, sha256)
        with self._mutex:
            self._published.add(sha256)

    def size(self, sha256: str) -> int | None:
        """Bytes of the shared object by what its file system says, None if it is not there."""
        with self._remote_errors(sha256):
            return _size(self._file_system, self._place(sha256))

    def _fetch(self, sha256: str, size: int) -> None:
        with self._remote_errors(sha256), self._local.partial(sha256) as partial:
            if self._local.path(sha256) is None:  # another thread may have been faster
                with self._file_system.open(self._place(sha256), "rb") as source:
                    _copy(source, partial, size)

    def _upload(self, source: Path, sha256: str) -> None:
        place = self._place(sha256)
        with self._remote_errors(sha256):
            self._file_system.makedirs(place.rpartition("/")[0], exist_ok=True)
            if _renames(self._file_system):
                self._put_and_rename(source, place)
            else:
                self._file_system.put_file(str(source), place)

    def _put_and_rename(self, source: Path, place: str) -> None:
        uploads = f"{self._base}/uploads"
        self._file_system.makedirs(uploads, exist_ok=True)
        temporary = f"{uploads}/{source.name}.{secrets.token_hex(8)}"
        try:
            self._file_system.put_file(str(source), temporary)
            self._file_system.mv(temporary, place)
        except BaseException:
            with suppress(Exception):
                self._file_system.rm_file(temporary)
            if _size(self._file_system, place) != source.stat().st_size:  # else another was faster, and in the way
                raise

    def _place(self, sha256: str) -> str:
        checked_sha256(sha256, what="object")
        return f"{self._base}/objects/{sha256[:2]}/{sha256}"

    @contextmanager
    def _remote_errors(self, sha256: str) -> Iterator[None]:
        """FetchError that names store and object for whatever goes wrong in the block with the shared store."""
        try:
            yield
        except FetchError as error:
            raise self._error(sha256, error.message) from error
        except BuilderError:
            raise
        except Exception as error:  # every file system of fsspec has exceptions of its own
            raise self._error(sha256, f"{type(error).__name__}: {error}") from error

    def _error(self, sha256: str, what: str) -> FetchError:
        return FetchError(
            f"shared store {self._shown}: object sha256:{sha256}: {what}",
            hint="every machine has to see the same store at this address; a damaged object may be removed there",
        )


def transfer_all(transfer: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Call `transfer` for each item, a few at the same time; the first failure is raised, and what waits is dropped."""
    with ThreadPoolExecutor(_TRANSFERS, thread_name_prefix="transfer") as pool:
        futures = [pool.submit(transfer, item) for item in items]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _open_location(location: str) -> tuple[FileSystem, str]:
    shown = _CREDENTIALS.sub("", location)
    try:
        core = import_module("fsspec.core")
    except ImportError as error:
        raise MissingError("fsspec is not there, and machines share artefacts by it", hint=_EXTRA_HINT) from error
    try:
        file_system, base = core.url_to_fs(absolute_location(location))
    except Exception as error:  # some connect at once, and fail in ways of their own
        raise MissingError(
            f"shared store {shown}: {type(error).__name__}: {error}",
            hint="check the URL, and install what its file system needs here and on every worker",
        ) from error
    return file_system, str(base).rstrip("/")


def _renames(file_system: FileSystem) -> bool:
    """Whether it has a rename of its own. The one it would inherit copies, and could be seen half done."""
    inherited = import_module("fsspec").AbstractFileSystem.mv
    return type(file_system).mv is not inherited


def _size(file_system: FileSystem, place: str) -> int | None:
    try:
        size = file_system.info(place)["size"]
    except FileNotFoundError:
        return None
    return size if isinstance(size, int) else -1  # a file system that does not know: what is there is no help


def _copy(source: BinaryIO, partial: Path, size: int) -> None:
    """Copy `size` bytes, not one more; whether they are the right ones is the local store's to find out."""
    with storage_errors(partial):
        target = partial.open("wb")
    with target:
        left = size + 1
        while chunk := source.read(min(_CHUNK, left)):
            left -= len(chunk)
            if left == 0:
                raise FetchError(f"has more than the {size} bytes that it should have")
            with storage_errors(partial):
                target.write(chunk)
