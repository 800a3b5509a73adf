"""The three ACPI blobs of a machine, generated from `acpi.md` 3 to 9 alone: no VMM is asked.

The second of the two ways to the blobs, which must agree (`acpi.md` 1); the first reads them from a stopped QEMU.
"""

import struct
from collections.abc import Iterator

from builder.measure.acpi.blobs import TABLES_ALIGNMENT, AcpiBlobs
from builder.measure.acpi.dsdt import dsdt_body
from builder.measure.acpi.hardware import AcpiMachine
from builder.measure.acpi.loader import blobs_for
from builder.measure.acpi.tables import (
    FACS,
    WAET_BODY,
    fadt_body,
    hpet_body,
    madt_body,
    mcfg_body,
    srat_body,
    table,
)

_DSDT_OFFSET = len(FACS)
_MANY_VCPUS = 8


def generate_acpi(machine: AcpiMachine) -> AcpiBlobs:
    """Loader, RSDP and tables as OVMF measures them, padding included."""
    dsdt = table(b"DSDT", 1, body=dsdt_body(machine))
    blob = bytearray(FACS + dsdt)
    offsets = []
    for each in _listed_tables(machine):
        offsets.append(len(blob))
        blob += each
    blob += table(b"RSDT", 1, body=struct.pack(f"<{len(offsets)}I", *offsets))
    blob += bytes(-len(blob) % TABLES_ALIGNMENT)
    return blobs_for(bytes(blob))


def _listed_tables(machine: AcpiMachine) -> Iterator[bytes]:
    """The tables that the RSDT lists (`acpi.md` 5.1)."""
    many = machine.vcpus > _MANY_VCPUS
    yield table(b"FACP", 3, body=fadt_body(dsdt=_DSDT_OFFSET, many_vcpus=many, smm=machine.smm))
    yield table(b"APIC", 3, body=madt_body(machine))
    if machine.hpet:
        yield table(b"HPET", 1, body=hpet_body())
    if machine.numa_nodes:
        yield table(b"SRAT", 1, body=srat_body(machine))
    yield table(b"MCFG", 1, body=mcfg_body(machine.mmconfig))
    yield table(b"WAET", 1, body=WAET_BODY)
