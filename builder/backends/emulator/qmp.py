"""The part of the QEMU Machine Protocol that starting, watching and stopping a machine takes."""

import json
import socket
from collections import deque
from typing import Any

from builder.errors import NotProvenError

_MAX_MESSAGE = 1 << 20
_CHUNK = 1 << 16


class QmpClosedError(NotProvenError):
    """QEMU has closed its monitor, as it does when it ends."""


class Qmp:
    """A client on a connected socket. NotProvenError for what the protocol does not have, and after `timeout` s."""

    def __init__(self, connection: socket.socket, *, timeout: float) -> None:
        self._socket = connection
        self._socket.settimeout(timeout)
        self._received = bytearray()
        self._events: deque[dict[str, Any]] = deque()
        if "QMP" not in self._message():
            raise NotProvenError("QEMU does not greet with its version of QMP")
        self.execute("qmp_capabilities")

    def fileno(self) -> int:
        """The socket, for waiting until there is something to read."""
        return self._socket.fileno()

    def execute(self, command: str) -> Any:
        """Run a command without arguments; gives its result. Events on the way are kept for `events`."""
        self._send(json.dumps({"execute": command}).encode("ascii") + b"\n")
        while True:
            message = self._message()
            if "return" in message:
                return message["return"]
            if "event" not in message:
                raise NotProvenError(f"QMP: QEMU answers {str(message)[:200]} to {command!r}")
            self._events.append(message)

    def events(self) -> list[dict[str, Any]]:
        """The events so far; waits for something to come if there are none, so call it when `fileno` is readable."""
        if not (found := self.pending()):
            self._receive()
            found = self.pending()
        return found

    def pending(self) -> list[dict[str, Any]]:
        """The events that came along with something else: `fileno` is not readable for them. Does not wait."""
        while (message := self._next()) is not None:
            if "event" not in message:
                raise NotProvenError(f"QMP: QEMU sends {str(message)[:200]}, which nobody asked for")
            self._events.append(message)
        found = list(self._events)
        self._events.clear()
        return found

    def _message(self) -> dict[str, Any]:
        while (message := self._next()) is None:
            self._receive()
        return message

    def _next(self) -> dict[str, Any] | None:
        line, newline, rest = self._received.partition(b"\n")
        if not newline:
            return None
        self._received = rest
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise NotProvenError(f"QMP: QEMU sends {bytes(line[:60])!r}, wanted a JSON object")
        return message

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise QmpClosedError(f"QMP: {error.strerror or error}") from error

    def _receive(self) -> None:
        if len(self._received) > _MAX_MESSAGE:
            raise NotProvenError(f"QMP: QEMU sends a message of more than {_MAX_MESSAGE} bytes")
        try:
            data = self._socket.recv(_CHUNK)
        except TimeoutError:
            raise NotProvenError(f"QMP: QEMU gave no answer within {self._socket.gettimeout():g} s") from None
        except OSError as error:
            raise QmpClosedError(f"QMP: {error.strerror or error}") from error
        if not data:
            raise QmpClosedError("QMP: QEMU closed its monitor")
        self._received += data
