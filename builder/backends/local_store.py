"""The store on this machine's disk: `objects/ab/abcd...` are complete and read-only, `partial/` is on its way there.

A file becomes an object by one rename, after its bytes were hashed and put on the disk, so a kill at any moment leaves
either no object or a whole one. A file on its way is locked (flock) for as long as somebody works on it; what a killed
process left in `partial/` is resumed, what it left in `tmp/` is removed.
"""

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from builder.backends.atomic_file import storage_errors, sync_directory
from builder.errors import DocumentError, FetchError
from builder.model.digest import checked_sha256

_CHUNK = 1 << 17  # stays in the cache between reading and hashing
_READ_ONLY = 0o444


class LocalStore:
    """An ArtifactStore below one directory, shared by any number of threads and processes.

    An object is hashed before this process gives it out for the first time, unless it was this process that stored it,
    and again when its inode, size or modification time changed: one that is not what its name says counts as absent.
    Not covered: a file that is changed after it was given out.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, tuple[int, int, int]] = {}
        with storage_errors(root):
            for name in ("objects", "partial", "tmp"):
                (root / name).mkdir(parents=True, exist_ok=True)
            self._sweep()

    def path(self, sha256: str) -> Path | None:
        """A read-only file with this digest, or None."""
        path = self._object(sha256)
        try:
            descriptor = _open_regular(path)
        except OSError:
            return None
        try:
            return path if self._is_whole(descriptor, sha256) else None
        finally:
            os.close(descriptor)

    def add_file(self, source: Path, *, move: bool = False) -> tuple[str, int]:
        """Store the bytes of a regular file, hashing them once; gives SHA-256 and size.

        With `move` the source is gone afterwards, and nothing may still have it open for writing. DocumentError if it
        cannot be read (a symbolic link cannot), MissingError if the store cannot be written.
        """
        try:
            descriptor = _open_regular(source)
        except OSError as error:
            raise DocumentError(f"{source}: cannot be read: {error.strerror}") from error
        try:
            return self._move(descriptor, source) if move else self._copy(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def partial(self, sha256: str) -> Iterator[Path]:
        """A file to download into, kept for resuming after an interruption, locked against a second writer.

        It has to be written in place. On a clean exit it is hashed and becomes the object if the digest is `sha256`;
        otherwise it is deleted and FetchError raised.
        """
        path = self._root / "partial" / checked_sha256(sha256, what="partial object")
        with _held(path) as descriptor:
            try:
                yield path
                with storage_errors(path):
                    self._finish(descriptor, path, sha256)
            finally:
                if os.fstat(descriptor).st_size == 0 and _is_at(descriptor, path):
                    path.unlink()  # nothing worth resuming

    def size(self, sha256: str) -> int:
        """Bytes of an object, unchecked; 0 if it is not there."""
        try:
            return self._object(sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def prune(self, kept: Set[str]) -> None:
        """Remove every object that is not in `kept`. Nobody else may use the store meanwhile."""
        with storage_errors(self._root):
            for path in (self._root / "objects").glob("*/*"):
                if path.name not in kept:
                    path.unlink()
                    self._known.pop(path.name, None)

    def _object(self, sha256: str) -> Path:
        checked_sha256(sha256, what="object")
        return self._root / "objects" / sha256[:2] / sha256

    def _is_whole(self, descriptor: int, sha256: str) -> bool:
        identity = _identity(descriptor)
        if self._known.get(sha256) == identity:
            return True
        if _digest(descriptor) != sha256:
            return False
        self._known[sha256] = identity
        return True

    def _finish(self, descriptor: int, path: Path, sha256: str) -> None:
        if self.path(sha256) is not None:
            path.unlink()
            return
        found = _digest(descriptor)
        if found != sha256:
            path.unlink()
            raise FetchError(f"SHA-256 is {found}, pinned is {sha256}")
        self._adopt(descriptor, path, sha256)

    def _copy(self, source: int) -> tuple[str, int]:
        temporary = self._root / "tmp" / secrets.token_hex(16)
        with _held(temporary) as descriptor, storage_errors(temporary):
            try:
                sha256, size = _copy_and_hash(source, descriptor)
                if self.path(sha256) is None:
                    self._adopt(descriptor, temporary, sha256)
            finally:
                temporary.unlink(missing_ok=True)
        return sha256, size

    def _move(self, descriptor: int, source: Path) -> tuple[str, int]:
        with storage_errors(source):
            if os.fstat(descriptor).st_dev == self._root.stat().st_dev:
                sha256, size = self._rename(descriptor, source)
            else:  # another file system: its bytes have to be copied, and are hashed meanwhile
                sha256, size = self._copy(descriptor)
            source.unlink(missing_ok=True)
        return sha256, size

    def _rename(self, descriptor: int, source: Path) -> tuple[str, int]:
        sha256, size = _digest(descriptor), os.fstat(descriptor).st_size
        try:
            if self.path(sha256) is None:
                self._adopt(descriptor, source, sha256)
        except OSError as error:
            if error.errno != errno.EXDEV:  # a bind mount: one file system, and yet nothing can be renamed across
                raise
            return self._copy(descriptor)
        return sha256, size

    def _adopt(self, descriptor: int, path: Path, sha256: str) -> None:
        """Make the file at `path`, hashed and open as `descriptor`, the object `sha256`."""
        target = self._object(sha256)
        os.fchmod(descriptor, _READ_ONLY)
        os.fsync(descriptor)
        target.parent.mkdir(exist_ok=True)
        path.replace(target)
        self._known[sha256] = _identity(descriptor)
        sync_directory(target.parent)
        sync_directory(target.parent.parent)

    def _sweep(self) -> None:
        """Remove what killed processes left in `tmp`: what nobody holds any more."""
        for path in (self._root / "tmp").iterdir():
            with suppress(OSError):
                descriptor = _open_regular(path)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
                finally:
                    os.close(descriptor)


@contextmanager
def _held(path: Path) -> Iterator[int]:
    """The file at `path`, created if absent, locked: no other thread or process that comes this way has it."""
    with storage_errors(path):
        descriptor = _locked(path)
        while not _is_at(descriptor, path):  # its former holder renamed or removed it while we waited
            os.close(descriptor)
            descriptor = _locked(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _open_regular(path: Path) -> int:
    """A descriptor for reading; OSError for anything but a regular file (O_NONBLOCK: a FIFO would block here)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def _identity(descriptor: int) -> tuple[int, int, int]:
    status = os.fstat(descriptor)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _digest(descriptor: int) -> str:
    digest = hashlib.sha256()
    position = 0
    while chunk := os.pread(descriptor, _CHUNK, position):
        digest.update(chunk)
        position += len(chunk)
    return digest.hexdigest()


def _copy_and_hash(source: int, target: int) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0
    while chunk := os.pread(source, _CHUNK, size):
        digest.update(chunk)
        size += len(chunk)
        _write_all(target, chunk)
    return digest.hexdigest(), size


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
