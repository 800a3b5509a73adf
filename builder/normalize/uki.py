"""Unified kernel images: an EFI stub with more PE sections behind its own (`determinism.md` 3.11).

https://uapi-group.org/specifications/specs/unified_kernel_image/. Every byte follows from the stub and the contents:
sections lie one after the other, by their sizes; no time is written, and the checksum of the header, which firmware
does not look at, is zero.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from builder.errors import DocumentError

_PE32_PLUS = 0x20B
_SECTION = struct.Struct("<8sIIII12xI")
_READ_DATA = 0x40000040  # IMAGE_SCN_CNT_INITIALIZED_DATA, MEM_READ
_LARGEST_IMAGE = (1 << 32) - 1
_LONGEST_NAME = 8
_BOOT_HEADER = 0x202  # of Linux: "HdrS", and at 0x20E where the text of its version is
_VERSION_POINTER = 0x20E
_LONGEST_VERSION = 256


@dataclass(frozen=True)
class UkiSection:
    """A section to add. Its content is what the stub measures, byte by byte."""

    name: str
    content: bytes


@dataclass(frozen=True)
class _Stub:
    """Where things are in the stub: offsets in bytes; `end` is the first free address in memory."""

    image: bytes
    pe: int
    count: int
    table: int
    section_alignment: int
    file_alignment: int
    header_size: int
    end: int


def add_sections(stub: bytes, sections: Sequence[UkiSection]) -> bytes:
    """The stub with these sections behind its own, in this order.

    DocumentError for what is no PE32+ image, is signed, has a section of one of these names, or no room for the headers
    of so many sections.
    """
    parsed = _parse_stub(stub)
    headers, body = [], bytearray()
    address = parsed.end
    start = _aligned(len(stub), parsed.file_alignment)
    for section in sections:
        raw = _aligned(len(section.content), parsed.file_alignment)
        headers.append(_section_header(section, address=address, raw=raw, start=start + len(body)))
        body += section.content.ljust(raw, b"\0")
        address = _aligned(address + len(section.content), parsed.section_alignment)
    if max(address, start + len(body)) > _LARGEST_IMAGE:
        raise DocumentError(f"UKI: {start + len(body)} bytes, which no PE image can have")
    _check_names(parsed, sections)
    return bytes(_with_headers(parsed, b"".join(headers), image_size=address).ljust(start, b"\0") + body)


def kernel_version(kernel: bytes) -> str:
    """What a Linux kernel image says its version is: `6.12.95+deb12-cloud-amd64`. DocumentError if it does not say."""
    if kernel[_BOOT_HEADER : _BOOT_HEADER + 4] != b"HdrS":
        raise DocumentError("UKI: the kernel has no Linux boot header", hint="wanted a bzImage")
    start = int.from_bytes(kernel[_VERSION_POINTER : _VERSION_POINTER + 2], "little") + 0x200
    text = kernel[start : start + _LONGEST_VERSION].partition(b"\0")[0].partition(b" ")[0]
    if start == 0x200 or not text or not text.isascii():
        raise DocumentError("UKI: the kernel's boot header names no version")
    return text.decode("ascii")


def _parse_stub(stub: bytes) -> _Stub:
    try:
        return _checked_stub(stub)
    except struct.error as error:
        raise DocumentError("EFI stub: truncated") from error


def _checked_stub(stub: bytes) -> _Stub:
    pe = _u32(stub, 0x3C)
    optional = pe + 24
    if stub[:2] != b"MZ" or stub[pe : pe + 4] != b"PE\0\0" or _u16(stub, optional) != _PE32_PLUS:
        raise DocumentError("EFI stub: no PE32+ image", hint="name the file of the package that ends in .efi.stub")
    table = optional + _u16(stub, pe + 20)
    section_alignment, file_alignment = _u32(stub, optional + 32), _u32(stub, optional + 36)
    if _u32(stub, optional + 108) > 4 and any(stub[optional + 112 + 32 : optional + 112 + 40]):
        raise DocumentError("EFI stub: it is signed, and no longer would be", hint="name the stub without a signature")
    for alignment in (section_alignment, file_alignment):
        if not 1 <= alignment <= 1 << 16 or alignment & (alignment - 1):
            raise DocumentError(f"EFI stub: alignment {alignment:#x}, wanted a power of two up to 64 KiB")
    count = _u16(stub, pe + 6)
    ends = [_u32(stub, place + 8) + _u32(stub, place + 12) for place in range(table, table + 40 * count, 40)]
    header_size = _u32(stub, optional + 60)
    if not ends or max(ends) <= header_size:
        raise DocumentError(f"EFI stub: {count} sections, none of them behind its headers", hint="it is no program")
    end = _aligned(max(ends), section_alignment)
    return _Stub(stub, pe, count, table, section_alignment, file_alignment, header_size, end)


def _check_names(stub: _Stub, sections: Sequence[UkiSection]) -> None:
    place = stub.table
    own = [stub.image[at : at + 8].rstrip(b"\0") for at in range(place, place + 40 * stub.count, 40)]
    names = [*own, *(section.name.encode("ascii") for section in sections)]
    for section in sections:
        if names.count(section.name.encode("ascii")) != 1:
            raise DocumentError(f"UKI: two sections {section.name}, wanted one", hint="wanted a stub without payload")


def _section_header(section: UkiSection, *, address: int, raw: int, start: int) -> bytes:
    name = section.name.encode("ascii")
    if not 1 < len(name) <= _LONGEST_NAME or not section.content:
        raise DocumentError(f"UKI: section {section.name!r} of {len(section.content)} bytes: wanted a name and content")
    return _SECTION.pack(name, len(section.content), address, raw, start, _READ_DATA)


def _with_headers(stub: _Stub, headers: bytes, *, image_size: int) -> bytearray:
    place = stub.table + 40 * stub.count
    room = min(stub.header_size, len(stub.image)) - place
    if len(headers) > room or any(stub.image[place : place + len(headers)]):
        raise DocumentError(f"EFI stub: {room} bytes of room behind its section table, wanted {len(headers)}")
    image = bytearray(stub.image)
    image[place : place + len(headers)] = headers
    struct.pack_into("<H", image, stub.pe + 6, stub.count + len(headers) // 40)
    struct.pack_into("<I", image, stub.pe + 24 + 56, image_size)
    struct.pack_into("<I", image, stub.pe + 24 + 64, 0)  # CheckSum
    return image


def _aligned(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


def _u16(data: bytes, offset: int) -> int:
    return int(struct.unpack_from("<H", data, offset)[0])


def _u32(data: bytes, offset: int) -> int:
    return int(struct.unpack_from("<I", data, offset)[0])
