"""The ACPI table CCEL (`quotes.md` 3.1)."""

import struct

import pytest

from builder.errors import DocumentError
from builder.measure.evidence.ccel_table import check_log_area, parse_ccel_table


def table(
    *,
    signature: bytes = b"CCEL",
    length: int = 56,
    revision: int = 1,
    cc_type: int = 2,
    reserved: int = 0,
    area: tuple[int, int] = (0x10000, 0x7D649000),
    checksum: int = 0,
) -> bytes:
    header = struct.pack(
        "<4sIBB6s8sI4sI", signature, length, revision, 0, b"INTEL ", b"EDK2    ", 2, b"    ", 0x1000013
    )
    data = bytearray(header + struct.pack("<BBHQQ", cc_type, 0, reserved, *area))
    data[9] = (checksum - sum(data)) & 0xFF
    return bytes(data)


def test_a_table_says_where_the_log_is() -> None:
    parsed = parse_ccel_table(table(reserved=0x2020))
    assert (parsed.log_area_minimum_length, parsed.log_area_start_address) == (0x10000, 0x7D649000)
    assert (parsed.oem_id, parsed.cc_subtype, parsed.reserved) == ("INTEL", 0, 0x2020)


BAD = {
    "another table": (table(signature=b"TPM2"), "wanted 56 and 'CCEL'"),
    "length 57": (table(length=57), "length 57"),
    "a byte more": (table() + b"\0", "57 bytes"),
    "a byte less": (table()[:-1], "55 bytes"),
    "revision 2": (table(revision=2), "revision 2, wanted 1"),
    "AMD SEV": (table(cc_type=1), r"CC type 1 \(AMD SEV\), wanted 2"),
    "unknown type": (table(cc_type=9), r"CC type 9 \(unknown\)"),
    "checksum": (table(checksum=1), "add up to 0x01, wanted 0"),
    "no area": (table(area=(0, 0x1000)), "log area of 0 bytes"),
    "no address": (table(area=(0x1000, 0)), "at 0x0"),
    "empty": (b"", "beyond the end"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_other_tables_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        parse_ccel_table(data)


@pytest.mark.parametrize("position", range(56))
def test_no_byte_can_be_changed_unnoticed(position: int) -> None:
    data = bytearray(table())
    data[position] ^= 0x41
    with pytest.raises(DocumentError):
        parse_ccel_table(bytes(data))


def test_a_log_fits_its_area_or_is_not_the_one_that_the_table_names() -> None:
    parsed = parse_ccel_table(table(area=(100, 0x1000)))
    check_log_area(parsed, bytes(100))
    check_log_area(parsed, bytes(60))
    with pytest.raises(DocumentError, match="101 bytes, the CCEL table names an area of 100"):
        check_log_area(parsed, bytes(101))
