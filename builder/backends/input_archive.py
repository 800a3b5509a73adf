"""The input archive's container: an uncompressed tar (POSIX ustar) that has exactly one form.

Every header is decided by the name and the size alone: regular file, mode 0644, owner 0, time 0. The reader makes the
header it wants next and compares bytes, so that a link, a path that leaves the directory, a duplicate, an unlisted or a
missing member, and data after the end are all the same error: not the archive that `export-inputs` writes.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from builder.backends.atomic_file import atomic_file, storage_errors
from builder.errors import DocumentError, FetchError, MissingError
from builder.ports import ArchiveMember

_BLOCK = 512
_CHUNK = 1 << 20
_END = bytes(2 * _BLOCK)
_LARGEST = 8**11 - 1  # eleven octal digits
_SIZE = slice(124, 135)
_OCTAL = re.compile(rb"[0-7]{11}")
_HINT = "this is not what `tdx-builder export-inputs` writes for this lock; export or copy it again"


def write_archive(path: Path, members: Sequence[ArchiveMember]) -> None:
    """Write the archive at `path`, whole or not at all; FetchError if a member is not of its size and digest."""
    with atomic_file(path) as archive:
        for member in members:
            with storage_errors(path):
                archive.write(_header(member.name, member.size))
                _copy_in(member, archive)
                archive.write(_padding(member.size))
        with storage_errors(path):
            archive.write(_END)


@contextmanager
def open_archive(path: Path) -> Iterator["InputArchive"]:
    """An archive to read from the beginning; MissingError if it cannot be opened."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise MissingError(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        yield InputArchive(file, what=str(path))


class InputArchive:
    """Reads members in the order in which they have to be there."""

    def __init__(self, file: BinaryIO, *, what: str) -> None:
        self._file = file
        self._what = what

    def document(self, name: str, *, limit: int) -> bytes:
        """The next member, called `name`, of at most `limit` bytes. Its digest is the caller's to check."""
        block = self._file.read(_BLOCK)
        size = int(block[_SIZE], 8) if _OCTAL.fullmatch(block[_SIZE]) else 0
        self._check_header(block, name, size)
        if size > limit:
            raise DocumentError(f"{self._what}: {name} has {size} bytes, more than {limit}")
        data = self._file.read(size)
        if len(data) != size:
            raise self._truncated(name)
        self._skip_padding(name, size)
        return data

    def object(self, member: ArchiveMember) -> None:
        """The next member, copied to `member.path` if one is named; FetchError if its digest is not `member.sha256`."""
        self._check_header(self._file.read(_BLOCK), member.name, member.size)
        found = self._copy_out(member)
        if found != member.sha256:
            raise FetchError(f"{self._what}: {member.name} has SHA-256 {found}, locked is {member.sha256}")
        self._skip_padding(member.name, member.size)

    def finish(self) -> None:
        """DocumentError if anything follows that is not the end."""
        rest = self._file.read(len(_END) + 1)
        if rest != _END:
            raise DocumentError(f"{self._what}: {_described(rest)} where the archive has to end", hint=_HINT)

    def _check_header(self, block: bytes, name: str, size: int) -> None:
        if block != _header(name, size):
            raise DocumentError(
                f"{self._what}: {_described(block)} where {name!r} of {size} bytes has to be", hint=_HINT
            )

    def _copy_out(self, member: ArchiveMember) -> str:
        digest = hashlib.sha256()
        with _sink(member.path) as target:
            for chunk in self._chunks(member):
                digest.update(chunk)
                with storage_errors(member.path or Path(self._what)):
                    target.write(chunk)
        return digest.hexdigest()

    def _chunks(self, member: ArchiveMember) -> Iterator[bytes]:
        left = member.size
        while left:
            chunk = self._file.read(min(left, _CHUNK))
            if not chunk:
                raise self._truncated(member.name)
            left -= len(chunk)
            yield chunk

    def _skip_padding(self, name: str, size: int) -> None:
        padding = _padding(size)
        found = self._file.read(len(padding))
        if len(found) < len(padding):
            raise self._truncated(name)
        if found != padding:
            raise DocumentError(f"{self._what}: bytes other than zero after {name}", hint=_HINT)

    def _truncated(self, name: str) -> DocumentError:
        return DocumentError(f"{self._what}: ends in the middle of {name}", hint=_HINT)


def _copy_in(member: ArchiveMember, archive: BinaryIO) -> None:
    if member.path is None:
        raise ValueError(f"member {member.name} has no file")
    digest = hashlib.sha256()
    size = 0
    with member.path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            archive.write(chunk)
    if (size, digest.hexdigest()) != (member.size, member.sha256):
        raise FetchError(
            f"{member.path}: {size} bytes with SHA-256 {digest.hexdigest()}, "
            f"locked are {member.size} with {member.sha256}"
        )


def _sink(path: Path | None) -> BinaryIO:
    with storage_errors(path or Path(os.devnull)):
        return (path or Path(os.devnull)).open("wb")


def _header(name: str, size: int) -> bytes:
    """A ustar header (POSIX.1-1988, 512 bytes): numbers are octal text, the checksum counts itself as blanks."""
    if len(name.encode()) > 100 or not 0 <= size <= _LARGEST:
        raise DocumentError(f"{name}: {size} bytes do not fit a ustar header")
    fields = (
        name.encode().ljust(100, b"\0"),
        b"0000644\0",  # mode
        b"0000000\0" * 2,  # owner and group
        b"%011o\0" % size,
        b"%011o\0" % 0,  # modification time
        b" " * 8,  # checksum
        b"0",  # regular file
        bytes(100),  # link target
        b"ustar\x0000",
        bytes(64),  # owner and group by name
        bytes(16),  # device
        bytes(155 + 12),  # prefix, padding
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _described(block: bytes) -> str:
    """A block that is not the one wanted, in a few words for an error."""
    if len(block) < _BLOCK:
        return f"{len(block)} bytes"
    name = block[:100].rstrip(b"\0").decode("ascii", "backslashreplace")
    kind = {b"0": "a file", b"1": "a hard link", b"2": "a symbolic link", b"5": "a directory"}
    return f"{kind.get(block[156:157], 'something')} with the name {name!r}" if any(block) else "the end"
