"""Partition tables (`measurement.md` 6.5): what is measured of a disk, and what is refused."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure.boot.gpt import (
    EFI_SYSTEM_PARTITION,
    SECTOR_SIZES,
    encode_gpt_event,
    gpt_event,
    parse_gpt,
    parse_gpt_event,
)
from builder.model.digest import sha384_hex
from tests.fakes.efi_images import Disk, reader

DISK = Disk()


@pytest.mark.parametrize("sector_size", SECTOR_SIZES)
@pytest.mark.parametrize("entry_size", [128, 256, 4096])
def test_the_event_is_the_header_and_the_used_entries(sector_size: int, entry_size: int) -> None:
    disk = replace(DISK, sector_size=sector_size, entry_size=entry_size)
    gpt = parse_gpt(reader(disk.encode()), sector_size=sector_size)
    assert encode_gpt_event(gpt) == disk.event()
    event = gpt_event(gpt)
    assert (event.register, event.type_name) == ("rtmr1", "EV_EFI_GPT_EVENT")
    assert event.digest == sha384_hex(disk.event())


def test_partitions_say_where_they_are() -> None:
    first, second = parse_gpt(reader(DISK.encode())).partitions
    assert (first.name, first.start, first.size) == ("ESP", 2048 * 512, 2048 * 512)
    assert first.type_guid == EFI_SYSTEM_PARTITION
    assert (second.name, second.start, second.guid.int) == ("root", 4096 * 512, 2)


def test_a_header_may_be_longer_than_what_is_measured() -> None:
    disk = replace(DISK, header_size=512)
    assert encode_gpt_event(parse_gpt(reader(disk.encode()))) == disk.event()


def test_no_more_is_read_than_the_header_and_the_entries() -> None:
    asked = []

    def read(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return DISK.encode()[offset : offset + length]

    parse_gpt(read)
    assert asked == [(512, 512), (1024, 128 * 128)]


@given(position=st.integers(0, 91), bit=st.integers(0, 7))
def test_no_bit_of_the_header_can_be_changed(position: int, bit: int) -> None:
    image = bytearray(DISK.encode())
    image[512 + position] ^= 1 << bit
    with pytest.raises(DocumentError):
        parse_gpt(reader(bytes(image)))


@given(position=st.integers(0, 128 * 128 - 1), bit=st.integers(0, 7))
def test_no_bit_of_an_entry_can_be_changed_not_even_of_an_unused_one(position: int, bit: int) -> None:
    image = bytearray(DISK.encode())
    image[1024 + position] ^= 1 << bit
    with pytest.raises(DocumentError, match="CRC32 of the partition entries"):
        parse_gpt(reader(bytes(image)))


REFUSED = {
    "nothing": (b"", "GPT header: signature"),
    "no table": (bytes(34 * 512), "no EFI PART"),
    "other revision": (replace(DISK, revision=0x20000).encode(), "no EFI PART of revision 1.0"),
    "short header": (replace(DISK, header_size=91).encode(), "a header of 91 bytes"),
    "long header": (replace(DISK, header_size=513).encode(), "a header of 513 bytes"),
    "the backup": (replace(DISK, my_lba=9999).encode(), "at LBA 1"),
    "small entries": (replace(DISK, entry_size=64, names=()).encode(), "entries of 64 bytes"),
    "odd entries": (replace(DISK, entry_size=136).encode(), "entries of 136 bytes"),
    "no entries": (replace(DISK, count=0, names=()).encode(), "0 entries"),
    "a megabyte of entries and more": (replace(DISK, count=8193).encode(), "8193 entries"),
    "entries before the header": (replace(DISK, array_lba=1).encode(), "at 0x200"),
    "entries where no file reaches": (
        bytes(512) + replace(DISK, array_lba=1 << 63).header().ljust(512, b"\0"),
        "at 0x100",
    ),
    "cut short": (DISK.encode()[:-1], "16384 bytes of entries at 0x400, 16383 are there"),
}


@pytest.mark.parametrize(("image", "reason"), REFUSED.values(), ids=REFUSED)
def test_broken_tables_are_refused(image: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        parse_gpt(reader(image))


def test_sectors_of_other_sizes_are_refused() -> None:
    with pytest.raises(DocumentError, match="1024 bytes, wanted 512 or 4096"):
        parse_gpt(reader(DISK.encode()), sector_size=1024)
    with pytest.raises(DocumentError, match="no EFI PART"):
        parse_gpt(reader(DISK.encode()), sector_size=4096)


@pytest.mark.parametrize("disk", [DISK, Disk(names=()), Disk(entry_size=256), Disk(header_size=200)])
def test_event_data_reads_back_as_it_was(disk: Disk) -> None:
    assert parse_gpt_event(disk.event()) == parse_gpt(reader(disk.encode()))


EVENT = DISK.event()
UNUSED = struct.pack("<Q", 3)
BROKEN = {
    "nothing": (b"", "header at offset"),
    "cut short": (EVENT[:-1], "2 of 128 entries"),
    "too long": (EVENT + b"\0", "2 of 128 entries"),
    "no count": (EVENT[:95], "number of partitions"),
    "more than there can be": (EVENT[:92] + b"\xff" * 8 + EVENT[100:], "of 128 entries"),
    "an unused entry": (EVENT[:92] + UNUSED + EVENT[100:] + bytes(128), "1 of them unused"),
    "another header": (EVENT[:40] + b"\1" + EVENT[41:], "CRC32 of the header"),
}


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_event_data_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        parse_gpt_event(data)


@given(data=st.binary(max_size=400), start=st.integers(0, 120))
def test_whatever_a_log_shows_is_read_back_or_refused(data: bytes, start: int) -> None:
    hostile = EVENT[:start] + data
    try:
        parsed = parse_gpt_event(hostile)
    except DocumentError:
        return
    assert encode_gpt_event(parsed) == hostile
