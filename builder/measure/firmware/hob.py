"""HOB lists (UEFI PI 1.8, volume 3, chapter 5), with which a VMM tells the firmware of a TD about memory and tables.

What goes into a list is the VMM's business: `td_hob` (QEMU), `gce_td_hob`, `td_shim_hob` (Cloud Hypervisor).
"""

import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError

SYSTEM_MEMORY = 0  # in a TD: accepted already, because the VMM added it to the TD's initial memory
MEMORY_MAPPED_IO = 1
MEMORY_RESERVED = 5
MEMORY_UNACCEPTED = 7
TESTED_MEMORY = 7  # attribute: present, initialised, tested

_HANDOFF, _RESOURCE, _GUID_EXTENSION, _END = 0x0001, 0x0003, 0x0004, 0xFFFF
_HEADER = struct.Struct("<HHI")  # type, length, reserved
_PHIT = struct.Struct("<HHIII4QQ")  # header, version, boot mode, four addresses, end of the list
_RESOURCE_HOB = struct.Struct("<HHI16xIIQQ")  # header, owner, resource type, attribute, start, length
_GUID_HOB_HEADER = 24
_PHIT_VERSION = 9
_ALIGNMENT = 8
_LARGEST_LIST = 4 << 20  # edk2 has 8 KiB of room for one, td-shim 128
_LONGEST_DATA = 0xFFF8 - _GUID_HOB_HEADER  # the length has 16 bits, and HOBs begin on 8 bytes

END_OF_LIST = _HEADER.pack(_END, _HEADER.size, 0)


@dataclass(frozen=True)
class ResourceHob:
    """A range of addresses: `start` and `length` in bytes, `resource_type` and `attribute` as PI numbers them."""

    resource_type: int
    attribute: int
    start: int
    length: int


@dataclass(frozen=True)
class GuidHob:
    """Data under a GUID, such as an ACPI table; what follows up to the next 8-byte boundary is zeros."""

    name: uuid.UUID
    data: bytes


Hob = ResourceHob | GuidHob


@dataclass(frozen=True)
class HobList:
    """A whole list without its first HOB (PHIT) and its last: of the PHIT only the end address is not zero."""

    end_address: int
    hobs: tuple[Hob, ...]


def memory_hob(resource_type: int, start: int, end: int, *, attribute: int = TESTED_MEMORY) -> ResourceHob:
    """The resource HOB of the addresses from `start` up to but without `end`."""
    return ResourceHob(resource_type, attribute, start, end - start)


def encode_hob_list(hobs: Sequence[Hob], *, address: int, counts_end: bool) -> bytes:
    """PHIT and `hobs` of a list at `address`, without the end-of-list HOB.

    `counts_end`: whether the end address in the PHIT lies behind the end-of-list HOB (QEMU, Cloud Hypervisor) or is
    that HOB's own (GCE). DocumentError for data that does not fit into one HOB.
    """
    body = b"".join(_encode(hob) for hob in hobs)
    end = address + _PHIT.size + len(body) + (len(END_OF_LIST) if counts_end else 0)
    return _PHIT.pack(_HANDOFF, _PHIT.size, 0, _PHIT_VERSION, 0, 0, 0, 0, 0, end) + body


def parse_hob_list(data: bytes) -> HobList:
    """A complete list, from the PHIT to the end-of-list HOB and not a byte more.

    DocumentError for truncated or unknown HOBs, for fields that no VMM sets, and for padding that is not zero: whatever
    is accepted, encoding the result gives the same bytes again.
    """
    if len(data) > _LARGEST_LIST:
        raise DocumentError(f"HOB list: {len(data)} bytes, wanted at most {_LARGEST_LIST}")
    reader = ByteReader(data, "HOB list")
    end_address = _parse_phit(reader)
    hobs: list[Hob] = []
    offset = _PHIT.size
    while (kind := reader.u16(offset, name="HOB type")) != _END:
        hob, offset = _parse_hob(reader, offset, kind)
        hobs.append(hob)
    if reader.slice(offset, len(data) - offset, name="end") != END_OF_LIST:
        raise DocumentError(f"HOB list: what stands at {offset:#x} is not the end-of-list HOB alone")
    return HobList(end_address, tuple(hobs))


def _encode(hob: Hob) -> bytes:
    if isinstance(hob, ResourceHob):
        fields = (hob.resource_type, hob.attribute, hob.start, hob.length)
        return _RESOURCE_HOB.pack(_RESOURCE, _RESOURCE_HOB.size, 0, *fields)
    if len(hob.data) > _LONGEST_DATA:
        raise DocumentError(
            f"HOB {hob.name}: {len(hob.data)} bytes of data, at most {_LONGEST_DATA} fit",
            hint="the VMM could not hand over this table either",
        )
    encoded = _HEADER.pack(_GUID_EXTENSION, _GUID_HOB_HEADER + len(hob.data), 0) + hob.name.bytes_le + hob.data
    return encoded.ljust(_aligned(len(encoded)), b"\0")


def _parse_phit(reader: ByteReader) -> int:
    phit = reader.slice(0, _PHIT.size, name="PHIT HOB")
    *fields, end_address = _PHIT.unpack(phit)
    if fields != [_HANDOFF, _PHIT.size, 0, _PHIT_VERSION, 0, 0, 0, 0, 0]:
        raise DocumentError("HOB list: does not begin with a PHIT HOB as VMMs write it", hint="it is no TD HOB list")
    return int(end_address)


def _parse_hob(reader: ByteReader, offset: int, kind: int) -> tuple[Hob, int]:
    """The HOB at `offset`, and where the next one begins."""
    length = reader.u16(offset + 2, name="HOB length")
    content = reader.slice(offset, length, name="HOB")
    reserved = reader.u32(offset + 4, name="reserved")
    if kind == _RESOURCE and length == _RESOURCE_HOB.size and not reserved and not content[8:24].strip(b"\0"):
        return ResourceHob(*_RESOURCE_HOB.unpack(content)[3:]), offset + length
    if kind != _GUID_EXTENSION or length < _GUID_HOB_HEADER or reserved:
        raise DocumentError(f"HOB list: HOB of type {kind:#x} and {length} bytes at {offset:#x}, which no VMM writes")
    end = _aligned(offset + length)
    if reader.slice(offset + length, end - offset - length, name="padding").strip(b"\0"):
        raise DocumentError(f"HOB list: padding before {end:#x} is not zero")
    return GuidHob(uuid.UUID(bytes_le=content[8:24]), content[_GUID_HOB_HEADER:]), end


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
