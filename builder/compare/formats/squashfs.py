"""A root file system image: squashfs, then a dm-verity tree (squashfs 4.0 superblock; dm-verity on-disk format).

Members are compressed in ways that only squashfs's own program unpacks, so a reader from outside lists them as a pseudo
file. Without a reader the superblock, the data area and the tree are still told apart.
"""

import hashlib
import struct
from collections.abc import Callable
from functools import partial

from builder.compare.formats.pseudo_file import parse_pseudo_file
from builder.compare.source import ByteSource, Extent, in_memory, whole
from builder.compare.tree import Field, Format, Member, Tree
from builder.errors import BuilderError
from builder.model.comparison import DifferenceKind

VERITY_SUPERBLOCK = b"(dm-verity superblock)"
VERITY_TREE = b"(dm-verity hash tree)"
MemberReader = Callable[[Extent], ByteSource]

_MAGIC = b"hsqs"
_BLOCK = 4096
_VERITY_MAGIC = b"verity\0\0"
# only what is chosen, not what follows from the members (counts, sizes, positions)
_FIELDS = (
    Field("created", DifferenceKind.MTIME, 8),
    Field("block size", DifferenceKind.OTHER, 12),
    Field("compression", DifferenceKind.OTHER, 20),
    Field("flags", DifferenceKind.OTHER, 24),
    Field("version", DifferenceKind.OTHER, 28),
)
_VERITY_FIELDS = (
    Field("uuid", DifferenceKind.OTHER, 16),
    Field("algorithm", DifferenceKind.OTHER, 32),
    Field("block sizes", DifferenceKind.OTHER, 64),
    Field("salt", DifferenceKind.OTHER, 88),
)


def squashfs_format(reader: MemberReader | None) -> Format:
    """The format, with the reader for members where there is one. A reader raises BuilderError when it fails."""
    return Format("squashfs", _matches, partial(_parse, reader=reader))


def verity_root(extent: Extent) -> bytes | None:
    """The root hash (hex) of the dm-verity tree behind a squashfs: the SHA-256 of its first block, which is the top.

    None if there is no squashfs, no tree, or a superblock, whose salt would be part of the hash. For naming a
    consequence only: that the tree fits the data is not checked.
    """
    header = extent.read(0, 96)
    if len(header) < 96 or not _matches(extent):
        return None
    top = extent.read(-(-struct.unpack("<Q", header[40:48])[0] // _BLOCK) * _BLOCK, _BLOCK)
    if len(top) < _BLOCK or top.startswith(_VERITY_MAGIC):
        return None
    return hashlib.sha256(top).hexdigest().encode()


def _matches(extent: Extent) -> bool:
    return extent.read(0, 4) == _MAGIC


def _parse(extent: Extent, *, reader: MemberReader | None) -> Tree:
    superblock = extent.exactly(0, 96, what="squashfs superblock")
    used = struct.unpack("<Q", superblock[40:48])[0]
    data = extent.part(96, used - 96, what="squashfs data")
    verity = _verity(extent, min(-(-used // _BLOCK) * _BLOCK, extent.size))
    members, note = _members(extent, reader)
    return Tree(
        (_superblock(superblock), *(members or (Member(b"(data)", data, 96),)), *verity),
        derived=frozenset({VERITY_TREE}),
        note=note,
        hidden="no member differs: the order or packing of blocks, or a table of the file system",
    )


def _members(extent: Extent, reader: MemberReader | None) -> tuple[tuple[Member, ...], str]:
    """The members, or a reason why there are none."""
    if reader is None:
        return (), "members were not read: no reader for squashfs is available"
    try:
        return parse_pseudo_file(whole(reader(extent))), ""
    except BuilderError as error:
        return (), f"members were not read: {error.message}"


def _superblock(raw: bytes) -> Member:
    values = (*struct.unpack("<II", raw[8:16]), raw[20:22], raw[24:26], raw[28:32])
    return Member(b"(superblock)", in_memory(b""), 0, _FIELDS, values)


def _verity(extent: Extent, start: int) -> tuple[Member, ...]:
    """The dm-verity area behind the data: its superblock, where there is one, and its hash tree."""
    area = extent.rest(start)
    if not area.size:
        return ()
    raw = area.read(0, 512)
    if len(raw) < 512 or not raw.startswith(_VERITY_MAGIC):
        return (Member(VERITY_TREE, area, start),)
    salt_size = min(struct.unpack("<H", raw[80:82])[0], 256)
    values = (raw[16:32], raw[32:64], raw[64:72], raw[88 : 88 + salt_size])
    superblock = Member(VERITY_SUPERBLOCK, in_memory(b""), start, _VERITY_FIELDS, values)
    return superblock, Member(VERITY_TREE, area.rest(512), start + 512)
