"""Reads what a program writes, so that it never waits for us, and keeps its end for the error message."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import IO

from builder.ports import LogSink

_TAIL = 4000
_CHUNK = 1 << 16


def read_pipe(pipe: IO[bytes]) -> Iterator[bytes]:
    """What comes out of a pipe, as it comes, until its end or until it is closed here: whoever still holds the other
    end then left the program's group, and is waited for no longer."""
    with suppress(ValueError):
        while chunk := os.read(pipe.fileno(), _CHUNK):
            yield chunk


class OutputPump(threading.Thread):
    """Reads output to its end: into memory, or into a log and only the tail into memory."""

    def __init__(self, output: Iterable[bytes], log: LogSink | None, *, keep: bool, end: Callable[[], None]) -> None:
        """`end` ends the program whose log refuses what it says: else it could go on saying it for ever."""
        super().__init__(daemon=True)
        self._output = output
        self._log = log
        self._end = end
        self._keep = keep
        self._data = bytearray()
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        """Read to the end; what the log raises is kept in `error`, and the output is read on."""
        for chunk in self._output:
            self._data += chunk
            if not self._keep and len(self._data) > 4 * _TAIL:
                del self._data[:-_TAIL]
            if self._log is not None and self.error is None:
                self._write_log(self._log, chunk)

    def _write_log(self, log: LogSink, chunk: bytes) -> None:
        try:
            log(chunk)
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread; the output must be read on
            self.error = error
            self._end()

    def data(self) -> bytes:
        """Everything that came, if it was to be kept."""
        return bytes(self._data) if self._keep else b""

    def tail(self) -> str:
        """The end of what came, for an error message."""
        return bytes(self._data[-_TAIL:]).decode("utf-8", "replace").strip()
