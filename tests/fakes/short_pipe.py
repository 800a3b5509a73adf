"""A pipe that takes a few bytes a write, as one does whose writer is interrupted by signals, and a program with it."""

import io
import os
from typing import Any


class ShortPipe(io.RawIOBase):
    """`taken` is all that was written."""

    def __init__(self, step: int = 3) -> None:
        super().__init__()
        self.taken = b""
        self._step = step

    def write(self, data: Any, /) -> int:
        """Take the first bytes; gives how many."""
        part = bytes(data)[: self._step]
        self.taken += part
        return len(part)


class ProgramWithShortPipe:
    """What a channel needs of a running program."""

    def __init__(self) -> None:
        self.stdin = ShortPipe()
        self.stdout = io.FileIO(os.devnull)

    def __enter__(self) -> "ProgramWithShortPipe":
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
