"""TDVF metadata: what is read, and everything that must be refused (`measurement.md` 2)."""

import dataclasses
import struct

import pytest

from builder.errors import DocumentError
from builder.measure import SectionType, parse_tdvf
from builder.measure.firmware.tdvf import has_guided_table
from tests.fakes.boot_files import (
    BFV,
    CFV,
    FOOTER,
    MR_EXTEND,
    OTHER_ENTRY,
    PAGE_AUG,
    PERM_MEM,
    SECTIONS_MIGTD,
    SECTIONS_S,
    SECTIONS_TD_SHIM,
    TD_HOB,
    TD_INFO,
    TD_PARAMS,
    TEMP_MEM,
    Firmware,
)

GOOD_BFV, GOOD_CFV, *_, GOOD_HOB, _ = SECTIONS_S


def changed(index: int, **fields: int) -> Firmware:
    names = ("offset", "raw", "address", "memory", "type", "attributes")
    section = dict(zip(names, SECTIONS_S[index], strict=True)) | fields
    sections = [*SECTIONS_S]
    sections[index] = tuple(section[name] for name in names)  # type: ignore[call-overload]
    return Firmware(sections=sections)


def test_sections_come_in_table_order() -> None:
    metadata = parse_tdvf(Firmware().encode())
    assert [section.type for section in metadata.sections] == [BFV, CFV, TEMP_MEM, TEMP_MEM, TD_HOB, TEMP_MEM]
    assert metadata.td_hob.address == 0x809000
    assert [section.extends for section in metadata.sections] == [True, False, False, False, False, False]


def test_a_section_gives_its_bytes_of_the_file() -> None:
    firmware = Firmware().encode()
    (store,) = parse_tdvf(firmware).of_type(SectionType.CFV)
    assert store.data(firmware) == firmware[:0x2000]


def test_entries_of_other_kinds_are_skipped() -> None:
    entries = [(OTHER_ENTRY, bytes(size)) for size in (0, 1, 100)]
    assert parse_tdvf(Firmware(entries=entries).encode()) == parse_tdvf(Firmware().encode())


def test_an_image_of_td_shim_has_no_table_but_a_distance() -> None:
    size = 0x10000
    without_table = Firmware(footer=OTHER_ENTRY, extra={size - 0x20: struct.pack("<I", 0x1000 - 16)})
    assert parse_tdvf(without_table.encode()) == parse_tdvf(Firmware().encode())


def test_the_distance_may_count_from_the_beginning_as_td_shim_specifies() -> None:
    image = Firmware(sections=SECTIONS_TD_SHIM)
    assert parse_tdvf(image.with_pointer()) == parse_tdvf(image.encode())


def test_two_descriptors_that_one_distance_may_mean_are_refused() -> None:
    image = bytearray(Firmware(sections=SECTIONS_TD_SHIM).with_pointer())
    distance = 0x10000 - 0x1000 + 16
    other = len(image) - distance
    image[other - 16 : other + 16] = image[distance - 16 : distance + 16]
    with pytest.raises(DocumentError, match="descriptors at both"):
        parse_tdvf(bytes(image))


def test_a_table_is_not_passed_over_for_a_distance() -> None:
    """Cloud Hypervisor would: it takes a table without the TDX entry for none."""
    image = Firmware(tdx_entry=OTHER_ENTRY, extra={0x10000 - 0x20: struct.pack("<I", 0xF010)}).encode()
    with pytest.raises(DocumentError, match="no TDX entry"):
        parse_tdvf(image)


def test_an_image_of_td_shim_has_sections_that_ovmf_has_not() -> None:
    metadata = parse_tdvf(Firmware(sections=SECTIONS_TD_SHIM).encode())
    assert [section.type.name for section in metadata.sections[-3:]] == ["PAYLOAD", "PAYLOAD_PARAM", "TD_INFO"]
    assert metadata.td_hob.address == 0x800000


