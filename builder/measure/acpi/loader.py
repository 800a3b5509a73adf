"""RSDP and loader script, derived from the tables blob alone (`acpi.md` 3, 4): a second way to both.

Not valid for machines with a TPM or a VM generation ID, whose loader scripts have more records.
"""

import struct

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.measure.acpi.blobs import LOADER_SIZE, RSDP_FILE, TABLES_FILE, AcpiBlobs

_RSDP = struct.Struct("<8sB6sBI")
_ALLOCATE = struct.Struct("<I56sIB63x")
_ADD_POINTER = struct.Struct("<I56s56sIB7x")
_ADD_CHECKSUM = struct.Struct("<I56sIII56x")
_FSEG, _HIGH = 2, 1
_T, _R = TABLES_FILE.encode(), RSDP_FILE.encode()
_CHECKSUM_OFFSET = 9
_HEADER = 36
_MAX_TABLES = 64

_Table = tuple[bytes, int, int]  # signature, offset, length


def blobs_for(tables: bytes) -> AcpiBlobs:
    """All three blobs for a tables blob as QEMU builds it. DocumentError if its tables do not follow `acpi.md` 5.1."""
    found = _walk(ByteReader(tables, TABLES_FILE))
    rsdt = found[-1][1]
    rsdp = _RSDP.pack(b"RSD PTR ", 0, b"BOCHS ", 0, rsdt)
    return AcpiBlobs(loader=_loader(found), rsdp=rsdp, tables=tables)


def _walk(reader: ByteReader) -> list[_Table]:
    """FACS, DSDT, FACP, APIC, others, RSDT: one after the other without gaps."""
    tables: list[_Table] = []
    offset = 0
    while not tables or tables[-1][0] != b"RSDT":
        signature = reader.slice(offset, 4, name="table signature")
        length = reader.u32(offset + 4, name="table length")
        if length < _HEADER or len(tables) == _MAX_TABLES:
            raise DocumentError(f"{TABLES_FILE}: table {signature!r} at {offset:#x} is {length} bytes long")
        reader.slice(offset, length, name="table")
        tables.append((signature, offset, length))
        offset += length
    signatures = [signature for signature, _, _ in tables]
    if signatures[:4] != [b"FACS", b"DSDT", b"FACP", b"APIC"]:
        raise DocumentError(f"{TABLES_FILE}: begins with {signatures[:4]}, wanted FACS, DSDT, FACP, APIC")
    return tables


def _loader(tables: list[_Table]) -> bytes:
    """The thirteen steps of `acpi.md` 4."""
    _, dsdt, facp, *others, rsdt = tables
    records = [
        _ALLOCATE.pack(1, _R, 16, _FSEG),
        _ALLOCATE.pack(1, _T, 64, _HIGH),
        _checksum(dsdt),
        *(_pointer(facp[1] + offset, size) for offset, size in ((36, 4), (40, 4), (140, 8))),
        _checksum(facp),
        *(_checksum(table) for table in others),
        *(_pointer(rsdt[1] + entry, 4) for entry in range(_HEADER, rsdt[2], 4)),
        _checksum(rsdt),
        _ADD_POINTER.pack(2, _R, _T, 16, 4),
        _ADD_CHECKSUM.pack(3, _R, 8, 0, _RSDP.size),
    ]
    script = b"".join(records)
    if len(script) > LOADER_SIZE:
        raise DocumentError(f"{TABLES_FILE}: its loader script would take {len(script)} bytes, wanted {LOADER_SIZE}")
    return script.ljust(LOADER_SIZE, b"\0")


def _checksum(table: _Table) -> bytes:
    _, offset, length = table
    return _ADD_CHECKSUM.pack(3, _T, offset + _CHECKSUM_OFFSET, offset, length)


def _pointer(offset: int, size: int) -> bytes:
    return _ADD_POINTER.pack(2, _T, _T, offset, size)
