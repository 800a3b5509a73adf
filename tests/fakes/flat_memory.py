"""A guest's memory in memory, and the log of a firmware as it lies there."""

from collections.abc import Iterator
from dataclasses import replace

from builder.measure.evidence.guest_log import Log
from builder.model.event import EV_EFI_ACTION
from tests.fakes.emulated_boot import LOG_HEADER, encoded_records

SIZE = 1 << 20


class FlatMemory:
    """A Memory in which places are physical addresses. `reads` remembers the size of every read."""

    def __init__(self, parts: dict[int, bytes], size: int = SIZE) -> None:
        self.data = bytearray(size)
        self.reads: list[int] = []
        for place, part in parts.items():
            self.data[place : place + len(part)] = part

    def find(self, pattern: bytes) -> Iterator[int]:
        """Every place of the pattern."""
        place = self.data.find(pattern)
        while place >= 0:
            yield place
            place = self.data.find(pattern, place + 1)

    def read(self, place: int, size: int) -> bytes:
        """At most `size` bytes."""
        self.reads.append(size)
        return bytes(self.data[place : place + size]) if place >= 0 else b""

    read_physical = read


def firmware_area(log: Log) -> bytes:
    """All of OVMF's log area."""
    return (LOG_HEADER + encoded_records(log)).ljust(1 << 16, b"\xff")


def with_actions(log: Log) -> Log:
    """The log with the data of its actions, which is their name, so that they can be read back."""
    return tuple(replace(each, data=each.name.encode()) if each.event_type == EV_EFI_ACTION else each for each in log)
