"""The TD HOB list that Cloud Hypervisor writes (`measurement.md` 4.5), which td-shim measures with its last HOB.

It holds memory, MMIO, the ACPI tables as they are, and where the kernel lies. The tables depend on devices and vCPUs of
the machine and on the VMM's version; no rule here derives them, so they are an input. One real list was taken apart and
built again; the rest is from the source of Cloud Hypervisor v29.0 and later.
"""

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from builder.errors import DocumentError
from builder.measure.firmware.hob import (
    END_OF_LIST,
    MEMORY_MAPPED_IO,
    MEMORY_RESERVED,
    MEMORY_UNACCEPTED,
    SYSTEM_MEMORY,
    GuidHob,
    Hob,
    HobList,
    ResourceHob,
    encode_hob_list,
    memory_hob,
)
from builder.measure.firmware.td_hob import check_room
from builder.measure.firmware.tdvf import PAGE_SIZE, SectionType, TdvfMetadata, has_guided_table, parse_tdvf

ACPI_TABLE_HOB = uuid.UUID("6a0c5870-d4ed-44f4-a135-dd238b6f0c8d")
PAYLOAD_INFO_HOB = uuid.UUID("b96fa412-461f-4be3-8c0d-ad805a497ac0")

_GIB = 1 << 30
_LOW_END = 3 * _GIB
_HIGH_START = 4 * _GIB
_APIC = 0xFEE00000
_UNUSED_TOP = (1 << 16) + (1 << 20)  # below the end of the address space, with the platform's own devices
_MMIO_ATTRIBUTE = 0x403  # present, initialised, uncacheable
_ALIGNMENT = 8
_TABLE_HEADER = 36
_BZIMAGE = 1


@dataclass(frozen=True)
class CloudHypervisorMachine:
    """What a list says of its machine: `memory` in bytes, the CPU's physical address bits, and its ACPI tables.

    `acpi_tables` are DSDT, FACP, APIC, MCFG, ... as the VMM makes them, in its order. `kernel`: whether it loads one.
    `packed_payload_info`: from v44.0 on the VMM leaves out four bytes of padding where it says where the kernel is.
    """

    memory: int
    physical_bits: int
    acpi_tables: tuple[bytes, ...]
    kernel: bool = True
    packed_payload_info: bool = False


def td_shim_hob_list(firmware: bytes, machine: CloudHypervisorMachine) -> bytes:
    """The whole list, with the end-of-list HOB: what td-shim measures.

    DocumentError for memory or addresses that no machine has, ACPI tables that are not whole tables, a kernel without a
    PAYLOAD section to load it to, and a list that does not fit its section. Not covered: several memory zones, memory
    hotplug, and versions older than v29.0.
    """
    metadata = parse_tdvf(firmware)
    hobs = (
        *_memory(metadata, machine, unaccepted=has_guided_table(firmware)),
        *_mmio(machine),
        *(_acpi_table(table) for table in machine.acpi_tables),
        *_payload_info(metadata, machine),
    )
    encoded = encode_hob_list(hobs, address=metadata.td_hob.address, counts_end=True)
    check_room(metadata.td_hob, len(encoded))
    return encoded + END_OF_LIST


def acpi_tables_of(hobs: HobList) -> tuple[bytes, ...]:
    """The ACPI tables in a list, in its order, without the padding behind each.

    DocumentError for one that is not a whole table. From a list that a guest reported they are Evidence: nothing to
    compute what it is compared with.
    """
    found = (hob for hob in hobs.hobs if isinstance(hob, GuidHob) and hob.name == ACPI_TABLE_HOB)
    return tuple(hob.data[: _table_length(hob.data)] for hob in found)


def _memory(metadata: TdvfMetadata, machine: CloudHypervisorMachine, *, unaccepted: bool) -> Iterator[ResourceHob]:
    """RAM and TEMP_MEM by address; firmware without a GUIDed table gets the types of an older convention."""
    free, taken = (MEMORY_UNACCEPTED, SYSTEM_MEMORY) if unaccepted else (SYSTEM_MEMORY, MEMORY_RESERVED)
    sections = sorted((section.address, section.end) for section in metadata.of_type(SectionType.TEMP_MEM))
    ranges = [(taken, start, end) for start, end in sections]
    for start, end in _ram(machine):
        inside = [section for section in sections if start <= section[0] < end]
        if any(section[1] > end for section in inside):
            raise DocumentError(f"firmware: a TEMP_MEM section reaches over the end of memory at {end:#x}")
        gaps = pairwise([(start, start), *inside, (end, end)])
        ranges += [(free, before[1], after[0]) for before, after in gaps if before[1] < after[0]]
    for kind, start, end in sorted(ranges, key=lambda each: each[1]):
        yield memory_hob(kind, start, end)


def _ram(machine: CloudHypervisorMachine) -> tuple[tuple[int, int], ...]:
    if machine.memory <= 0 or machine.memory % PAGE_SIZE:
        raise DocumentError(f"memory size {machine.memory:#x}: wanted whole pages of 4096 bytes")
    if machine.memory <= _LOW_END:
        return ((0, machine.memory),)
    return (0, _LOW_END), (_HIGH_START, _HIGH_START + machine.memory - _LOW_END)


def _mmio(machine: CloudHypervisorMachine) -> tuple[ResourceHob, ResourceHob]:
    """32-bit devices up to the local APIC; 64-bit devices from the end of memory, one byte short of their last."""
    start = max(_HIGH_START, _ram(machine)[-1][1])
    last = (1 << machine.physical_bits) - _UNUSED_TOP - 1 if 0 < machine.physical_bits <= 52 else 0
    if last <= start:
        raise DocumentError(
            f"{machine.physical_bits} physical address bits have no room above {start:#x}", hint="wanted up to 52 bits"
        )
    return (
        memory_hob(MEMORY_MAPPED_IO, _LOW_END, _APIC, attribute=_MMIO_ATTRIBUTE),
        memory_hob(MEMORY_MAPPED_IO, start, last, attribute=_MMIO_ATTRIBUTE),
    )


def _acpi_table(table: bytes) -> GuidHob:
    if _table_length(table) != len(table):
        raise DocumentError(f"ACPI table {table[:4]!r}: has {len(table)} bytes and says {_table_length(table)}")
    return GuidHob(ACPI_TABLE_HOB, table.ljust(-(-len(table) // _ALIGNMENT) * _ALIGNMENT, b"\0"))


def _table_length(table: bytes) -> int:
    length = int.from_bytes(table[4:8], "little")
    if not _TABLE_HEADER <= length <= len(table):
        raise DocumentError(f"ACPI table {table[:4]!r}: {len(table)} bytes are no table of {length}")
    return length


def _payload_info(metadata: TdvfMetadata, machine: CloudHypervisorMachine) -> tuple[Hob, ...]:
    if not machine.kernel:
        return ()
    sections = metadata.of_type(SectionType.PAYLOAD)
    if len(sections) != 1:
        raise DocumentError(f"firmware: {len(sections)} PAYLOAD sections for a kernel, wanted exactly one")
    info = struct.pack("<IQ" if machine.packed_payload_info else "<I4xQ", _BZIMAGE, sections[0].address)
    return (GuidHob(PAYLOAD_INFO_HOB, info),)