def test_memory_in_perm_mem_sections_stands_in_for_a_td_hob() -> None:
    metadata = parse_tdvf(Firmware(sections=SECTIONS_MIGTD).encode())
    assert [section.augments for section in metadata.of_type(SectionType.PERM_MEM)] == [True, True]
    with pytest.raises(DocumentError, match="no TD_HOB section"):
        _ = metadata.td_hob


def test_sections_without_memory_are_read_where_td_shim_has_them() -> None:
    sections = [*SECTIONS_S, (0x9000, 0x30, 0, 0, TD_INFO, 0), (0x9100, 0x400, 0, 0, TD_PARAMS, 0)]
    assert parse_tdvf(Firmware(sections=sections).encode()).sections[:6] == parse_tdvf(Firmware().encode()).sections


@pytest.mark.parametrize(
    ("firmware", "found"),
    [(Firmware().encode(), True), (Firmware().with_pointer(), False), (b"", False), (FOOTER.bytes_le, False)],
)
def test_a_guided_table_is_seen(firmware: bytes, found: bool) -> None:
    assert has_guided_table(firmware) is found


def test_the_last_addresses_of_52_bits_may_be_used() -> None:
    assert parse_tdvf(changed(1, address=(1 << 52) - 0x2000).encode()).sections[1].end == 1 << 52


def test_page_aug_is_read() -> None:
    assert parse_tdvf(changed(2, attributes=PAGE_AUG).encode()).sections[2].augments


REFUSED = {
    "empty file": (b"", "too small"),
    "no table and no distance": (bytes(0x10000), "no TDVF metadata"),
    "footer only": (bytes(100) + FOOTER.bytes_le + bytes(32), "GUIDed table is 0 bytes long"),
    "table larger than the file": (Firmware(table_length=0xFFF0, size=0x8000, sections=[]).encode(), "GUIDed table"),
    "entry of length 0": (Firmware(extra={0x10000 - 68: bytes(2)}).encode(), "0 bytes long and leaves the table"),
    "entry of length 17": (Firmware(extra={0x10000 - 68: b"\x11\0"}).encode(), "17 bytes long and leaves the table"),
    "entry that crosses the table": (
        Firmware(extra={0x10000 - 68: b"\xff\0"}).encode(),
        "255 bytes long and leaves the table",
    ),
    "no TDX entry": (Firmware(tdx_entry=OTHER_ENTRY).encode(), "no TDX entry"),
    "distance beyond the file": (Firmware(distance=0x10001).encode(), "no TDVF metadata"),
    "distance of zero": (Firmware(distance=0).encode(), "no TDVF metadata"),
    "other signature": (Firmware(signature=b"TDVX").encode(), "signature"),
    "other descriptor GUID": (Firmware(descriptor_guid=OTHER_ENTRY).encode(), "GUID before"),
    "version 2": (Firmware(version=2).encode(), "version 2"),
    "no sections": (Firmware(sections=[]).encode(), "0 TDVF sections"),
    "65 sections": (Firmware(count=65).encode(), "65 TDVF sections"),
    "sections beyond the file": (Firmware(distance=40, extra={0x10000 - 56: b""}).encode(), "signature"),
    "unknown type": (changed(1, type=8).encode(), "unknown type 8"),
    "type 9": (changed(1, type=9).encode(), "unknown type 9"),
    "unknown attribute": (changed(1, attributes=4).encode(), "unknown attributes 0x4"),
    "misaligned address": (changed(1, address=0xFFFF0800).encode(), "not on 4096-byte pages"),
    "misaligned size": (changed(1, memory=0x2001).encode(), "not on 4096-byte pages"),
    "TD_INFO beyond the file": (
        Firmware(sections=[*SECTIONS_S, (0xFFF0, 0x11, 0, 0, TD_INFO, 0)]).encode(),
        "beyond the file",
    ),
    "TD_INFO with memory for less than its data": (
        Firmware(sections=[*SECTIONS_S, (0, 0x1001, 0x900000, 0x1000, TD_INFO, 0)]).encode(),
        "bytes of data for",
    ),
    "TD_PARAMS with memory": (
        Firmware(sections=[*SECTIONS_S, (0, 0x10, 0x900000, 0x1000, TD_PARAMS, 0)]).encode(),
        "unknown type 8",
    ),
    "two TD_HOBs and PERM_MEM": (
        Firmware(
            sections=[*SECTIONS_S, (0, 0, 0x900000, 0x1000, TD_HOB, 0), (0, 0, 0xA00000, 0x1000, PERM_MEM, 2)]
        ).encode(),
        "2 TD_HOB",
    ),
    "pointer to no descriptor": (Firmware().with_pointer(0x2000), "signature"),
    "pointer beyond the file": (Firmware().with_pointer(0x20000), "no TDVF metadata"),
    "address beyond 52 bits": (changed(1, address=(1 << 64) - 4096).encode(), "beyond 52 bits"),
    "address just beyond 52 bits": (changed(1, address=(1 << 52) - 4096).encode(), "beyond 52 bits"),
    "more data than memory": (changed(1, memory=0x1000).encode(), "bytes of data for"),
    "no BFV": (Firmware(sections=SECTIONS_S[1:]).encode(), "no BFV"),
    "no TD_HOB": (Firmware(sections=SECTIONS_S[:4]).encode(), "0 TD_HOB sections"),
    "two TD_HOBs": (Firmware(sections=[*SECTIONS_S, (0, 0, 0x900000, 0x1000, TD_HOB, 0)]).encode(), "2 TD_HOB"),
    "overlap": (changed(3, address=0x812000).encode(), "overlap"),
    "duplicate": (Firmware(sections=[*SECTIONS_S, SECTIONS_S[2]]).encode(), "overlap"),
    "terabytes of pages": (changed(5, memory=1 << 40, address=1 << 41).encode(), "added pages"),
}


