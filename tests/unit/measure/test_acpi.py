"""The checks on ACPI blobs, and the loader script derived from tables (`acpi.md` 3 to 5)."""

import dataclasses
import hashlib
import struct

import pytest

from builder.errors import DocumentError
from builder.measure import AcpiBlobs, blobs_for, check_acpi
from builder.measure.acpi.blobs import RSDP_FILE, TABLES_FILE, TPM_LOG_FILE
from tests.fakes.boot_files import acpi_tables, madt_entry

BLOBS = blobs_for(acpi_tables(2))


def with_loader(offset: int, data: bytes) -> AcpiBlobs:
    return dataclasses.replace(BLOBS, loader=BLOBS.loader[:offset] + data + BLOBS.loader[offset + len(data) :])


def allocate(name: bytes) -> bytes:
    return struct.pack("<I56sIB63x", 1, name, 16, 1)


@pytest.mark.parametrize("vcpus", [1, 2, 254, 255, 256, 4096])
def test_tables_with_the_right_cpu_count_pass(vcpus: int) -> None:
    assert check_acpi(blobs_for(acpi_tables(vcpus)), vcpus) == (RSDP_FILE, TABLES_FILE)


@pytest.mark.parametrize("vcpus", [0, 1, 3, 4097, -2])
def test_another_cpu_count_is_refused(vcpus: int) -> None:
    with pytest.raises(DocumentError, match=r"MADT lists 2 processors|vCPU count"):
        check_acpi(BLOBS, vcpus)


def test_a_processor_that_is_not_enabled_is_refused() -> None:
    possible = acpi_tables(2, madt=madt_entry(0) + madt_entry(1, enabled=0))
    with pytest.raises(DocumentError, match="not simply enabled"):
        check_acpi(blobs_for(possible), 2)


@pytest.mark.parametrize("entry", [b"\0\0", b"\0\1", b"\0\xff", b"\0\7" + bytes(5), b"\x09\x08" + bytes(6)])
def test_broken_madt_entries_are_refused(entry: bytes) -> None:
    with pytest.raises(DocumentError, match="entry"):
        check_acpi(blobs_for(acpi_tables(1, madt=madt_entry(0) + entry)), 1)


REFUSED = {
    "short loader": (dataclasses.replace(BLOBS, loader=BLOBS.loader[:-1]), "4095 bytes"),
    "long loader": (dataclasses.replace(BLOBS, loader=BLOBS.loader + b"\0"), "4097 bytes"),
    "empty loader": (dataclasses.replace(BLOBS, loader=bytes(4096)), "allocates nothing"),
    "unknown file": (with_loader(128, allocate(b"etc/vmgenid_guid")), "etc/vmgenid_guid"),
    "file allocated twice": (with_loader(128, allocate(RSDP_FILE.encode())), "wanted rsdp and tables once"),
    "unknown command": (with_loader(256, struct.pack("<I", 4)), "unknown command 0x4"),
    "bytes after the end": (with_loader(4095, b"\1"), "bytes after the last command"),
    "unpadded name": (with_loader(4, b"etc/acpi/rsdp\0x"), "not NUL-padded"),
    "name beyond ASCII": (with_loader(4, b"\xff"), "not NUL-padded ASCII"),
    "short rsdp": (dataclasses.replace(BLOBS, rsdp=BLOBS.rsdp[:-1]), "RSDP"),
    "long rsdp": (dataclasses.replace(BLOBS, rsdp=BLOBS.rsdp + bytes(16)), "RSDP"),
    "other rsdp": (dataclasses.replace(BLOBS, rsdp=b"X" + BLOBS.rsdp[1:]), "RSDP"),
    "rsdp of revision 2": (dataclasses.replace(BLOBS, rsdp=BLOBS.rsdp[:15] + b"\2" + BLOBS.rsdp[16:]), "RSDP"),
    "rsdp that points nowhere": (dataclasses.replace(BLOBS, rsdp=BLOBS.rsdp[:16] + b"\xff" * 4), "beyond the end"),
    "rsdp that points to no RSDT": (dataclasses.replace(BLOBS, rsdp=BLOBS.rsdp[:16] + bytes(4)), "wanted b'RSDT'"),
    "no tables": (dataclasses.replace(BLOBS, tables=b""), "0 bytes"),
    "unpadded tables": (dataclasses.replace(BLOBS, tables=BLOBS.tables[:-1]), "131071 bytes"),
    "tables without FACS": (dataclasses.replace(BLOBS, tables=b"X" + BLOBS.tables[1:]), "FACS"),
    "tables of 32 MiB": (dataclasses.replace(BLOBS, tables=BLOBS.tables * 256), "33554432 bytes"),
}


@pytest.mark.parametrize(("blobs", "reason"), REFUSED.values(), ids=REFUSED)
def test_broken_blobs_are_refused(blobs: AcpiBlobs, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        check_acpi(blobs, 2)


def test_an_rsdt_without_or_with_two_madts_is_refused() -> None:
    tables = acpi_tables(2)
    for old, new in ((b"APIC", b"APIX"), (b"MCFG", b"APIC")):
        with pytest.raises(DocumentError, match="MADTs, wanted one"):
            check_acpi(dataclasses.replace(BLOBS, tables=tables.replace(old, new)), 2)


def test_a_tpm_log_is_named_in_the_order_of_measuring() -> None:
    loader = BLOBS.loader[:128] + allocate(TPM_LOG_FILE.encode()) + BLOBS.loader[128:-128]
    order = check_acpi(dataclasses.replace(BLOBS, loader=loader), 2)
    assert order == (RSDP_FILE, TPM_LOG_FILE, TABLES_FILE)


def test_digests_cover_the_padding() -> None:
    digests = BLOBS.digests()
    assert digests.loader == hashlib.sha384(BLOBS.loader).hexdigest()
    assert digests.rsdp == hashlib.sha384(BLOBS.rsdp).hexdigest()
    assert digests.tables == hashlib.sha384(BLOBS.tables).hexdigest()


@pytest.mark.parametrize(
    "tables",
    [
        b"",
        bytes(131072),
        acpi_tables(2)[64:],
        acpi_tables(2).replace(b"RSDT", b"RSDX"),
        acpi_tables(2)[:4] + b"\x20" + acpi_tables(2)[5:],
        acpi_tables(2).replace(b"FACP", b"FACX"),
    ],
)
def test_a_loader_is_not_derived_from_other_tables(tables: bytes) -> None:
    with pytest.raises(DocumentError):
        blobs_for(tables)
