"""The TD HOB list (`measurement.md` 4.1); its digests are checked in tests/vectors."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure import TdvfMetadata, parse_tdvf, td_hob_list
from tests.fakes.boot_files import SECTIONS_MIGTD, SECTIONS_S, SECTIONS_S2, SECTIONS_S3, TD_HOB, TEMP_MEM, Firmware

LAYOUT_S = parse_tdvf(Firmware().encode())
LAYOUTS = {"S": LAYOUT_S} | {
    name: parse_tdvf(Firmware(sections=sections).encode())
    for name, sections in (("S2", SECTIONS_S2), ("S3", SECTIONS_S3))
}
EVERY_LAYOUT = pytest.mark.parametrize("metadata", LAYOUTS.values(), ids=LAYOUTS)
MIB = 1 << 20


def resources(hobs: bytes) -> list[tuple[int, int, int]]:
    """(resource type, start, end) of each resource HOB."""
    entries = [struct.unpack("<HHI16xIIQQ", hobs[at : at + 48]) for at in range(56, len(hobs), 48)]
    assert all(entry[:3] == (3, 48, 0) and entry[4] == 7 for entry in entries)
    return [(kind, start, start + size) for _, _, _, kind, _, start, size in entries]


MEBIBYTES = st.one_of(
    st.integers(min_value=9, max_value=1 << 24),
    st.sampled_from(
        [2047, 2048, 2049, 2815, 2816, 2817, 3071, 3072, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, 1 << 24]
    ),
)


@EVERY_LAYOUT
@given(mebibytes=MEBIBYTES)
def test_the_ranges_are_sorted_and_cover_all_memory_once(metadata: TdvfMetadata, mebibytes: int) -> None:
    ranges = resources(td_hob_list(metadata, mebibytes * MIB))
    assert ranges == sorted(ranges, key=lambda each: each[1])
    assert all(before[2] <= after[1] for before, after in pairwise(ranges))
    assert sum(end - start for _, start, end in ranges) == mebibytes * MIB
    assert all(start < end for _, start, end in ranges)


@EVERY_LAYOUT
@given(pages=st.integers(min_value=0x821, max_value=1 << 40))
def test_no_range_lies_where_the_machine_has_no_memory(metadata: TdvfMetadata, pages: int) -> None:
    memory = pages * 4096
    below = memory if memory < 2816 * MIB else 2048 * MIB
    for _, start, end in resources(td_hob_list(metadata, memory)):
        assert end <= below or (start >= 1 << 32 and end <= (1 << 32) + memory - below)


@given(mebibytes=MEBIBYTES)
@EVERY_LAYOUT
def test_exactly_the_sections_of_the_firmware_are_accepted(metadata: TdvfMetadata, mebibytes: int) -> None:
    accepted = [each[1:] for each in resources(td_hob_list(metadata, mebibytes * MIB)) if each[0] == 0]
    sections = [each for each in metadata.sections if each.type in (TD_HOB, TEMP_MEM)]
    assert accepted == sorted((section.address, section.end) for section in sections)


def test_adjacent_sections_are_not_merged() -> None:
    assert [each for each in resources(td_hob_list(LAYOUTS["S2"], 1024 * MIB)) if 0x806000 <= each[1] < 0x820000] == [
        (7, 0x806000, 0x809000),
        (0, 0x809000, 0x80B000),
        (0, 0x80B000, 0x80D000),
        (7, 0x80D000, 0x810000),
        (0, 0x810000, 0x820000),
    ]


def test_every_layout_gives_another_list() -> None:
    assert len({td_hob_list(metadata, 2048 * MIB) for metadata in LAYOUTS.values()}) == 3


def test_memory_splits_at_2816_mib() -> None:
    assert resources(td_hob_list(LAYOUT_S, 2815 * MIB))[-1] == (7, 0x820000, 2815 * MIB)
    assert resources(td_hob_list(LAYOUT_S, 2816 * MIB))[-2:] == [
        (7, 0x820000, 0x80000000),
        (7, 0x100000000, 0x100000000 + 768 * MIB),
    ]


def test_the_list_ends_where_its_header_says() -> None:
    hobs = td_hob_list(LAYOUT_S, 1024 * MIB)
    assert struct.unpack_from("<Q", hobs, 48) == (0x809000 + len(hobs) + 8,)


@pytest.mark.parametrize("memory", [0, 8 * MIB, 0x820000, 1024 * MIB + 1, 1 << 53, -4096])
def test_memory_outside_the_layout_is_refused(memory: int) -> None:
    with pytest.raises(DocumentError, match="outside the firmware's layout"):
        td_hob_list(LAYOUT_S, memory)


def test_a_list_that_outgrows_its_section_is_refused() -> None:
    pages = [(0, 0, 0x900000 + 0x2000 * page, 0x1000, TEMP_MEM, 0) for page in range(60)]
    small = [section if section[4] != TD_HOB else (0, 0, 0x809000, 0x1000, TD_HOB, 0) for section in SECTIONS_S[:5]]
    metadata = parse_tdvf(Firmware(sections=[*small[:3], small[4], *pages]).encode())
    with pytest.raises(DocumentError, match="HOB list"):
        td_hob_list(metadata, 1024 * MIB)


def test_firmware_without_a_td_hob_section_gets_no_list() -> None:
    with pytest.raises(DocumentError, match="no TD_HOB section"):
        td_hob_list(parse_tdvf(Firmware(sections=SECTIONS_MIGTD).encode()), 1024 * MIB)


@pytest.mark.parametrize("kind", [TD_HOB, TEMP_MEM])
def test_an_empty_section_is_refused(kind: int) -> None:
    empty = [(*each[:3], 0, *each[4:]) if each[4] == kind else each for each in SECTIONS_S]
    with pytest.raises(DocumentError, match="section at 0x8[01]+[19]000 is empty"):
        td_hob_list(parse_tdvf(Firmware(sections=empty).encode()), 1024 * MIB)


def test_a_section_where_the_guest_has_no_memory_is_refused() -> None:
    above = [*SECTIONS_S, (0, 0, 0x90000000, 0x1000, TEMP_MEM, 0)]
    metadata = parse_tdvf(Firmware(sections=above).encode())
    assert resources(td_hob_list(metadata, 2815 * MIB))[-1] == (7, 0x90001000, 2815 * MIB)
    with pytest.raises(DocumentError, match="section ends at 0x90001000"):
        td_hob_list(metadata, 2816 * MIB)
