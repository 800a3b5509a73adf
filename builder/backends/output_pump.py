"""Reads what a program writes, so that it never waits for us, and keeps its end for the error message."""

import os
import threading
from typing import IO

from builder.ports import LogSink

_TAIL = 4000
_CHUNK = 1 << 16


class OutputPump(threading.Thread):
    """Reads a pipe to its end: into memory, or into a log and only the tail into memory."""

    def __init__(self, pipe: IO[bytes], log: LogSink | None, *, keep: bool) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._log = log
        self._keep = keep
        self._data = bytearray()
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        """Read to the end; what the log raises is kept in `error`, and the pipe is read on."""
        while chunk := os.read(self._pipe.fileno(), _CHUNK):
            self._data += chunk
            if not self._keep and len(self._data) > 4 * _TAIL:
                del self._data[:-_TAIL]
            if self._log is not None and self.error is None:
                self._write_log(self._log, chunk)

    def _write_log(self, log: LogSink, chunk: bytes) -> None:
        try:
            log(chunk)
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread; the pipe must be read on
            self.error = error

    def data(self) -> bytes:
        """Everything that came, if it was to be kept."""
        return bytes(self._data) if self._keep else b""

    def tail(self) -> str:
        """The end of what came, for an error message."""
        return bytes(self._data[-_TAIL:]).decode("utf-8", "replace").strip()
