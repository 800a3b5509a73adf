"""The TD HOB list that GCE writes (`measurement.md` 4.4): machine types, RAM banks, and the list over them.

Four machine types give published digests, and one of them the first event of real logs. Those with several NUMA nodes
follow google/gce-tcb-verifier, whose banks were read and whose digests nobody published.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from builder.errors import DocumentError
from builder.measure.firmware.hob import (
    MEMORY_UNACCEPTED,
    SYSTEM_MEMORY,
    TESTED_MEMORY,
    ResourceHob,
    encode_hob_list,
    memory_hob,
)
from builder.measure.firmware.td_hob import check_room
from builder.measure.firmware.tdvf import TdvfMetadata

_MIB, _GIB = 1 << 20, 1 << 30
_LOW_END = 3 * _GIB
_HIGH_START = 4 * _GIB
_FIRMWARE_BANK = (_HIGH_START - 2 * _MIB, _HIGH_START)
_NODE_SIZE = 176 * _GIB
_EARLY_ACCEPT = 0x10000000  # no attribute of PI: the firmware is to accept this range itself


@dataclass(frozen=True)
class RamBank:
    """Addresses from `start` up to but without `end` that have memory behind them."""

    start: int
    end: int


@dataclass(frozen=True)
class GceMachineType:
    """A machine type by name, with its memory in bytes, spread over so many NUMA nodes."""

    name: str
    memory: int
    nodes: int


class EarlyAccept(StrEnum):
    """Which unaccepted ranges the list asks the firmware to accept: all (every list seen), or those below 4 GiB.

    The latter is how google/gce-tcb-verifier models hypervisors of the time when all sections were extended.
    """

    ALL = "all"
    BELOW_4_GIB = "below_4_gib"


GCE_MACHINE_TYPES: Mapping[str, GceMachineType] = {
    name: GceMachineType(name, memory * _GIB, nodes)
    for name, memory, nodes in (
        ("c3-standard-4", 16, 1),
        ("c3-standard-8", 32, 1),
        ("c3-standard-22", 88, 1),
        ("c3-standard-44", 176, 1),
        ("c3-standard-88", 352, 2),
        ("c3-standard-176", 704, 4),
    )
}


def gce_machine_type(name: str) -> GceMachineType:
    """The machine type of this name; DocumentError if its memory is not known here."""
    if name not in GCE_MACHINE_TYPES:
        raise DocumentError(
            f"GCE machine type {name!r} is unknown", hint=f"known with TDX: {', '.join(GCE_MACHINE_TYPES)}"
        )
    return GCE_MACHINE_TYPES[name]


def gce_ram_banks(machine: GceMachineType) -> tuple[RamBank, ...]:
    """`[0, 3 GiB)`, 2 MiB below 4 GiB for the firmware, and from 4 GiB on what each node has left.

    DocumentError for memory that the nodes cannot hold, 176 GiB each, or that does not fill the 3 GiB.
    """
    if not _LOW_END <= machine.memory <= machine.nodes * _NODE_SIZE:
        raise DocumentError(f"GCE machine type {machine.name!r}: {machine.memory} bytes on {machine.nodes} nodes")
    return RamBank(0, _LOW_END), RamBank(*_FIRMWARE_BANK), *_high_banks(machine)


def gce_td_hob_list(
    metadata: TdvfMetadata, banks: Sequence[RamBank], *, early_accept: EarlyAccept = EarlyAccept.ALL
) -> bytes:
    """The bytes of the list, without the end-of-list HOB: what is measured.

    First every section of the firmware in the order of its metadata, then what is left of the banks, by address.
    DocumentError for banks that overlap, sections without memory behind them, and a list that does not fit.
    """
    section = metadata.td_hob
    taken = [memory_hob(SYSTEM_MEMORY, each.address, each.end) for each in metadata.sections]
    hobs = [*taken, *(_unaccepted(start, end, early_accept) for start, end in _free_ranges(metadata, banks))]
    encoded = encode_hob_list(hobs, address=section.address, counts_end=False)
    check_room(section, len(encoded))
    return encoded


def _high_banks(machine: GceMachineType) -> Iterator[RamBank]:
    """The first node has given its 3 GiB to the low bank."""
    start, left, room = _HIGH_START, machine.memory - _LOW_END, _NODE_SIZE - _LOW_END
    for _ in range(machine.nodes):
        size = min(room, left)
        if size:
            yield RamBank(start, start + size)
        start, left, room = start + size, left - size, _NODE_SIZE


def _free_ranges(metadata: TdvfMetadata, banks: Sequence[RamBank]) -> Iterator[tuple[int, int]]:
    ordered = sorted(banks, key=lambda bank: bank.start)
    if any(before.end > after.start for before, after in pairwise(ordered)):
        raise DocumentError(f"GCE: RAM banks overlap: {ordered}")
    taken = sorted((section.address, section.end) for section in metadata.sections)
    for start, end in taken:
        if not any(bank.start <= start and end <= bank.end for bank in ordered):
            raise DocumentError(f"firmware: section at {start:#x} lies outside the machine's memory")
    for bank in ordered:
        inside = [section for section in taken if bank.start <= section[0] < bank.end]
        gaps = pairwise([(bank.start, bank.start), *inside, (bank.end, bank.end)])
        yield from ((before[1], after[0]) for before, after in gaps if before[1] < after[0])


def _unaccepted(start: int, end: int, early_accept: EarlyAccept) -> ResourceHob:
    early = early_accept is EarlyAccept.ALL or end <= _HIGH_START
    attribute = TESTED_MEMORY | _EARLY_ACCEPT if early else TESTED_MEMORY
    return memory_hob(MEMORY_UNACCEPTED, start, end, attribute=attribute)
