"""Letting a guest run until there is a reason to stop it: what it says, how it ends, that it stays up, or the time.

Text of the guest and memory of the guest are reasons to stop and nothing more: what was measured is decided by the PCRs
of the TPM afterwards.
"""

import select
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from builder.backends.emulator.qmp import Qmp
from builder.measure.evidence.guest_log import Memory, shows_boot_services_left
from builder.model.rehearsal import BootEnd
from builder.ports import DirectBoot

_MAX_SERIAL = 16 << 20  # what is kept of a guest that does not stop talking
_CHUNK = 1 << 16
_MOST_CHUNKS = 256
_POLL_SECONDS = 0.5
_LOOK_SECONDS = 2.0  # between looks at whether a guest has left boot services


class SerialPort:
    """What the serial port says: kept in a file, and its end in memory."""

    def __init__(self, connection: socket.socket, log: BinaryIO) -> None:
        """`connection` is to QEMU's character device; `log` gets the first 16 MiB."""
        connection.setblocking(False)
        self._socket = connection
        self._log = log
        self._kept = 0
        self._end = b""

    def fileno(self) -> int:
        """The socket, for waiting until there is something to read."""
        return self._socket.fileno()

    def read(self, wanted: bytes | None) -> bool:
        """Take what is there; gives whether `wanted` has come, in however many pieces. Always the same `wanted`."""
        seen = False
        for _ in range(_MOST_CHUNKS):  # else a guest that never stops talking would never be stopped
            if not (data := self._receive()):
                break
            self._keep(data)
            text = self._end + data
            seen = seen or (wanted is not None and wanted in text)
            self._end = text[-len(wanted) :] if wanted else b""
        return seen

    def _keep(self, data: bytes) -> None:
        kept = data[: _MAX_SERIAL - self._kept]
        if kept:
            self._log.write(kept)
            self._log.flush()
            self._kept += len(kept)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_CHUNK)
        except OSError:  # nothing is there yet, or QEMU has ended, which the monitor tells
            return b""


class Watch:
    """One boot, from its first instruction until there is a reason to stop it."""

    def __init__(
        self,
        order: DirectBoot,
        qmp: Qmp,
        serial: SerialPort,
        memory: Memory,
        *,
        staying: float,
        looking: float = _LOOK_SECONDS,
    ) -> None:
        """Nothing is started yet. `staying` seconds after a look, one every `looking` seconds, has shown that the guest
        left boot services, it is said to stay up."""
        self._order = order
        self._qmp = qmp
        self._serial = serial
        self._memory = memory
        self._wanted = order.until.encode("utf-8") if order.until else None
        self._staying = staying
        self._looking = looking
        self._left_at: float | None = None

    def run(self) -> BootEnd:
        """Start the processors; they are stopped when this returns. Errors of `Qmp`."""
        deadline = time.monotonic() + self._order.limit
        self._qmp.execute("cont")
        end = self._wait(deadline)
        self._qmp.execute("stop")
        return BootEnd.TEXT_SEEN if self._serial.read(self._wanted) else end  # it came, whatever came after it

    def _wait(self, deadline: float) -> BootEnd:
        if end := _end_in(self._qmp.pending()):  # it came with the answer to `cont`
            return end
        look = time.monotonic() + self._looking
        while (now := time.monotonic()) < deadline:
            ready = self._ready(min(_POLL_SECONDS, self._looking, deadline - now))
            if self._serial.read(self._wanted):
                return BootEnd.TEXT_SEEN
            if self._qmp.fileno() in ready and (end := _end_in(self._qmp.events())):
                return end
            if time.monotonic() > look:
                if self._stays_up(deadline):
                    return BootEnd.STAYED_UP
                look = time.monotonic() + self._looking
        return BootEnd.TIME_LIMIT

    def _ready(self, seconds: float) -> set[int]:
        poll = select.poll()
        poll.register(self._qmp, select.POLLIN)
        poll.register(self._serial, select.POLLIN)
        return {descriptor for descriptor, _ in poll.poll(seconds * 1000)}

    def _stays_up(self, deadline: float) -> bool:
        """Whether nobody waits for a text, and the guest left boot services long enough ago."""
        if self._wanted is not None:
            return False
        if self._left_at is None and shows_boot_services_left(
            self._memory, expired=lambda: time.monotonic() > deadline
        ):
            self._left_at = time.monotonic()
        return self._left_at is not None and time.monotonic() - self._left_at >= self._staying


def _end_in(events: Iterable[Mapping[str, Any]]) -> BootEnd | None:
    """How the guest ended, if one of QEMU's events says so (QAPI: ShutdownCause)."""
    for event in events:
        if event["event"] == "SHUTDOWN":
            reason = event.get("data", {}).get("reason")
            return BootEnd.RESET if reason == "guest-reset" else BootEnd.POWERED_OFF
    return None
