"""MRTD against a second, slow implementation written straight from `measurement.md` 3.1."""

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure import PageOrder, SectionType, mrtd_for, mrtd_stream_length, parse_tdvf
from tests.fakes.boot_files import (
    BFV,
    CFV,
    MR_EXTEND,
    PAGE_AUG,
    PAYLOAD,
    PERM_MEM,
    SECTIONS_MIGTD,
    SECTIONS_S,
    SECTIONS_TD_SHIM,
    TEMP_MEM,
    Firmware,
)


def record(name: bytes, address: int) -> bytes:
    return name.ljust(16, b"\0") + address.to_bytes(8, "little") + bytes(104)


def slow_stream(firmware: bytes, page_order: PageOrder) -> Iterator[bytes]:
    for section in parse_tdvf(firmware).sections:
        raw = section.data(firmware) + bytes(max(section.memory_size - section.raw_size, 0))
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
    for kind in (BFV, draw(st.sampled_from([CFV, TEMP_MEM, PAYLOAD])), draw(st.sampled_from([TEMP_MEM, PERM_MEM]))):
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


@pytest.mark.parametrize("page_order", PageOrder)
@pytest.mark.parametrize("sections", [SECTIONS_TD_SHIM, SECTIONS_MIGTD], ids=["td-shim", "MigTD"])
def test_an_image_of_td_shim_gives_the_slow_stream(
    sections: tuple[tuple[int, int, int, int, int, int], ...], page_order: PageOrder
) -> None:
    image = Firmware(sections=sections)
    expected = hashlib.sha384(b"".join(slow_stream(image.encode(), page_order))).digest()
    assert mrtd_for(image.encode(), page_order) == expected


# code that ends before the page with the metadata, so that firmware with other metadata has the same MRTD
CODE = (0x2000, 0xD000, 0xFFFF2000, 0xD000, BFV, MR_EXTEND)


def with_sections(*sections: tuple[int, int, int, int, int, int]) -> bytes:
    return Firmware(sections=[CODE, *SECTIONS_S[1:], *sections]).encode()


@pytest.mark.parametrize("page_order", PageOrder)
def test_memory_that_is_augmented_does_not_count(page_order: PageOrder) -> None:
    augmented = with_sections((0, 0, 0x5000000, 0x100000, PERM_MEM, PAGE_AUG))
    added = with_sections((0, 0, 0x5000000, 0x100000, PERM_MEM, 0))
    assert mrtd_for(augmented, page_order) == mrtd_for(with_sections(), page_order)
    assert mrtd_for(added, page_order) != mrtd_for(with_sections(), page_order)


@pytest.mark.parametrize("page_order", PageOrder)
def test_what_the_vmm_writes_stands_in_for_the_file(page_order: PageOrder) -> None:
    own = with_sections((0x2000, 0x1800, 0x1000000, 0x2000, PAYLOAD, MR_EXTEND))
    none = with_sections((0, 0, 0x1000000, 0x2000, PAYLOAD, MR_EXTEND))
    written = {SectionType.PAYLOAD: own[0x2000:0x3800]}
    assert mrtd_for(none, page_order, written=written) == mrtd_for(own, page_order)
    assert mrtd_for(none, page_order) != mrtd_for(own, page_order)


def test_written_data_must_have_a_section_with_room() -> None:
    firmware = with_sections((0, 0, 0x1000000, 0x1000, PAYLOAD, 0))
    mrtd_for(firmware, PageOrder.SINGLE_PASS, written={SectionType.PAYLOAD: bytes(0x1000)})
    with pytest.raises(DocumentError, match="4097 bytes for one PAYLOAD section, found 1 of 4096"):
        mrtd_for(firmware, PageOrder.SINGLE_PASS, written={SectionType.PAYLOAD: bytes(0x1001)})
    with pytest.raises(DocumentError, match="found 0 of 0"):
        mrtd_for(firmware, PageOrder.SINGLE_PASS, written={SectionType.PAYLOAD_PARAM: b""})
    with pytest.raises(DocumentError, match="found 3 of"):
        mrtd_for(firmware, PageOrder.SINGLE_PASS, written={SectionType.TEMP_MEM: b""})


@pytest.mark.parametrize("page_order", PageOrder)
def test_a_vmm_that_extends_every_section_ignores_attributes_but_page_aug(page_order: PageOrder) -> None:
    """`measurement.md` 3.3: the same as if the metadata had asked for it."""
    static = (0, 0, 0x5000000, 0x1000, PERM_MEM, PAGE_AUG)
    asked = [CODE, *((*section[:5], MR_EXTEND) for section in SECTIONS_S[1:]), static]
    expected = mrtd_for(Firmware(sections=asked).encode(), page_order)
    assert mrtd_for(with_sections(static), page_order, every_section=True) == expected
    assert mrtd_for(with_sections(static), page_order) != expected
