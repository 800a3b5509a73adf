"""The three ACPI blobs that OVMF measures, and what must hold before they are believed (`acpi.md` 1, 3 to 5)."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.model.reference_values import AcpiDigests

LOADER_FILE = "etc/table-loader"
RSDP_FILE = "etc/acpi/rsdp"
TABLES_FILE = "etc/acpi/tables"
TPM_LOG_FILE = "etc/tpm/log"

LOADER_SIZE = 4096
RSDP_SIZE = 20
TABLES_ALIGNMENT = 131072
MAX_VCPUS = 4096
_MAX_TABLES_SIZE = 16 << 20

RECORD_SIZE = 128
_ALLOCATE, _ADD_POINTER, _ADD_CHECKSUM = 1, 2, 3
_TABLE_HEADER = 36
_MADT_ENTRIES = 44
_LOCAL_APIC, _LOCAL_X2APIC = 0, 9
_PROCESSORS = {_LOCAL_APIC: (8, 4), _LOCAL_X2APIC: (16, 8)}  # entry type -> length, offset of the flags
_SHAPE_HINT = "read the tables again from QEMU, with exactly the machine shape of the profile"


@dataclass(frozen=True)
class AcpiBlobs:
    """The fw_cfg files `etc/table-loader`, `etc/acpi/rsdp` and `etc/acpi/tables`, padding included."""

    loader: bytes
    rsdp: bytes
    tables: bytes

    def digests(self) -> AcpiDigests:
        """SHA-384 of each, as the firmware measures them."""
        loader, rsdp, tables = (hashlib.sha384(blob).hexdigest() for blob in (self.loader, self.rsdp, self.tables))
        return AcpiDigests(loader, rsdp, tables)


def check_acpi(blobs: AcpiBlobs, vcpus: int) -> tuple[str, ...]:
    """Check the blobs' form and CPU count; gives the files in the loader's ALLOCATE order, the order of measuring.

    DocumentError for wrong sizes or signatures, loader commands or files that no rule here knows (a VM generation ID
    has some), and a MADT that does not list exactly `vcpus` enabled processors. Not checked: everything else the
    tables say; memory size and devices show in them, but only reading or generating them again would find a difference.
    """
    order = allocation_order(blobs.loader)
    if not 1 <= vcpus <= MAX_VCPUS:
        raise DocumentError(f"vCPU count {vcpus}, wanted 1 to {MAX_VCPUS}")
    processors = _enabled_processors(*_madt(blobs))
    if processors != vcpus:
        raise DocumentError(
            f"ACPI tables: the MADT lists {processors} processors, the machine shape has {vcpus}", hint=_SHAPE_HINT
        )
    return order


def allocation_order(loader: bytes) -> tuple[str, ...]:
    """The files that the loader script allocates, in its order (`acpi.md` 4); DocumentError for an unknown one."""
    if len(loader) != LOADER_SIZE:
        raise DocumentError(f"{LOADER_FILE}: {len(loader)} bytes, wanted {LOADER_SIZE}")
    order = tuple(_allocated_files(ByteReader(loader, LOADER_FILE)))
    unknown = sorted(set(order) - {RSDP_FILE, TABLES_FILE, TPM_LOG_FILE})
    if unknown:
        raise DocumentError(f"{LOADER_FILE}: allocates {unknown[0]!r}, which no rule here covers", hint=_SHAPE_HINT)
    if len(set(order)) != len(order) or not {RSDP_FILE, TABLES_FILE} <= set(order):
        raise DocumentError(f"{LOADER_FILE}: allocates {', '.join(order) or 'nothing'}, wanted rsdp and tables once")
    return order


def _allocated_files(reader: ByteReader) -> Iterator[str]:
    for offset in range(0, LOADER_SIZE, RECORD_SIZE):
        command = reader.u32(offset, name="loader command")
        if command == _ALLOCATE:
            name, _, padding = reader.slice(offset + 4, 56, name="file name").partition(b"\0")
            if padding.strip(b"\0") or not name.isascii():
                raise DocumentError(f"{LOADER_FILE}: file name at {offset + 4:#x} is not NUL-padded ASCII")
            yield name.decode("ascii")
        elif command == 0:
            if reader.slice(offset, LOADER_SIZE - offset, name="padding").strip(b"\0"):
                raise DocumentError(f"{LOADER_FILE}: bytes after the last command at {offset:#x}")
            return
        elif command not in (_ADD_POINTER, _ADD_CHECKSUM):
            raise DocumentError(f"{LOADER_FILE}: unknown command {command:#x} at {offset:#x}", hint=_SHAPE_HINT)


def _madt(blobs: AcpiBlobs) -> tuple[ByteReader, int, int]:
    """Reader over the tables, start and end of the MADT, found as the guest finds it: RSDP, RSDT, entries."""
    if len(blobs.rsdp) != RSDP_SIZE or not blobs.rsdp.startswith(b"RSD PTR \0BOCHS \0"):
        raise DocumentError(f"{RSDP_FILE}: {blobs.rsdp[:32].hex()} is not QEMU's RSDP of revision 0")
    if not blobs.tables or len(blobs.tables) % TABLES_ALIGNMENT or len(blobs.tables) > _MAX_TABLES_SIZE:
        raise DocumentError(f"{TABLES_FILE}: {len(blobs.tables)} bytes, wanted a multiple of {TABLES_ALIGNMENT}")
    reader = ByteReader(blobs.tables, TABLES_FILE)
    if reader.slice(0, 4, name="FACS") != b"FACS":
        raise DocumentError(f"{TABLES_FILE}: does not begin with the FACS")
    rsdt = int.from_bytes(blobs.rsdp[16:20], "little")
    end = _table_end(reader, rsdt, b"RSDT")
    tables = [reader.u32(entry, name="RSDT entry") for entry in range(rsdt + _TABLE_HEADER, end - 3, 4)]
    found = [offset for offset in tables if reader.slice(offset, 4, name="table signature") == b"APIC"]
    if len(found) != 1:
        raise DocumentError(f"{TABLES_FILE}: the RSDT lists {len(found)} MADTs, wanted one")
    return reader, found[0], _table_end(reader, found[0], b"APIC")


def _table_end(reader: ByteReader, offset: int, signature: bytes) -> int:
    found = reader.slice(offset, 4, name="table signature")
    length = reader.u32(offset + 4, name="table length")
    if found != signature or length < _TABLE_HEADER:
        raise DocumentError(f"{reader.what}: table of {length} bytes at {offset:#x} is {found!r}, wanted {signature!r}")
    reader.slice(offset, length, name="table")
    return offset + length


def _enabled_processors(reader: ByteReader, madt: int, end: int) -> int:
    count = 0
    offset = madt + _MADT_ENTRIES
    while offset < end:
        kind = reader.u8(offset, name="MADT entry type")
        length = reader.u8(offset + 1, name="MADT entry length")
        if length < 2 or offset + length > end:
            raise DocumentError(f"{reader.what}: MADT entry at {offset:#x} is {length} bytes long")
        if kind in _PROCESSORS:
            _check_processor(reader, offset, length)
            count += 1
        offset += length
    return count


def _check_processor(reader: ByteReader, offset: int, length: int) -> None:
    wanted, flags = _PROCESSORS[reader.u8(offset, name="MADT entry type")]
    if length != wanted or reader.u32(offset + flags, name="MADT processor flags") != 1:
        raise DocumentError(
            f"{reader.what}: processor entry at {offset:#x} is {length} bytes long or not simply enabled",
            hint="a machine with more possible than present vCPUs is not covered",
        )
