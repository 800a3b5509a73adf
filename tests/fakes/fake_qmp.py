"""QEMU's monitor and serial port at the other ends of two sockets: a thread answers each command and acts on it."""

import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

SHUTDOWN = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}}
RESET = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-reset"}}

Action = Callable[["FakeMachine"], None]


def encoded(*messages: Any) -> bytes:
    """Messages as QEMU writes them."""
    return b"".join(json.dumps(message).encode() + b"\r\n" for message in messages)


class FakeMachine:
    """A machine that `actions` happen to when a command comes, after its answer; `together` is sent in one packet with
    the answer. `monitor` and `serial` are our ends; `commands` remembers what was asked. Use it as a context."""

    def __init__(
        self, actions: Mapping[str, Action] | None = None, *, together: Mapping[str, list[Any]] | None = None
    ) -> None:
        self.commands: list[str] = []
        self.monitor, self.monitor_end = socket.socketpair()
        self.serial, self.serial_end = socket.socketpair()
        self._actions = actions or {}
        self._together = together or {}
        self._threads = [threading.Thread(target=self._answer, daemon=True)]

    def __enter__(self) -> "FakeMachine":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self.monitor, self.serial):
            end.close()
        for thread in self._threads:
            thread.join()
        for end in (self.monitor_end, self.serial_end):
            end.close()

    def say(self, *pieces: bytes) -> None:
        """On the serial port, one packet a piece."""
        for piece in pieces:
            self.serial_end.sendall(piece)

    def keep_saying(self, piece: bytes) -> None:
        """On the serial port, over and over, while everything else goes on."""
        self._threads.append(threading.Thread(target=self._chatter, args=(piece,), daemon=True))
        self._threads[-1].start()

    def tell(self, *messages: Any) -> None:
        """On the monitor."""
        self.monitor_end.sendall(encoded(*messages))

    def _chatter(self, piece: bytes) -> None:
        with suppress(OSError):
            while True:
                self.serial_end.sendall(piece)

    def _answer(self) -> None:
        with suppress(OSError), self.monitor_end.makefile("rb") as lines:
            self.tell({"QMP": {"version": {}, "capabilities": []}})
            for line in lines:
                command = json.loads(line)["execute"]
                self.commands.append(command)
                self.tell({"return": {}}, *self._together.get(command, []))
                self._actions.get(command, lambda _: None)(self)
