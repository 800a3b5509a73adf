"""Firmware files: volumes in a row, of which one is the variable store (UEFI PI specification, volume 3, 3.2.1).

TDVF measures them differently (`determinism.md` 1.3): the variable store (CFV) is an event of RTMR0, the boot volume
(BFV) is part of MRTD.
"""

from builder.compare.source import Extent
from builder.compare.tree import Format, Member, Tree
from builder.errors import DocumentError

VARIABLE_STORE = b"variable store (CFV)"
BOOT_VOLUME = b"boot volume (BFV)"

_SIGNATURE = b"_FVH"
_HEADER = 56
_STEP = 4096
_MAX_SIZE = 64 << 20
# EFI_SYSTEM_NV_DATA_FV_GUID fff12b8d-7696-4c8b-a985-2747075b4f50, the file system of a volume that holds variables
_VARIABLES = bytes.fromhex("8d2bf1ff96768b4ca9852747075b4f50")


def _matches(extent: Extent) -> bool:
    return extent.size <= _MAX_SIZE and extent.read(40, 4) == _SIGNATURE


def _parse(extent: Extent) -> Tree:
    """The variable store as one member, and everything between stores as boot volumes, which are measured together."""
    members: list[Member] = []
    offset = boot = 0
    while offset < extent.size:
        length = _volume_length(extent, offset)
        if extent.read(offset + 16, 16) == _VARIABLES and length:
            members += _boot_volume(extent, boot, offset)
            members.append(Member(VARIABLE_STORE, extent.part(offset, length, what="variable store"), offset))
            boot = offset + length
        offset += length or _STEP
    members += _boot_volume(extent, boot, extent.size)
    return Tree(tuple(members))


def _volume_length(extent: Extent, offset: int) -> int:
    """The length of the volume at `offset`, 0 if there is none; DocumentError if it does not fit."""
    header = extent.read(offset, _HEADER)
    if header[40:44] != _SIGNATURE:
        return 0
    length = int.from_bytes(header[32:40], "little")
    if not _HEADER <= length <= extent.size - offset:
        raise DocumentError(f"firmware: volume of {length} bytes at {offset} in {extent.size} bytes")
    return length


def _boot_volume(extent: Extent, start: int, end: int) -> list[Member]:
    if start >= end:
        return []
    return [Member(BOOT_VOLUME, extent.part(start, end - start, what="boot volume"), start)]


FIRMWARE = Format("firmware", _matches, _parse)
