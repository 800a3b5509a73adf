"""gzip and xz: what the header says, and the unpacked bytes, which are looked into again (RFC 1952; xz format 1.1)."""

import lzma
import zlib
from collections.abc import Callable
from typing import NamedTuple, Protocol

from builder.compare.source import Extent, in_memory
from builder.compare.tree import Field, Format, Member, Tree
from builder.errors import DocumentError
from builder.model.comparison import DifferenceKind

MAX_UNPACKED = 64 << 20  # a side is held in memory, and a bomb must not fill it
_LZMA_MEMORY = 256 << 20
_CHUNK = 1 << 20
_CONTENT = b"(unpacked)"
_HIDDEN = "the unpacked bytes are the same: another compressor, other settings, or another number of threads"
_GZIP_FIELDS = (
    Field("flags", DifferenceKind.OTHER, 3),
    Field("mtime", DifferenceKind.MTIME, 4),
    Field("level", DifferenceKind.OTHER, 8),
    Field("system", DifferenceKind.OTHER, 9),
    Field("name", DifferenceKind.OTHER, 10),
)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Unpacked(NamedTuple):
    data: bytearray
    used: int


def _matches_gzip(extent: Extent) -> bool:
    return extent.read(0, 3) == b"\x1f\x8b\x08"


def _parse_gzip(extent: Extent) -> Tree:
    header = extent.exactly(0, 10, what="gzip header")
    flags = header[3]
    name = b""
    if flags & 0x08 and not flags & 0x04:  # FNAME, and no FEXTRA in front of it
        name = extent.read(10, 4096).split(b"\0", 1)[0]
    values = (flags, int.from_bytes(header[4:8], "little"), header[8], header[9], name)
    unpacked = _unpack(extent, lambda: zlib.decompressobj(wbits=31), "gzip")
    member = Member(_CONTENT, in_memory(unpacked.data), 0, _GZIP_FIELDS, values)
    return Tree((member,), tail=extent.rest(unpacked.used), hidden=_HIDDEN)


def _matches_xz(extent: Extent) -> bool:
    return extent.read(0, 6) == b"\xfd7zXZ\0"


def _parse_xz(extent: Extent) -> Tree:
    unpacked = _unpack(extent, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY), "xz")
    member = Member(_CONTENT, in_memory(unpacked.data))
    return Tree((member,), tail=extent.rest(unpacked.used), hidden=_HIDDEN)


def _unpack(extent: Extent, start: Callable[[], _Decompressor], what: str) -> _Unpacked:
    """One compressed stream; what follows it is left to the caller. DocumentError if it is damaged or too large."""
    decompressor, output, offset = start(), bytearray(), 0
    try:
        while not decompressor.eof:
            data = _waiting(decompressor) or extent.read(offset, _CHUNK)
            offset += 0 if _waiting(decompressor) else len(data)
            piece = decompressor.decompress(data, _CHUNK)
            output += piece
            _check(bool(data or piece), len(output), what)
    except (zlib.error, lzma.LZMAError, MemoryError) as error:
        raise DocumentError(f"{what}: cannot be unpacked: {error}") from error
    return _Unpacked(output, offset - len(decompressor.unused_data))


def _waiting(decompressor: _Decompressor) -> bytes:
    """Input that zlib hands back because the output limit was reached; lzma keeps its own."""
    waiting: bytes = getattr(decompressor, "unconsumed_tail", b"")
    return waiting


def _check(progress: bool, size: int, what: str) -> None:
    if not progress:
        raise DocumentError(f"{what}: ends in the middle")
    if size > MAX_UNPACKED:
        raise DocumentError(f"{what}: unpacks to more than {MAX_UNPACKED} bytes")


GZIP = Format("gzip", _matches_gzip, _parse_gzip)
XZ = Format("xz", _matches_xz, _parse_xz)
