"""A register file like that of the kernel: every write is 48 bytes that extend it, and nothing is ever rejected."""

import contextlib
import hashlib
import os
from pathlib import Path

_SIZE = 48
_MOST = 1 << 15  # less than a pipe holds, so that no writer waits


class SilentRegister:
    """A FIFO that is open for reading, so that whoever writes to it finds a reader and need not wait for one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._seen = b""

    def writes(self) -> list[bytes]:
        """What was written so far, in pieces of the register's size."""
        with contextlib.suppress(BlockingIOError):  # nothing new
            self._seen += os.read(self._descriptor, _MOST)
        assert len(self._seen) % _SIZE == 0, f"{len(self._seen)} bytes written, wanted a multiple of {_SIZE}"
        return [self._seen[start : start + _SIZE] for start in range(0, len(self._seen), _SIZE)]

    def value(self) -> str:
        """The register after these writes, from zero."""
        value = bytes(_SIZE)
        for written in self.writes():
            value = hashlib.sha384(value + written).digest()
        return value.hex()
