"""The Authenticode digest of an EFI image, as OVMF computes it when it measures one (`measurement.md` 6.4).

No padding, and trailing data counts even without a certificate table; several public tools differ in one or the other.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError

_PE32_PLUS = 0x20B
_PE32 = 0x10B
_DIRECTORIES = {_PE32: 96, _PE32_PLUS: 112}
_CERTIFICATE_DIRECTORY = 4
_SECTION_HEADER = 40


@dataclass(frozen=True)
class _Headers:
    checksum: int
    certificate_entry: int | None
    certificate_size: int
    size: int
    sections: tuple[tuple[int, int], ...]  # (raw pointer, raw size), by raw pointer, none empty


def authenticode_digest(image: bytes, *, algorithm: str = "sha384") -> bytes:
    """Digest of a PE image. `algorithm` is a hashlib name: TDX measures SHA-384, signatures mostly hold SHA-256.

    DocumentError for anything but PE32 and PE32+, for sections beyond the end of the file (edk2 would read past its
    buffer) and for a certificate table larger than what is left of the file. Not checked: any signature.
    """
    reader = ByteReader(image, "EFI image")
    headers = _parse_headers(reader)
    digest = hashlib.new(algorithm)
    view = memoryview(image)
    for start, end in (*_header_ranges(headers), *_content_ranges(headers, len(image))):
        digest.update(view[start:end])
    return digest.digest()


def _parse_headers(reader: ByteReader) -> _Headers:
    pe = reader.u32(0x3C, name="e_lfanew")
    if reader.slice(0, 2, name="DOS signature") != b"MZ" or reader.slice(pe, 4, name="PE signature") != b"PE\0\0":
        raise DocumentError("EFI image: no MZ and PE signatures", hint="give an EFI application, such as a bzImage")
    optional = pe + 24
    magic = reader.u16(optional, name="optional header magic")
    if magic not in _DIRECTORIES:
        raise DocumentError(f"EFI image: optional header magic {magic:#x}, wanted {_PE32:#x} or {_PE32_PLUS:#x}")
    directories = optional + _DIRECTORIES[magic]
    count = min(reader.u32(directories - 4, name="number of data directories"), _CERTIFICATE_DIRECTORY + 1)
    entry = directories + 8 * _CERTIFICATE_DIRECTORY if count > _CERTIFICATE_DIRECTORY else None
    first = optional + reader.u16(pe + 20, name="size of the optional header")
    return _Headers(
        checksum=optional + 64,
        certificate_entry=entry,
        certificate_size=0 if entry is None else reader.u32(entry + 4, name="certificate table size"),
        size=_header_size(reader, optional, directories + 8 * count),
        sections=_parse_sections(reader, first, reader.u16(pe + 6, name="number of sections")),
    )


def _header_size(reader: ByteReader, optional: int, least: int) -> int:
    """SizeOfHeaders, which must reach beyond the fields that are left out of the digest and lie inside the file."""
    size = reader.u32(optional + 60, name="SizeOfHeaders")
    if not least <= size <= len(reader):
        raise DocumentError(f"EFI image: SizeOfHeaders {size:#x}, wanted {least:#x} to {len(reader):#x}")
    return size


def _parse_sections(reader: ByteReader, first: int, count: int) -> tuple[tuple[int, int], ...]:
    sections = []
    for offset in range(first, first + count * _SECTION_HEADER, _SECTION_HEADER):
        size = reader.u32(offset + 16, name="SizeOfRawData")
        start = reader.u32(offset + 20, name="PointerToRawData")
        if start + size > len(reader) and size:
            raise DocumentError(
                f"EFI image: section data {start:#x} + {size:#x} lies beyond the end at {len(reader):#x}",
                hint="the image is truncated",
            )
        if size:
            sections.append((start, size))
    return tuple(sorted(sections))


def _header_ranges(headers: _Headers) -> Iterator[tuple[int, int]]:
    """Step 2: the headers without CheckSum and without the certificate table's directory entry."""
    yield 0, headers.checksum
    if headers.certificate_entry is None:
        yield headers.checksum + 4, headers.size
    else:
        yield headers.checksum + 4, headers.certificate_entry
        yield headers.certificate_entry + 8, headers.size


def _content_ranges(headers: _Headers, file_size: int) -> Iterator[tuple[int, int]]:
    """Steps 3 and 4: the sections, then what follows them, without the certificate table."""
    total = headers.size + sum(size for _, size in headers.sections)
    end = file_size - headers.certificate_size
    if total > file_size or (total < file_size and end < total):
        raise DocumentError(
            f"EFI image: headers and sections are {total:#x} bytes and certificates {headers.certificate_size:#x}, "
            f"more than the file's {file_size:#x}"
        )
    yield from ((start, start + size) for start, size in headers.sections)
    if end > total:
        yield total, end
