"""HOB lists: what is encoded, and that nothing but a list is accepted (UEFI PI 1.8, volume 3, chapter 5)."""

import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure.firmware.hob import (
    END_OF_LIST,
    SYSTEM_MEMORY,
    GuidHob,
    Hob,
    ResourceHob,
    encode_hob_list,
    memory_hob,
    parse_hob_list,
)

NAME = uuid.UUID("6a0c5870-d4ed-44f4-a135-dd238b6f0c8d")
U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)
HOBS = st.lists(
    st.one_of(
        st.builds(ResourceHob, U32, U32, U64, U64),
        st.builds(GuidHob, st.sampled_from([NAME, uuid.UUID(int=1)]), st.binary(max_size=20)),
    ),
    max_size=3,
)
SMALL = encode_hob_list([memory_hob(SYSTEM_MEMORY, 0, 4096), GuidHob(NAME, b"table")], address=0, counts_end=True)
WHOLE = SMALL + END_OF_LIST


@given(HOBS, st.booleans())
def test_what_is_encoded_can_be_read(hobs: list[Hob], counts_end: bool) -> None:
    encoded = encode_hob_list(hobs, address=0x809000, counts_end=counts_end) + END_OF_LIST
    parsed = parse_hob_list(encoded)
    assert parsed.hobs == tuple(hobs)
    assert parsed.end_address == 0x809000 + len(encoded) - (0 if counts_end else len(END_OF_LIST))


def test_a_range_is_written_as_start_and_length() -> None:
    assert memory_hob(SYSTEM_MEMORY, 0x1000, 0x3000) == ResourceHob(SYSTEM_MEMORY, 7, 0x1000, 0x2000)


def test_every_hob_begins_on_eight_bytes() -> None:
    assert struct.unpack_from("<HH", SMALL, 56 + 48) == (4, 24 + 5)
    assert len(SMALL) == 56 + 48 + 32
    assert SMALL.endswith(b"table\0\0\0")


def test_data_that_one_hob_cannot_hold_is_refused() -> None:
    encode_hob_list([GuidHob(NAME, bytes(0xFFF8 - 24))], address=0, counts_end=True)
    with pytest.raises(DocumentError, match=r"65505 bytes of data, at most 65504 fit"):
        encode_hob_list([GuidHob(NAME, bytes(0xFFF8 - 23))], address=0, counts_end=True)


def changed(offset: int, value: bytes) -> bytes:
    return WHOLE[:offset] + value + WHOLE[offset + len(value) :]


REFUSED = {
    "nothing": (b"", "PHIT HOB"),
    "no PHIT": (WHOLE[56:], "PHIT HOB"),
    "PHIT of another version": (changed(8, b"\x08"), "PHIT HOB"),
    "PHIT with memory": (changed(24, b"\1"), "PHIT HOB"),
    "no end": (SMALL, "HOB type"),
    "end of another length": (SMALL + struct.pack("<HHI", 0xFFFF, 16, 0), "not the end-of-list HOB alone"),
    "end with something reserved": (SMALL + struct.pack("<HHI", 0xFFFF, 8, 1), "not the end-of-list HOB alone"),
    "bytes after the end": (WHOLE + b"\0", "not the end-of-list HOB alone"),
    "resource of 40 bytes": (changed(58, b"\x28"), "type 0x3 and 40 bytes"),
    "resource with an owner": (changed(64, b"\1"), "type 0x3"),
    "resource with something reserved": (changed(60, b"\1"), "type 0x3"),
    "unknown type": (changed(56, b"\2"), "type 0x2"),
    "second PHIT": (changed(56, b"\1"), "type 0x1"),
    "GUID HOB without room for its GUID": (changed(106, b"\x17"), "type 0x4 and 23 bytes"),
    "GUID HOB of length 0": (changed(106, b"\0"), "type 0x4 and 0 bytes"),
    "GUID HOB with something reserved": (changed(108, b"\1"), "type 0x4"),
    "GUID HOB beyond the end": (changed(106, b"\xff\xff"), "beyond the end"),
    "padding that is not zero": (changed(56 + 48 + 31, b"\1"), "padding"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_list_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        parse_hob_list(data)


@given(st.integers(0, len(WHOLE) - 1))
def test_a_truncated_list_is_refused(size: int) -> None:
    with pytest.raises(DocumentError):
        parse_hob_list(WHOLE[:size])


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=4))
def test_a_changed_list_is_refused_or_encodes_to_itself(offset: int, value: bytes) -> None:
    data = (WHOLE[:offset] + value + WHOLE[offset + len(value) :])[: len(WHOLE)]
    try:
        parsed = parse_hob_list(data)
    except DocumentError:
        return
    again = encode_hob_list(parsed.hobs, address=0, counts_end=True) + END_OF_LIST
    assert again[56:] == data[56:]


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_hob_list(data)
