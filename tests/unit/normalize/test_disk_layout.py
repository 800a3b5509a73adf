"""Disk images: every byte of the partition table follows from the partitions, and firmware and tools can read it."""

import uuid
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure.boot.gpt import parse_gpt
from builder.normalize.gpt import ALIGNMENT, ESP_TYPE, NO_AUTO, READ_ONLY, DiskLayout, NewPartition, layout_disk
from builder.normalize.guid import derived_guid

DISK = uuid.UUID(int=7)
MIB = 1 << 20


def partition(name: str = "ESP", size: int = 1, number: int = 1) -> NewPartition:
    return NewPartition(ESP_TYPE, uuid.UUID(int=number), name, size, READ_ONLY | NO_AUTO)


def read_of(layout: DiskLayout) -> Callable[[int, int], bytes]:
    image = layout.head.ljust(layout.tail_start, b"\0") + layout.tail
    return lambda offset, length: image[offset : offset + length]


@given(st.lists(st.integers(1, 9 * MIB), min_size=1, max_size=6))
def test_what_was_laid_out_is_what_is_parsed(sizes: list[int]) -> None:
    wanted = [partition(f"part {index}", size, index + 1) for index, size in enumerate(sizes)]
    layout = layout_disk(DISK, wanted)
    found = parse_gpt(read_of(layout)).partitions
    assert [(each.name, each.guid, each.type_guid) for each in found] == [
        (each.name, each.guid, each.type_guid) for each in wanted
    ]
    assert tuple(each.start for each in found) == layout.starts
    for each, size in zip(found, sizes, strict=True):
        assert each.start % ALIGNMENT == 0
        assert size <= each.size < size + ALIGNMENT
    ends = [each.start + each.size for each in found]
    assert list(layout.starts) == [ALIGNMENT, *ends[:-1]]
    assert layout.tail_start == ends[-1]


def test_the_backup_says_the_same_and_where_it_is() -> None:
    layout = layout_disk(DISK, [partition(size=3 * MIB)])
    entries, backup = layout.tail[:-512], layout.tail[-512:]
    assert layout.head[1024:] == entries
    assert int.from_bytes(backup[24:32], "little") == layout.size // 512 - 1
    assert int.from_bytes(backup[32:40], "little") == 1
    assert int.from_bytes(backup[72:80], "little") * 512 == layout.tail_start
    unsigned = backup[:16] + bytes(4) + backup[20:92]
    assert int.from_bytes(backup[16:20], "little") == zlib.crc32(unsigned)
    assert backup[40:72] == layout.head[512 + 40 : 512 + 72]  # usable sectors and GUID


def test_the_master_boot_record_keeps_everybody_else_out() -> None:
    head = layout_disk(DISK, [partition()]).head
    assert head[510:512] == b"\x55\xaa"
    assert head[450] == 0xEE
    assert not any(head[:446])
    assert not any(head[462:510])


def test_attributes_are_those_asked_for() -> None:
    layout = layout_disk(DISK, [partition()])
    (found,) = parse_gpt(read_of(layout)).partitions
    assert int.from_bytes(found.entry[48:56], "little") == (1 << 60) | (1 << 63)


@pytest.mark.parametrize(
    ("partitions", "message"),
    [
        ([], "0 partitions"),
        ([partition()] * 129, "129 partitions"),
        ([partition(size=0)], "'ESP' has no bytes"),
        ([partition("n" * 37)], "at most 36 characters"),
        ([partition("\N{LOCK}" * 19)], "at most 36 characters"),  # each is two in UTF-16
    ],
)
def test_a_table_that_cannot_be_is_refused(partitions: list[NewPartition], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        layout_disk(DISK, partitions)


def test_guids_are_derived_and_of_their_names_alone() -> None:
    assert derived_guid("esp", "0" * 64) == derived_guid("esp", "0" * 64)
    assert len({derived_guid(*names) for names in [("a",), ("b",), ("a", "b"), ("ab",)]}) == 4
    assert derived_guid("a").version == 5
