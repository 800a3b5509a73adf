"""Files that appear whole or not at all, and the error of a disk that does not take them."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from builder.errors import MissingError

_HINTS = {
    errno.ENOSPC: "free some space and run it again: what is complete is kept",
    errno.EDQUOT: "free some of your quota and run it again: what is complete is kept",
    errno.EACCES: "choose a directory that you may write to; for inputs --store or TDX_BUILDER_STORE names one",
    errno.EPERM: "choose a directory that you may write to",
    errno.EROFS: "choose a directory on a writable file system",
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into MissingError (exit 5: space or a permission is absent) that names the path.

    For blocks that only work on files: the exceptions of `requests` are OSErrors too.
    """
    try:
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else path
        message = f"{name}: cannot be written: {error.strerror or error}"
        raise MissingError(message, hint=_HINTS.get(error.errno or 0)) from error


@contextmanager
def atomic_file(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends cleanly, and leaves no trace otherwise.

    The bytes are on the disk before the name is. A kill in the middle leaves `.NAME.*.tmp` behind and `path` as it was.
    """
    with storage_errors(path):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            with storage_errors(path):
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
                temporary.replace(path)
                sync_directory(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Make `data` the contents of `path`, mode 0644; MissingError if the disk does not take it."""
    with atomic_file(path) as file, storage_errors(path):
        file.write(data)


def sync_directory(path: Path) -> None:
    """Put a directory's names on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
