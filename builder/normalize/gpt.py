"""Disk images with a GUID partition table: every byte follows from the partitions and their GUIDs (ND-E04).

UEFI specification 5.2 and 5.3: protective MBR, header and entries at the start, the same again at the end. Sectors of
512 bytes, 128 entries, partitions on whole MiB.
"""

import struct
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from builder.errors import DocumentError

SECTOR = 512
ALIGNMENT = 1 << 20

# https://uapi-group.org/specifications/specs/discoverable_partitions_specification/
ESP_TYPE = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
ROOT_X86_64_TYPE = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
READ_ONLY = 1 << 60
NO_AUTO = 1 << 63  # nothing mounts it by itself

_ENTRIES = 128
_ENTRY_SIZE = 128
_TABLE_SECTORS = _ENTRIES * _ENTRY_SIZE // SECTOR
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_LONGEST_NAME = 36  # of UTF-16, in which some characters are two
_LARGEST_MBR_SIZE = (1 << 32) - 1


@dataclass(frozen=True)
class NewPartition:
    """A partition to be: `size` in bytes of what lies in it, `name` at most 36 characters."""

    type_guid: uuid.UUID
    guid: uuid.UUID
    name: str
    size: int
    attributes: int = 0


@dataclass(frozen=True)
class DiskLayout:
    """A disk without the content of its partitions: `head` at byte 0, contents at `starts`, `tail` at `tail_start`.

    All offsets in bytes; whatever lies between is zero; the disk ends with `tail`.
    """

    head: bytes
    starts: tuple[int, ...]
    tail_start: int
    tail: bytes

    @property
    def size(self) -> int:
        """Bytes of the whole disk."""
        return self.tail_start + len(self.tail)


def layout_disk(guid: uuid.UUID, partitions: Sequence[NewPartition]) -> DiskLayout:
    """The layout of a disk with these partitions in this order. DocumentError for none, too many, or an empty one."""
    if not 1 <= len(partitions) <= _ENTRIES:
        raise DocumentError(f"GPT: {len(partitions)} partitions, wanted 1 to {_ENTRIES}")
    starts = []
    end = ALIGNMENT
    entries = b""
    for partition in partitions:
        if partition.size < 1:
            raise DocumentError(f"GPT: partition {partition.name!r} has no bytes")
        starts.append(end)
        following = end + _aligned(partition.size)
        entries += _entry(partition, first=end // SECTOR, last=following // SECTOR - 1)
        end = following
    entries = entries.ljust(_ENTRIES * _ENTRY_SIZE, b"\0")
    last = end // SECTOR + _TABLE_SECTORS  # the backup of the header is the last sector, its entries are before it
    primary = _header(guid, entries, own=1, other=last, array=2, last_usable=end // SECTOR - 1)
    backup = _header(guid, entries, own=last, other=1, array=end // SECTOR, last_usable=end // SECTOR - 1)
    return DiskLayout(_protective_mbr(last) + primary + entries, tuple(starts), end, entries + backup)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _entry(partition: NewPartition, *, first: int, last: int) -> bytes:
    name = partition.name.encode("utf-16-le")
    if len(name) > 2 * _LONGEST_NAME:
        raise DocumentError(f"GPT: name {partition.name!r}: wanted at most {_LONGEST_NAME} characters")
    guids = partition.type_guid.bytes_le + partition.guid.bytes_le
    place = struct.pack("<QQQ", first, last, partition.attributes)
    return (guids + place + name).ljust(_ENTRY_SIZE, b"\0")


def _header(guid: uuid.UUID, entries: bytes, *, own: int, other: int, array: int, last_usable: int) -> bytes:
    first_usable = 2 + _TABLE_SECTORS
    fields = (own, other, first_usable, last_usable, guid.bytes_le, array, _ENTRIES, _ENTRY_SIZE, zlib.crc32(entries))
    unsigned = _HEADER.pack(b"EFI PART", 0x00010000, _HEADER.size, 0, 0, *fields)
    return _HEADER.pack(b"EFI PART", 0x00010000, _HEADER.size, zlib.crc32(unsigned), 0, *fields).ljust(SECTOR, b"\0")


def _protective_mbr(last: int) -> bytes:
    """One partition of type 0xEE over the whole disk, cylinder, head and sector as the specification has them."""
    record = struct.pack("<4sB3sII", bytes((0, 0, 2, 0)), 0xEE, b"\xff\xff\xff", 1, min(last, _LARGEST_MBR_SIZE))
    return bytes(446) + record + bytes(48) + b"\x55\xaa"
