"""Files of a FAT file system inside a disk image, by mtools: nothing is mounted, and no more is read than is asked for.

The image is handed to mtools as a descriptor, so that no name of a file can be read as anything else.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from builder.backends import process
from builder.errors import DocumentError

MAX_FILE = 1 << 30  # more than any boot file has

_SECONDS = 120.0
_NOT_FOUND = b" not found"
_PATTERN = frozenset("*?[]\\")  # mtools takes them for patterns, and FAT forbids most of them
_LONGEST_LISTING = 1 << 20


@dataclass(frozen=True)
class MtoolsPartition:
    """An EspReader of `builder.ports`: the FAT file system at `offset` (bytes) of the image at `path`."""

    path: Path
    offset: int

    def names(self, directory: str) -> tuple[str, ...]:
        """Files and directories in `directory`, sorted; none if it is not there. DocumentError for no FAT file system,
        MissingError without mtools."""
        listing = self._output(["mdir", "-a", "-b"], directory, limit=_LONGEST_LISTING)
        if listing is None:
            return ()
        paths = listing.decode("utf-8", "backslashreplace").splitlines()
        return tuple(sorted(path.rstrip("/").rpartition("/")[2] for path in paths))

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, None if it is not there. DocumentError for more than MAX_FILE; errors as above."""
        return self._output(["mcopy"], path, "-", limit=MAX_FILE)

    def _output(self, command: list[str], path: str, *more: str, limit: int) -> bytes | None:
        if _PATTERN & set(path) or not path.startswith("/") or not path.isprintable():
            raise DocumentError(
                f"{self.path}: {path!r} on its partition: wanted a path from / on without *, ?, [, ], \\"
            )
        with self._opened() as descriptor:
            source = f"/proc/self/fd/{descriptor}@@{self.offset}"
            argv = [*command, "-i", source, f"::{path}", *more]
            errors: list[bytes] = []
            environment = {"LC_ALL": "C.UTF-8", "MTOOLSRC": os.devnull, "PATH": os.environ.get("PATH", os.defpath)}
            with process.start(
                argv, environment=environment, interactive=True, pass_fds=(descriptor,), log=errors.append
            ) as program:
                program.stdin.close()
                data = _read_all(program.stdout, limit)
                status = program.wait(_SECONDS) if len(data) <= limit else None
        return self._checked(path, data, status, b"".join(errors), limit=limit)

    def _checked(self, path: str, data: bytes, status: int | None, errors: bytes, *, limit: int) -> bytes | None:
        if status == 0 and not errors.strip():
            return data
        text = errors.decode("utf-8", "backslashreplace").strip()
        if status == 1 and errors.rstrip().endswith(_NOT_FOUND) and text.count("\n") == 0:
            return None
        if status is None:
            raise DocumentError(f"{self.path}: {path} on its partition: more than {limit} bytes, or without an end")
        raise DocumentError(
            f"{self.path}: {path} on its partition at {self.offset:#x} cannot be read: mtools says {text[:300]!r}",
            hint="the partition holds no FAT file system, or a damaged one",
        )

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise DocumentError(f"{self.path}: cannot be read: {error.strerror}") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _read_all(pipe: IO[bytes], limit: int) -> bytes:
    """What comes out of the pipe, and one byte more than `limit` at most."""
    chunks: list[bytes] = []
    left = limit + 1
    while left and (chunk := pipe.read(min(left, 1 << 20))):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)
