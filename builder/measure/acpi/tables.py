"""The ACPI tables beside the DSDT (`acpi.md` 5): header, and the bodies of FADT, MADT, SRAT and the small ones."""

import struct
from collections.abc import Iterator
from functools import lru_cache

from builder.measure.acpi.hardware import GIB, AcpiMachine, AcpiProfile

HEADER_SIZE = 36
FACS = struct.pack("<4sI56x", b"FACS", 64)
WAET_BODY = struct.pack("<I", 2)  # the ACPI PM timer is good
FIRST_X2APIC = 255  # APIC ids from here on need the longer entries
_FADT_SIZE = 244
_PM = 0x600  # where OVMF puts the power management ports
_MODEL_MANY = 0x40000  # clustered APIC model
_ENABLED = 1
_HOLE_640K, _HOLE_END = 0xA0000, 0x100000


def table(signature: bytes, revision: int, *, body: bytes) -> bytes:
    """A table with QEMU's header (`acpi.md` 5.2); the checksum is left to the guest."""
    size = HEADER_SIZE + len(body)
    return struct.pack("<4sIBB6s8sI4sI", signature, size, revision, 0, b"BOCHS ", b"BXPC    ", 1, b"BXPC", 1) + body


@lru_cache(maxsize=64)
def fadt_body(*, dsdt: int, many_vcpus: bool, smm: bool) -> bytes:
    """FACP for a DSDT at offset `dsdt` of the tables (`acpi.md` 5.3)."""
    body = bytearray(_FADT_SIZE - HEADER_SIZE)

    def put(layout: str, offset: int, *values: int) -> None:
        struct.pack_into("<" + layout, body, offset - HEADER_SIZE, *values)

    put("IIBxH", 36, 0, dsdt, 1, 9)
    if smm:
        put("IBB", 48, 0xB2, 2, 3)
    put("IxxxxI", 56, _PM, _PM + 4)
    put("II", 76, _PM + 8, _PM + 0x20)
    put("BBxBB", 88, 4, 2, 4, 16)
    put("HH", 96, 0xFFF, 0xFFF)
    put("BH", 108, 0x32, 2)
    put("I", 112, 0x84A5 | many_vcpus * _MODEL_MANY)
    put("BBBBQB", 116, 1, 8, 0, 0, 0xCF9, 0x0F)
    put("Q", 140, dsdt)
    for offset, width, port in ((148, 32, 0), (172, 16, 4), (208, 32, 8), (220, 128, 0x20)):
        put("BBBBQ", offset, 1, width, 0, 0, _PM + port)
    return bytes(body)


def madt_body(machine: AcpiMachine) -> bytes:
    """APIC: processors, IOAPIC, interrupt source overrides, NMI (`acpi.md` 5.4)."""
    return b"".join(
        (
            struct.pack("<II", 0xFEE00000, machine.pic),
            _processor_entries(machine.vcpus),
            struct.pack("<BBBBII", 1, 12, 0, 0, 0xFEC00000, 0),
            *_source_overrides(machine.profile),
            _nmi(machine.vcpus),
        )
    )


@lru_cache(maxsize=64)
def _processor_entries(vcpus: int) -> bytes:
    return b"".join(processor_entry(number) for number in range(vcpus))


def processor_entry(number: int) -> bytes:
    """The MADT's entry of a vCPU, which the DSDT repeats: local APIC, or local x2APIC from 255 on."""
    if number < FIRST_X2APIC:
        return struct.pack("<BBBBI", 0, 8, number, number, 1)
    return struct.pack("<BBHIII", 9, 16, 0, number, 1, number)


def _source_overrides(profile: AcpiProfile) -> Iterator[bytes]:
    """The timer is at 2; until QEMU 9.1 every ISA interrupt is listed, afterwards those that PCI uses."""
    old = profile is AcpiProfile.P8
    yield _source_override(0, 2, flags=5 if old else 0)
    for source in range(1, 16) if old else (5, 9, 10, 11):
        yield _source_override(source, source, flags=5 if old else 0xD)


def _source_override(source: int, gsi: int, *, flags: int) -> bytes:
    return struct.pack("<BBBBIH", 2, 10, 0, source, gsi, flags)


def _nmi(vcpus: int) -> bytes:
    if vcpus <= FIRST_X2APIC:
        return struct.pack("<BBBHB", 4, 6, 0xFF, 0, 1)
    return struct.pack("<BBHIB3x", 10, 12, 0, 0xFFFFFFFF, 1)


@lru_cache(maxsize=64)
def hpet_body() -> bytes:
    """HPET: Intel's block id of three comparators, registers in memory at 0xfed00000."""
    return struct.pack("<IBBBBQBHB", 0x8086A201, 0, 0, 0, 0, 0xFED00000, 0, 0, 0)


def mcfg_body(mmconfig: int) -> bytes:
    """MCFG: one segment of 256 buses (`acpi.md` 5.6)."""
    return struct.pack("<8xQHBBI", mmconfig, 0, 0, 255, 0)


def srat_body(machine: AcpiMachine) -> bytes:
    """SRAT: the node of every vCPU and of every range of memory (`acpi.md` 5.5)."""
    processors = (_processor_affinity(number, machine.vcpu_node(number) or 0) for number in range(machine.vcpus))
    ranges = [_memory_affinity(*each) for each in _memory_ranges(machine)]
    ranges += [_memory_affinity(0, (0, 0), flags=0)] * (machine.numa_nodes + 2 - len(ranges))
    return struct.pack("<IQ", 1, 0) + b"".join(processors) + b"".join(ranges)


def _processor_affinity(number: int, node: int) -> bytes:
    if number < FIRST_X2APIC:
        return struct.pack("<BBBBIB3s4x", 0, 16, node & 0xFF, number, 1, 0, bytes(3))
    return struct.pack("<BBHIIIII", 2, 24, 0, node, number, 1, 0, 0)


def _memory_affinity(node: int, place: tuple[int, int], *, flags: int = _ENABLED) -> bytes:
    base, length = place
    return struct.pack("<BBIHQQIIQ", 1, 40, node, 0, base, length, 0, flags, 0)


def _memory_ranges(machine: AcpiMachine) -> Iterator[tuple[int, tuple[int, int]]]:
    """Node, and base and length, of every range. The nodes' shares follow each other, around the holes."""
    start = 0
    for node in range(machine.numa_nodes):
        end = start + machine.memory // machine.numa_nodes
        yield from ((node, place) for place in _around_holes(start, end, low=machine.low_memory))
        start = end


def _around_holes(start: int, end: int, *, low: int) -> Iterator[tuple[int, int]]:
    """Where bytes `start` to `end` of the memory are: not in the legacy hole, nor between `low` and 4 GiB."""
    pieces = ((0, _HOLE_640K, 0), (_HOLE_END, low, 0), (low, 1 << 64, 4 * GIB - low))
    for first, last, shift in pieces:
        base, limit = max(start, first), min(end, last)
        if base < limit:
            yield base + shift, limit - base
