"""The headers of a PE image: where its sections are, and the fields that Authenticode leaves out.

PE32 and PE32+ as edk2 loads them. Only what measuring needs is read: nothing is relocated, executed or verified.
"""

import struct
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError

_PE32 = 0x10B
_PE32_PLUS = 0x20B
_DIRECTORIES = {_PE32: 96, _PE32_PLUS: 112}
_CERTIFICATE_DIRECTORY = 4
_SECTION = struct.Struct("<8sIIII16x")  # name, virtual size, virtual address, raw size, raw pointer
_SYMBOL_SIZE = 18
_LONGEST_NAME = 64


@dataclass(frozen=True)
class PeSection:
    """A section by its header. The image in memory has `virtual_size` bytes of it, the file `raw_size` at `start`."""

    name: str
    virtual_size: int
    virtual_address: int
    raw_size: int
    start: int


@dataclass(frozen=True)
class PeImage:
    """Offsets and sizes in bytes. `certificate_entry` is the directory entry, None if the image has too few of them.

    `sections` are in the order of their table; together with the headers they are no larger than the file.
    """

    size: int
    checksum: int
    certificate_entry: int | None
    certificate_start: int
    certificate_size: int
    header_size: int
    sections: tuple[PeSection, ...]

    @property
    def content_size(self) -> int:
        """Bytes of the headers and of all sections: what comes after is a certificate table, or trailing data."""
        return self.header_size + sum(section.raw_size for section in self.sections)


def parse_pe_image(image: bytes) -> PeImage:
    """DocumentError for anything but PE32 and PE32+, for sections beyond the end of the file, and for headers and
    sections that together are larger than it. Not checked: machine, entry point, overlaps in memory, signatures."""
    reader = ByteReader(image, "EFI image")
    pe = _pe_header(reader)
    optional = pe + 24
    magic = reader.u16(optional, name="optional header magic")
    if magic not in _DIRECTORIES:
        raise DocumentError(f"EFI image: optional header magic {magic:#x}, wanted {_PE32:#x} or {_PE32_PLUS:#x}")
    directories = optional + _DIRECTORIES[magic]
    count = min(reader.u32(directories - 4, name="number of data directories"), _CERTIFICATE_DIRECTORY + 1)
    entry = directories + 8 * _CERTIFICATE_DIRECTORY if count > _CERTIFICATE_DIRECTORY else None
    parsed = PeImage(
        size=len(image),
        checksum=optional + 64,
        certificate_entry=entry,
        certificate_start=0 if entry is None else reader.u32(entry, name="certificate table offset"),
        certificate_size=0 if entry is None else reader.u32(entry + 4, name="certificate table size"),
        header_size=_header_size(reader, optional, directories + 8 * count),
        sections=_parse_sections(reader, pe),
    )
    if parsed.content_size > len(image):
        raise DocumentError(
            f"EFI image: headers and sections are {parsed.content_size:#x} bytes, more than the file's {len(image):#x}",
            hint="its sections overlap, or it is truncated",
        )
    return parsed


def _pe_header(reader: ByteReader) -> int:
    pe = reader.u32(0x3C, name="e_lfanew")
    if reader.slice(0, 2, name="DOS signature") != b"MZ" or reader.slice(pe, 4, name="PE signature") != b"PE\0\0":
        raise DocumentError("EFI image: no MZ and PE signatures", hint="give an EFI application, such as a bzImage")
    return pe


def _header_size(reader: ByteReader, optional: int, least: int) -> int:
    """SizeOfHeaders, which must reach beyond the fields that are left out of the digest and lie inside the file."""
    size = reader.u32(optional + 60, name="SizeOfHeaders")
    if not least <= size <= len(reader):
        raise DocumentError(f"EFI image: SizeOfHeaders {size:#x}, wanted {least:#x} to {len(reader):#x}")
    return size


def _parse_sections(reader: ByteReader, pe: int) -> tuple[PeSection, ...]:
    count = reader.u16(pe + 6, name="number of sections")
    table = pe + 24 + reader.u16(pe + 20, name="size of the optional header")
    headers = reader.slice(table, count * _SECTION.size, name="section table")
    strings = reader.u32(pe + 12, name="PointerToSymbolTable")
    strings += _SYMBOL_SIZE * reader.u32(pe + 16, name="NumberOfSymbols")
    sections = tuple(
        PeSection(_section_name(reader, name, strings), virtual_size, address, size, start)
        for name, virtual_size, address, size, start in _SECTION.iter_unpack(headers)
    )
    for section in sections:
        if section.raw_size and section.start + section.raw_size > len(reader):
            raise DocumentError(
                f"EFI image: section data {section.start:#x} + {section.raw_size:#x} lies beyond the end at "
                f"{len(reader):#x}",
                hint="the image is truncated",
            )
    return sections


def _section_name(reader: ByteReader, field: bytes, strings: int) -> str:
    """A name of up to 8 characters, or `/N` for one at N in the COFF string table, if that is there."""
    name = field.partition(b"\0")[0].decode("latin-1")
    if not (name[:1] == "/" and name[1:].isascii() and name[1:].isdigit()):
        return name
    start = strings + int(name[1:])
    size = min(_LONGEST_NAME, len(reader) - start)
    if size <= 0:
        return name
    return reader.slice(start, size, name="section name").partition(b"\0")[0].decode("latin-1")


def image_version(image: bytes) -> tuple[int, int]:
    """Major and minor image version of the optional header; in a Linux kernel, the version of its EFI stub."""
    reader = ByteReader(image, "EFI image")
    optional = _pe_header(reader) + 24
    return reader.u16(optional + 44, name="MajorImageVersion"), reader.u16(optional + 46, name="MinorImageVersion")
