"""The ACPI table that says where a TD's event log is (`quotes.md` 3.1; ACPI 6.5, 5.2.34)."""

from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError

_SIZE = 56
_SIGNATURE = b"CCEL"
_REVISION = 1
_CC_TYPE_TDX = 2
_CC_TYPES = {0: "none", 1: "AMD SEV", _CC_TYPE_TDX: "Intel TDX"}
_TABLE_HINT = "in the guest, the table is /sys/firmware/acpi/tables/CCEL and the log .../tables/data/CCEL"


@dataclass(frozen=True)
class CcelTable:
    """Where the log is: the least length of its area (LAML) and its address (LASA), in bytes.

    `oem_id` is the firmware's, for people. `reserved` is 0, or two spaces (0x2020) on GCE.
    """

    oem_id: str
    cc_subtype: int
    reserved: int
    log_area_minimum_length: int
    log_area_start_address: int


def parse_ccel_table(data: bytes) -> CcelTable:
    """Parse the 56 bytes of a CCEL table of a TD.

    DocumentError for another signature, length, revision or CC type, a wrong checksum, and an area without length or
    address. Not checked: that the address is the guest's; nothing measures this table.
    """
    reader = ByteReader(data, "CCEL table")
    _check_header(reader, data)
    cc_type = reader.u8(36, name="CC type")
    if cc_type != _CC_TYPE_TDX:
        raise DocumentError(
            f"CCEL table: CC type {cc_type} ({_CC_TYPES.get(cc_type, 'unknown')}), wanted 2 (Intel TDX)"
        )
    table = CcelTable(
        oem_id=reader.slice(10, 6, name="OEM id").rstrip(b"\0 ").decode("ascii", "backslashreplace"),
        cc_subtype=reader.u8(37, name="CC subtype"),
        reserved=reader.u16(38, name="reserved"),
        log_area_minimum_length=reader.u64(40, name="log area minimum length"),
        log_area_start_address=reader.u64(48, name="log area start address"),
    )
    if not table.log_area_minimum_length or not table.log_area_start_address:
        raise DocumentError(
            f"CCEL table: a log area of {table.log_area_minimum_length} bytes at {table.log_area_start_address:#x}"
        )
    return table


def check_log_area(table: CcelTable, log: bytes) -> None:
    """DocumentError if `log` is larger than its area, so that it cannot be the log that the table names.

    A smaller one is a log cut behind its last record, as some tools store it.
    """
    if len(log) > table.log_area_minimum_length:
        raise DocumentError(
            f"event log: {len(log)} bytes, the CCEL table names an area of {table.log_area_minimum_length}",
            hint="table and log are not of the same guest",
        )


def _check_header(reader: ByteReader, data: bytes) -> None:
    signature = reader.slice(0, 4, name="signature")
    length = reader.u32(4, name="length")
    if signature != _SIGNATURE or length != _SIZE or len(data) != _SIZE:
        raise DocumentError(
            f"CCEL table: {len(data)} bytes of signature {signature!r} and length {length}, wanted {_SIZE} and 'CCEL'",
            hint=_TABLE_HINT,
        )
    revision = reader.u8(8, name="revision")
    if revision != _REVISION:
        raise DocumentError(f"CCEL table: revision {revision}, wanted {_REVISION}")
    if sum(data) % 256:
        raise DocumentError(f"CCEL table: its bytes add up to {sum(data) % 256:#04x}, wanted 0", hint="it was altered")
