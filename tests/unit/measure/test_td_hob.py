"""The TD HOB list (`measurement.md` 4.1); its digests are checked in tests/vectors."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure import parse_tdvf, td_hob_list
from tests.fakes.boot_files import SECTIONS_S, TD_HOB, TEMP_MEM, Firmware

LAYOUT_S = parse_tdvf(Firmware().encode())
MIB = 1 << 20


def resources(hobs: bytes) -> list[tuple[int, int, int]]:
    """(resource type, start, end) of each resource HOB."""
    entries = [struct.unpack("<HHI16xIIQQ", hobs[at : at + 48]) for at in range(56, len(hobs), 48)]
    assert all(entry[:3] == (3, 48, 0) and entry[4] == 7 for entry in entries)
    return [(kind, start, start + size) for _, _, _, kind, _, start, size in entries]


@given(st.integers(min_value=9, max_value=1 << 24))
def test_the_ranges_are_sorted_and_cover_all_memory_once(mebibytes: int) -> None:
    ranges = resources(td_hob_list(LAYOUT_S, mebibytes * MIB))
    assert ranges == sorted(ranges, key=lambda each: each[1])
    assert all(before[2] <= after[1] for before, after in pairwise(ranges))
    assert sum(end - start for _, start, end in ranges) == mebibytes * MIB
    assert all(start < end for _, start, end in ranges)


@given(st.integers(min_value=9, max_value=1 << 24))
def test_exactly_the_sections_of_the_firmware_are_accepted(mebibytes: int) -> None:
    accepted = [each[1:] for each in resources(td_hob_list(LAYOUT_S, mebibytes * MIB)) if each[0] == 0]
    assert accepted == [(0x800000, 0x806000), (0x809000, 0x80B000), (0x80B000, 0x80D000), (0x811000, 0x820000)]


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
