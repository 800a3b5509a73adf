"""dstack's HOB witness (`measurement.md` 4.6)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure import parse_tdvf, td_hob_list
from builder.measure.dstack.td_hob_witness import encode_td_hob_witness, parse_td_hob_witness
from tests.fakes.boot_files import Firmware

S2 = bytes.fromhex("80100904000609020b021010")


def test_the_witness_of_layout_s2_names_its_ranges() -> None:
    metadata = parse_td_hob_witness(S2)
    assert [(section.address, section.memory_size) for section in metadata.sections] == [
        (0x800000, 0x6000),
        (0x809000, 0x2000),
        (0x80B000, 0x2000),
        (0x810000, 0x10000),
    ]
    assert metadata.td_hob.address == 0x809000


def test_it_is_written_as_it_was_read() -> None:
    assert encode_td_hob_witness(parse_td_hob_witness(S2)) == S2


@pytest.mark.parametrize("memory", [1 << 30, 2 << 30, 3 << 30, 64 << 30])
def test_the_hob_list_follows_from_the_witness_as_from_the_firmware(memory: int) -> None:
    firmware = parse_tdvf(Firmware().encode())
    assert td_hob_list(parse_td_hob_witness(encode_td_hob_witness(firmware)), memory) == td_hob_list(firmware, memory)


@pytest.mark.parametrize(
    ("witness", "message"),
    [
        (b"", "0 numbers"),
        (S2[:-1], "numbers"),
        (S2 + b"\1", "numbers"),
        (S2[:1], "within a number"),
        (b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01" + S2[2:], "too large"),
        (b"\xff" * 10, "too large"),
        (b"\x80\x90\x00" + S2[2:], "too long a form"),
        (bytes.fromhex("80100900"), "0 ranges"),
        (bytes.fromhex("8010090201060902"), "the first at the base page"),
        (bytes.fromhex("8010090200060900"), "empty"),
        (bytes.fromhex("80100902000a0902"), "overlap"),
        (bytes.fromhex("801009030006100409020b02"), "numbers"),
        (bytes.fromhex("80100903000610040902"), "not sorted"),
        (bytes.fromhex("8010080200060902"), "no range starts"),
        (bytes.fromhex("ffffffffff1f000100ffff03"), "52 bits"),
    ],
    ids=lambda value: value.hex() if isinstance(value, bytes) else value,
)
def test_what_no_firmware_has_is_refused(witness: bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        parse_td_hob_witness(witness)


def test_more_ranges_than_a_firmware_has_sections_are_refused() -> None:
    ranges = b"".join(bytes([2 * number & 0x7F | 0x80, number >> 6, 1]) for number in range(64, 129))
    with pytest.raises(DocumentError, match="65 ranges"):
        parse_td_hob_witness(bytes.fromhex("801000") + bytes([65]) + ranges)


def test_a_witness_longer_than_all_numbers_it_can_hold_is_refused_at_once() -> None:
    with pytest.raises(DocumentError, match="10485760 bytes, wanted at most"):
        parse_td_hob_witness(bytes(10 << 20))


@given(st.binary(max_size=40))
def test_hostile_bytes_are_refused_or_stand_for_themselves(data: bytes) -> None:
    try:
        metadata = parse_td_hob_witness(data)
    except DocumentError:
        return
    assert encode_td_hob_witness(metadata) == data
