"""Files as the comparing core reads them: piece by piece, without a copy in memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.errors import DocumentError


class FileSource:
    """A ByteSource of `builder.compare.source` on an open regular file. `open_source` makes it and closes it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    @property
    def size(self) -> int:
        """Size in bytes when it was opened."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; DocumentError if the file cannot be read."""
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise DocumentError(f"{self.path}: cannot be read: {error.strerror}") from error


@contextmanager
def open_source(path: Path) -> Iterator[FileSource]:
    """The file at `path`, open during the block; DocumentError if it cannot be opened or is not a regular file."""
    if not path.is_file():
        raise DocumentError(f"{path}: not a regular file, wanted one to compare")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DocumentError(f"{path}: cannot be opened: {error.strerror}") from error
    try:
        yield FileSource(path, descriptor)
    finally:
        os.close(descriptor)
