"""MRTD against a second, slow implementation written straight from `measurement.md` 3.1."""

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.measure import PageOrder, mrtd_for, mrtd_stream_length, parse_tdvf
from tests.fakes.boot_files import BFV, MR_EXTEND, PAGE_AUG, SECTIONS_S, TEMP_MEM, Firmware


def record(name: bytes, address: int) -> bytes:
    return name.ljust(16, b"\0") + address.to_bytes(8, "little") + bytes(104)


def slow_stream(firmware: bytes, page_order: PageOrder) -> Iterator[bytes]:
    for section in parse_tdvf(firmware).sections:
        raw = section.data(firmware) + bytes(section.memory_size - section.raw_size)
        added, extended = [], []
        for page in range(0, section.memory_size, 4096):
            added.append(b"" if section.augments else record(b"MEM.PAGE.ADD", section.address + page))
            chunks = range(page, page + 4096, 256) if section.extends else ()
            extended.append(b"".join(record(b"MR.EXTEND", section.address + at) + raw[at : at + 256] for at in chunks))
        if page_order is PageOrder.TWO_PASS:
            yield b"".join(added) + b"".join(extended)
        else:
            yield b"".join(first + second for first, second in zip(added, extended, strict=True))


PAGES = st.integers(min_value=0, max_value=70)


@st.composite
def firmwares(draw: st.DrawFn) -> Firmware:
    """The TD_HOB of layout S, and other sections of any size with any attributes and any amount of raw data."""
    sections = [SECTIONS_S[4]]
    address = 0x1000000
    for kind in (BFV, TEMP_MEM, TEMP_MEM):
        memory = draw(PAGES) * 4096
        raw = draw(st.integers(min_value=0, max_value=min(memory, 0x8000)))
        offset = draw(st.integers(min_value=0, max_value=0x7000))
        attributes = draw(st.sampled_from([0, MR_EXTEND, PAGE_AUG, MR_EXTEND | PAGE_AUG]))
        sections.append((offset, raw, address, memory, kind, attributes))
        address += memory
    return Firmware(sections=draw(st.permutations(sections)), filler=draw(st.binary(min_size=7, max_size=99)))


@given(firmwares(), st.sampled_from(PageOrder))
def test_both_page_orders_equal_the_slow_stream(made: Firmware, page_order: PageOrder) -> None:
    firmware = made.encode()
    stream = b"".join(slow_stream(firmware, page_order))
    assert mrtd_for(firmware, page_order) == hashlib.sha384(stream).digest()
    assert mrtd_stream_length(parse_tdvf(firmware)) == len(stream)


def test_the_page_orders_differ() -> None:
    firmware = Firmware().encode()
    assert mrtd_for(firmware, PageOrder.SINGLE_PASS) != mrtd_for(firmware, PageOrder.TWO_PASS)


@pytest.mark.parametrize("page_order", PageOrder)
def test_every_measured_byte_counts(page_order: PageOrder) -> None:
    first, last = 0x2000, 0xEFFF  # in BFV, outside the metadata
    plain = mrtd_for(Firmware().encode(), page_order)
    for offset in (first, last):
        assert mrtd_for(Firmware(extra={offset: b"!"}).encode(), page_order) != plain


@pytest.mark.parametrize("page_order", PageOrder)
def test_the_variable_store_is_not_measured(page_order: PageOrder) -> None:
    changed = Firmware(extra={0x100: b"keys enrolled"}).encode()
    assert mrtd_for(changed, page_order) == mrtd_for(Firmware().encode(), page_order)
