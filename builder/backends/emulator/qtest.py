"""The qtest protocol: ports, memory and PCI configuration space of a stopped QEMU, without guest code (`acpi.md` 2.3).

Text lines: one command, one answer starting with OK, possibly after IRQ lines. Commands that do not need each other's
answers are sent together, which saves most of the time. Nothing here knows how QEMU was started.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Protocol

from builder.errors import NotProvenError
from builder.measure.acpi.pci_resources import PciAddress

_CONFIG_ADDRESS = 0xCF8
_CONFIG_DATA = 0xCFC
_CONFIG_ENABLE = 0x80000000
_WIDTHS = {1: "b", 2: "w", 4: "l"}
_SHORT_ANSWER = 256
# commands that are sent before the first answer is read: more than a pipe holds would stop both sides for ever
_TOGETHER = 64
_PLACE = 256
_MAX_NOISE = 1 << 16
_HEX = re.compile(rb"0x[0-9a-fA-F]+")


class Channel(Protocol):
    """Both directions of a connection to QEMU."""

    def send(self, data: bytes) -> None:
        """Write all of `data`; raises a BuilderError if QEMU has ended."""

    def receive(self) -> bytes:
        """What came next, at least one byte; raises a BuilderError if QEMU has ended or is silent for too long."""


class Qtest:
    """A client of one QEMU. NotProvenError for every answer that is not what the protocol has."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._received = bytearray()

    def read_port(self, port: int) -> int:
        """The byte at an I/O port."""
        return self._number(f"inb {port:#x}")

    def write_port(self, port: int, value: int, *, size: int) -> None:
        """Write 1, 2 or 4 bytes to an I/O port."""
        self._command(f"out{_WIDTHS[size]} {port:#x} {value:#x}")

    def read_memory(self, address: int, size: int) -> bytes:
        """`size` bytes of guest memory."""
        command = f"read {address:#x} {size:#x}"
        (answer,) = self._commands([command], limit=2 * size + _SHORT_ANSWER)
        return _memory(command, answer, size)

    def write_memory(self, address: int, data: bytes) -> None:
        """Put `data` into guest memory."""
        self._command(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def transfer(self, writes: Iterable[tuple[int, bytes]], reads: Iterable[tuple[int, int]]) -> list[bytes]:
        """Put bytes at addresses, in order, then read (address, size) each; at most 256 bytes at each place."""
        waiting = chain(
            ((f"write {address:#x} {len(data):#x} 0x{data.hex()}", None) for address, data in writes),
            ((f"read {address:#x} {size:#x}", size) for address, size in reads),
        )
        found: list[bytes] = []
        while together := list(islice(waiting, _TOGETHER)):
            answers = self._commands([command for command, _ in together], limit=2 * _PLACE + _SHORT_ANSWER)
            pairs = zip(together, answers, strict=True)
            found += [_memory(command, answer, size) for (command, size), answer in pairs if size is not None]
        return found

    def read_config(self, place: PciAddress, register: int) -> int:
        """The dword of configuration space at `register`, a multiple of 4."""
        self.write_port(_CONFIG_ADDRESS, _config_address(place, register), size=4)
        return self._number(f"inl {_CONFIG_DATA:#x}")

    def write_config(self, place: PciAddress, register: int, value: int, *, size: int = 4) -> None:
        """Write 1, 2 or 4 bytes of configuration space at `register`."""
        self.write_port(_CONFIG_ADDRESS, _config_address(place, register), size=4)
        self.write_port(_CONFIG_DATA + (register & 3), value, size=size)

    def _number(self, command: str) -> int:
        answer = self._command(command)
        if not _HEX.fullmatch(answer):
            raise _bad_answer(command, answer, "a number")
        return int(answer, 16)

    def _command(self, command: str) -> bytes:
        """Send one command; gives what follows OK in its answer."""
        return self._commands([command])[0]

    def _commands(self, commands: Sequence[str], *, limit: int = _SHORT_ANSWER) -> list[bytes]:
        """Send commands together; gives what follows OK in the answer of each."""
        self._channel.send("".join(f"{command}\n" for command in commands).encode("ascii"))
        return [self._answer(command, limit) for command in commands]

    def _answer(self, command: str, limit: int) -> bytes:
        noise = 0
        while (line := self._line(limit)).startswith(b"IRQ "):
            noise += len(line)
            if noise > _MAX_NOISE:
                raise _bad_answer(command, line, "an answer after the IRQ lines")
        status, _, answer = line.partition(b" ")
        if status != b"OK":
            raise _bad_answer(command, line, "OK")
        return answer.strip()

    def _line(self, limit: int) -> bytes:
        start = 0
        while (end := self._received.find(b"\n", start)) < 0:
            start = len(self._received)
            if start > limit:
                raise NotProvenError(f"qtest: QEMU sends a line of more than {limit} bytes")
            self._received += self._channel.receive()
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line.rstrip(b"\r")


def _memory(command: str, answer: bytes, size: int) -> bytes:
    if len(answer) != 2 + 2 * size or not _HEX.fullmatch(answer):
        raise _bad_answer(command, answer, f"0x and {2 * size} hex digits")
    return bytes.fromhex(answer[2:].decode("ascii"))


def _config_address(place: PciAddress, register: int) -> int:
    """What selects the dword of `register` through port 0xcf8."""
    return _CONFIG_ENABLE | place.bus << 16 | place.device << 11 | place.function << 8 | register & 0xFC


def _bad_answer(command: str, answer: bytes, wanted: str) -> NotProvenError:
    shown = answer[:60].decode("ascii", "backslashreplace")
    return NotProvenError(
        f"qtest: QEMU answers {shown!r} ({len(answer)} bytes) to {command[:60]!r}, wanted {wanted}",
        hint="the QEMU of the pinned root does not speak the qtest protocol of `acpi.md` 2.3",
    )
