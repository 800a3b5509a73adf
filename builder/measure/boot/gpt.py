"""GUID partition tables: what OVMF measures of the disk that it starts the first image from (`measurement.md` 6.5).

The event is made of the primary header and the used entries. A disk is never read whole: the caller gives a function
that reads a range of it, and some 17 KiB are asked for.
"""

import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.model.digest import sha384_hex
from builder.model.event import EV_EFI_GPT_EVENT, PredictedEvent

Read = Callable[[int, int], bytes]

EFI_SYSTEM_PARTITION = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
SECTOR_SIZES = (512, 4096)

_SIGNATURE = b"EFI PART"
_REVISION = 0x00010000
_HEADER = 92
_COUNT = 8
_LEAST_ENTRY = 128
_LARGEST_ENTRY = 4096
_LARGEST_ARRAY = 1 << 20
_FARTHEST = 1 << 62  # what any file can be asked for


@dataclass(frozen=True)
class GptPartition:
    """A used entry: `start` and `size` in bytes, `name` as the entry has it, `entry` its bytes on the disk."""

    type_guid: uuid.UUID
    guid: uuid.UUID
    start: int
    size: int
    name: str
    entry: bytes


@dataclass(frozen=True)
class Gpt:
    """The 92 bytes of the primary header that every version of GPT has, and the used entries in their order."""

    header: bytes
    partitions: tuple[GptPartition, ...]


@dataclass(frozen=True)
class _Layout:
    """Where the header says that the entries are; sizes in bytes."""

    header_size: int
    array: int
    count: int
    entry_size: int
    array_crc: int


def parse_gpt(read: Read, *, sector_size: int = 512) -> Gpt:
    """The primary table of a disk; `read(offset, length)` gives that many of its bytes, fewer at its end.

    DocumentError if there is none, and if either checksum is wrong: firmware then uses the backup table and measures
    that, which nobody should prepare for. Not checked: the backup, the protective MBR, and whether partitions overlap.
    """
    if sector_size not in SECTOR_SIZES:
        raise DocumentError(f"GPT: sectors of {sector_size} bytes, wanted 512 or 4096")
    reader = ByteReader(read(sector_size, sector_size), "GPT header")
    layout = _parse_layout(reader, sector_size)
    header = reader.slice(0, layout.header_size, name="header")
    stated = reader.u32(16, name="CRC32 of the header")
    _check_crc("header", header[:16] + bytes(4) + header[20:], stated=stated)
    if reader.u64(24, name="MyLBA") != 1:
        raise DocumentError("GPT header: does not say that it is the one at LBA 1", hint="give the start of the disk")
    size = layout.count * layout.entry_size
    array = read(layout.array, size)
    if len(array) != size:
        raise DocumentError(f"GPT: {size} bytes of entries at {layout.array:#x}, {len(array)} are there")
    _check_crc("partition entries", array, stated=layout.array_crc)
    return Gpt(header[:_HEADER], _used(array, entry_size=layout.entry_size, sector_size=sector_size))


def gpt_event(gpt: Gpt) -> PredictedEvent:
    """EV_EFI_GPT_EVENT of RTMR[1], once a boot, before the first image that comes from a GPT disk."""
    return PredictedEvent("rtmr1", EV_EFI_GPT_EVENT, "GPT", sha384_hex(encode_gpt_event(gpt)), "disk")


def encode_gpt_event(gpt: Gpt) -> bytes:
    """The event data, over which the digest is taken: the header, u64 number of used entries, these entries."""
    count = len(gpt.partitions).to_bytes(_COUNT, "little")
    return gpt.header + count + b"".join(partition.entry for partition in gpt.partitions)


def parse_gpt_event(data: bytes, *, sector_size: int = 512) -> Gpt:
    """The reverse, for event data of a log.

    The header's own checksum is checked where the header has no more than the 92 bytes shown. Not checked: the
    checksum of the entries, which covers the unused ones too.
    """
    reader = ByteReader(data, "GPT event")
    header = reader.slice(0, _HEADER, name="header")
    layout = _parse_layout(reader, sector_size)
    if layout.header_size == _HEADER:
        stated = reader.u32(16, name="CRC32 of the header")
        _check_crc("header", header[:16] + bytes(4) + header[20:], stated=stated)
    count = reader.u64(_HEADER, name="number of partitions")
    if count > layout.count or _HEADER + _COUNT + count * layout.entry_size != len(data):
        raise DocumentError(
            f"GPT event: {count} of {layout.count} entries with {layout.entry_size} bytes each, in {len(data)} bytes"
        )
    partitions = _used(data[_HEADER + _COUNT :], entry_size=layout.entry_size, sector_size=sector_size)
    if len(partitions) != count:
        raise DocumentError(f"GPT event: {count} entries, {count - len(partitions)} of them unused")
    return Gpt(header, partitions)


def _parse_layout(reader: ByteReader, sector_size: int) -> _Layout:
    if reader.slice(0, 8, name="signature") != _SIGNATURE or reader.u32(8, name="revision") != _REVISION:
        raise DocumentError(
            f"{reader.what}: no EFI PART of revision 1.0",
            hint="the disk has no GUID partition table, or its sectors have another size",
        )
    layout = _Layout(
        header_size=reader.u32(12, name="size of the header"),
        array=reader.u64(72, name="LBA of the entries") * sector_size,
        count=reader.u32(80, name="number of entries"),
        entry_size=reader.u32(84, name="size of an entry"),
        array_crc=reader.u32(88, name="CRC32 of the entries"),
    )
    if not _HEADER <= layout.header_size <= sector_size:
        raise DocumentError(f"{reader.what}: a header of {layout.header_size} bytes, wanted 92 to {sector_size}")
    is_power = layout.entry_size & (layout.entry_size - 1) == 0
    if not (is_power and _LEAST_ENTRY <= layout.entry_size <= _LARGEST_ENTRY):
        raise DocumentError(f"{reader.what}: entries of {layout.entry_size} bytes, wanted 128, 256, ... or 4096")
    is_sized = 0 < layout.count * layout.entry_size <= _LARGEST_ARRAY
    if not (is_sized and 2 * sector_size <= layout.array <= _FARTHEST):
        raise DocumentError(
            f"{reader.what}: {layout.count} entries of {layout.entry_size} bytes at {layout.array:#x}; wanted some, at "
            f"most {_LARGEST_ARRAY} bytes, after the header"
        )
    return layout


def _check_crc(what: str, data: bytes, *, stated: int) -> None:
    if zlib.crc32(data) != stated:
        raise DocumentError(
            f"GPT: the CRC32 of the {what} is {zlib.crc32(data):#010x}, the header says {stated:#010x}",
            hint="repair the table, for example with sgdisk",
        )


def _used(array: bytes, *, entry_size: int, sector_size: int) -> tuple[GptPartition, ...]:
    entries = (array[start : start + entry_size] for start in range(0, len(array), entry_size))
    return tuple(_partition(entry, sector_size) for entry in entries if any(entry[:16]))


def _partition(entry: bytes, sector_size: int) -> GptPartition:
    reader = ByteReader(entry, "GPT entry")
    first, last = reader.u64(32, name="first LBA"), reader.u64(40, name="last LBA")
    name = reader.slice(56, 72, name="name").decode("utf-16-le", "replace")
    return GptPartition(
        type_guid=reader.guid(0, name="partition type"),
        guid=reader.guid(16, name="GUID"),
        start=first * sector_size,
        size=max(0, last + 1 - first) * sector_size,
        name=name.partition("\0")[0],
        entry=entry,
    )