@pytest.mark.parametrize(("firmware", "reason"), REFUSED.values(), ids=REFUSED)
def test_bad_metadata_is_refused(firmware: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        parse_tdvf(firmware)


def test_a_code_only_file_is_refused_with_the_reason() -> None:
    whole = Firmware().encode()
    with pytest.raises(DocumentError, match="CODE-only file") as refusal:
        parse_tdvf(whole[0x2000:])
    assert refusal.value.hint is not None
    assert "whole firmware" in refusal.value.hint


def test_augmented_memory_may_be_large() -> None:
    large = (0, 0, 1 << 32, 1 << 40, TEMP_MEM, PAGE_AUG)
    assert len(parse_tdvf(Firmware(sections=[*SECTIONS_S, large]).encode()).sections) == 7


def test_augmented_memory_that_is_extended_may_not() -> None:
    large = (0, 0, 1 << 32, 1 << 40, TEMP_MEM, PAGE_AUG | MR_EXTEND)
    with pytest.raises(DocumentError, match="of added pages, more than 0x40000000"):
        parse_tdvf(Firmware(sections=[*SECTIONS_S, large]).encode())


@pytest.mark.parametrize("size", [0, 1, 49, 50, 0x1000, 0xEFFF, 0xFFFF])
def test_a_file_cut_at_its_start_never_gives_other_sections(size: int) -> None:
    """The table is found from the end, so what is left after cutting must be refused, not misread."""
    with pytest.raises(DocumentError):
        parse_tdvf(Firmware().encode()[-size:] if size else b"")


def test_the_attributes_of_one_section_do_not_leak_into_another() -> None:
    firmware = dataclasses.replace(Firmware(), sections=[GOOD_BFV, (*GOOD_CFV[:5], MR_EXTEND), GOOD_HOB])
    assert [section.extends for section in parse_tdvf(firmware.encode()).sections] == [True, True, False]
