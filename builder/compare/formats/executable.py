"""ELF and PE files: their sections are members, so that an offset has a name (System V ABI; PE/COFF specification).

Only what places the sections is parsed. The kernel's bzImage is a PE file, so it is covered too.
"""

import struct
from collections.abc import Iterator

from builder.compare.source import Extent
from builder.compare.tree import Format, Member, Tree
from builder.errors import DocumentError

_MAX_SECTIONS = 4096
_MAX_NAMES = 1 << 20
_NOBITS = 8
_BUILD_ID = b".note.gnu.build-id"
_HEADERS = b"(headers)"


def _matches_elf(extent: Extent) -> bool:
    return extent.read(0, 6) == b"\x7fELF\x02\x01"  # 64 bit, little endian: x86_64


def _parse_elf(extent: Extent) -> Tree:
    header = extent.exactly(0, 64, what="ELF header")
    table, entry_size, count, names_index = struct.unpack("<Q", header[40:48]) + struct.unpack("<HHH", header[58:64])
    if count > _MAX_SECTIONS or entry_size != 64 or names_index >= count:
        raise DocumentError(f"ELF: {count} section headers of {entry_size} bytes, names in number {names_index}")
    entries = list(struct.iter_unpack("<IIQQQQIIQQ", extent.exactly(table, 64 * count, what="ELF section headers")))
    names = extent.part(entries[names_index][4], entries[names_index][5], what="ELF section names")
    text = names.read(0, _MAX_NAMES)
    sections = [
        (text[entry[0] : text.find(b"\0", entry[0])], entry[4], entry[5])
        for entry in entries
        if entry[5] and entry[1] != _NOBITS
    ]
    first = min((offset for _, offset, _ in sections), default=extent.size)
    members = (_headers(extent, first), *_sections(extent, sections), _section_headers(extent, table, count))
    return Tree(members, derived=frozenset({_BUILD_ID}))


def _section_headers(extent: Extent, table: int, count: int) -> Member:
    return Member(b"(section headers)", extent.part(table, 64 * count, what="ELF section headers"), table)


def _matches_pe(extent: Extent) -> bool:
    return extent.read(0, 2) == b"MZ" and extent.read(_pe_offset(extent), 4) == b"PE\0\0"


def _pe_offset(extent: Extent) -> int:
    return int.from_bytes(extent.read(60, 4), "little")


def _parse_pe(extent: Extent) -> Tree:
    start = _pe_offset(extent)
    coff = extent.exactly(start, 24, what="PE header")
    count, optional_size = struct.unpack("<H", coff[6:8]) + struct.unpack("<H", coff[20:22])
    if count > _MAX_SECTIONS:
        raise DocumentError(f"PE: {count} sections, more than {_MAX_SECTIONS}")
    table = extent.exactly(start + 24 + optional_size, 40 * count, what="PE section table")
    sections = [
        (name.rstrip(b"\0"), offset, size) for name, size, offset in struct.iter_unpack("<8s8xII16x", table) if size
    ]
    first = min((offset for _, offset, _ in sections), default=extent.size)
    end = max((offset + size for _, offset, size in sections), default=extent.size)
    return Tree((_headers(extent, first), *_sections(extent, sections)), tail=extent.rest(end))


def _headers(extent: Extent, end: int) -> Member:
    return Member(_HEADERS, extent.part(0, end, what="headers"), 0)


def _sections(extent: Extent, sections: list[tuple[bytes, int, int]]) -> Iterator[Member]:
    for name, offset, size in sections:
        yield Member(name, extent.part(offset, size, what=f"section {name!r}"), offset)


ELF = Format("ELF", _matches_elf, _parse_elf)
PE = Format("PE", _matches_pe, _parse_pe)
