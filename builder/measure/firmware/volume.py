"""The files inside a firmware, and whether the driver that extends RTMRs is among them (PI specification, volume 3).

`OvmfPkgX64` carries TDVF metadata but leaves that driver out by default up to edk2 202405 (`measurement.md` 5.1): a TD
starts from it, and its RTMRs say nothing.
"""

import lzma
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.model.launch_profile import CcMeasurement

TD_TCG2_DXE = uuid.UUID("f062221e-c607-44c2-b0b4-c3886331d351")

# OVMF unpacks to 12 to 16 MiB with a dictionary of 16, and has at most 147 files (Debian's, edk2 202211 to 202608)
MAX_DECOMPRESSED = 24 << 20
MAX_ITEMS = 20_000
_MAX_MEMORY = 20 << 20
_MAX_PROGRAM = 4 << 20
_PIECE = 1 << 20
_MAX_DEPTH = 8
_BLOCK = 4096
_HEADER_SIZE = 72
_FILE_HEADER = 24
_EXTENDED_HEADER, _SECTION_HEADER, _GUIDED_HEADER = 20, 4, 20
_FILE_SYSTEMS = {
    uuid.UUID("8c8ce578-8a3d-4f1c-9935-896185c32dd3"),  # FFS2
    uuid.UUID("5473c07a-3dcb-4dca-bd6f-1e9689e7349a"),  # FFS3
}
_VARIABLE_STORE = uuid.UUID("fff12b8d-7696-4c8b-a985-2747075b4f50")
_LZMA = uuid.UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf")
_FILE_DXE_CORE, _FILE_VOLUME_IMAGE, _FILE_PAD = 0x05, 0x0B, 0xF0
_SECTION_COMPRESSED, _SECTION_GUIDED, _SECTION_PE32, _SECTION_VOLUME_IMAGE = 0x01, 0x02, 0x10, 0x17
_LARGE_FILE = 0x01
_PROCESSING_REQUIRED = 0x01


@dataclass(frozen=True)
class FirmwareFiles:
    """The names (GUIDs) of a firmware's files, and the PE images of those that were asked for.

    `complete` says that every volume and section was read and the DXE core was among them.
    """

    names: frozenset[uuid.UUID]
    programs: Mapping[uuid.UUID, bytes]
    complete: bool

    def has(self, name: uuid.UUID) -> bool | None:
        """Whether there is such a file; None if it was not found and not everything could be read."""
        if name in self.names:
            return True
        return False if self.complete else None


def firmware_files(firmware: bytes, *, programs: frozenset[uuid.UUID] = frozenset()) -> FirmwareFiles:
    """The files of a firmware, in volumes and in volumes inside them, and the first PE image of each of `programs`.

    Not an error: content that is compressed or built in a way that is not read here (`complete` is False then).
    """
    found = _Files(programs)
    try:
        found.read_firmware(firmware)
    except (DocumentError, lzma.LZMAError):
        found.complete = False
    return FirmwareFiles(
        frozenset(found.names), MappingProxyType(found.programs), complete=found.complete and found.dxe_core
    )


def cc_measurement_of(firmware: bytes) -> CcMeasurement:
    """Whether a firmware file holds the driver TdTcg2Dxe, by its file GUID.

    ABSENT only if everything could be read. Not checked: that the driver, if there, is dispatched.
    """
    return cc_measurement_among(firmware_files(firmware))


def cc_measurement_among(files: FirmwareFiles) -> CcMeasurement:
    """The same of files that were read already."""
    found = files.has(TD_TCG2_DXE)
    if found is None:
        return CcMeasurement.UNKNOWN
    return CcMeasurement.PRESENT if found else CcMeasurement.ABSENT


class _Files:
    """Collects file names (GUIDs) from volumes, through the sections that hold volumes.

    Contents are views of the firmware or of what was unpacked: however deep a volume lies, it is never copied.
    """

    def __init__(self, wanted: frozenset[uuid.UUID]) -> None:
        self.names: set[uuid.UUID] = set()
        self.programs: dict[uuid.UUID, bytes] = {}
        self._wanted = wanted
        self.dxe_core = False
        self.complete = True
        self._bytes_left = MAX_DECOMPRESSED
        self._items_left = MAX_ITEMS

    def read_firmware(self, firmware: bytes) -> None:
        """The volumes of a flash image start on 4 KiB blocks."""
        view = memoryview(firmware)
        offset = 0
        while offset + _HEADER_SIZE <= len(view):
            length = _volume_length(view[offset:])
            if length:
                self._read_volume(view[offset : offset + length], depth=0)
            offset += max(_aligned(length, _BLOCK), _BLOCK)

    def _read_volume(self, data: memoryview, *, depth: int) -> None:
        header = ByteReader(bytes(data[:_HEADER_SIZE]), "firmware volume")
        file_system = header.guid(16, name="file system")
        if file_system not in _FILE_SYSTEMS:
            self.complete = self.complete and file_system == _VARIABLE_STORE
            return
        offset = _first_file(header, data)
        while offset + _FILE_HEADER <= len(data) and bytes(data[offset : offset + _FILE_HEADER]).strip(b"\xff"):
            offset = _aligned(offset + self._read_file(data[offset:], depth=depth), 8)

    def _read_file(self, data: memoryview, *, depth: int) -> int:
        """Note the file at the start of `data` and read on inside it if it holds a volume; gives its size."""
        self._count_item()
        reader = ByteReader(bytes(data[: _FILE_HEADER + 8]), "firmware file")
        kind, name = reader.u8(18, name="file type"), reader.guid(0, name="file name")
        header, size = _FILE_HEADER, reader.u24(20, name="file size")
        if reader.u8(19, name="file attributes") & _LARGE_FILE:
            header, size = _FILE_HEADER + 8, reader.u64(_FILE_HEADER, name="file size")
        content = _content(data, header, size, what="file")
        if kind != _FILE_PAD:
            self.names.add(name)
        if name in self._wanted and name not in self.programs:
            self.programs[name] = self._pe_image(content)
        self.dxe_core = self.dxe_core or kind == _FILE_DXE_CORE
        if kind == _FILE_VOLUME_IMAGE:
            self._read_sections(content, depth=depth + 1)
        return size

    def _read_sections(self, data: memoryview, *, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise DocumentError(f"firmware: volumes nested deeper than {_MAX_DEPTH}")
        for kind, content, header in self._sections(data):
            self._read_section(kind, content, header, depth=depth)

    def _read_section(self, kind: int, content: memoryview, header: int, *, depth: int) -> None:
        if kind == _SECTION_VOLUME_IMAGE:
            self._read_volume(content, depth=depth + 1)
        elif kind == _SECTION_GUIDED:
            self._read_guided(content, header, depth=depth + 1)
        elif kind == _SECTION_COMPRESSED:
            self.complete = False

    def _read_guided(self, content: memoryview, header: int, *, depth: int) -> None:
        reader = ByteReader(bytes(content[:_GUIDED_HEADER]), "GUIDed section")
        start = max(reader.u16(16, name="data offset") - header, _GUIDED_HEADER)
        if start > len(content):
            raise DocumentError(f"firmware: GUIDed section of {len(content)} bytes has its data at {start:#x}")
        if reader.guid(0, name="GUID") == _LZMA:
            self._read_sections(self._decompressed(content[start:]), depth=depth)
        elif reader.u16(18, name="attributes") & _PROCESSING_REQUIRED:
            self.complete = False
        else:
            self._read_sections(content[start:], depth=depth)

    def _decompressed(self, data: memoryview) -> memoryview:
        """Unpacked in pieces: at once, the library would hold everything twice."""
        decompressor = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=_MAX_MEMORY)
        content = bytearray()
        piece = decompressor.decompress(data, max_length=_PIECE)
        while piece and len(piece) <= self._bytes_left:
            content += piece
            self._bytes_left -= len(piece)
            piece = b"" if decompressor.eof else decompressor.decompress(b"", max_length=_PIECE)
        if piece or not decompressor.eof:
            raise DocumentError(f"firmware: compressed section is broken or larger than {MAX_DECOMPRESSED} bytes")
        return memoryview(content)

    def _sections(self, data: memoryview) -> Iterator[tuple[int, memoryview, int]]:
        """Type, content and header size of each section of a file."""
        offset = 0
        while offset + _SECTION_HEADER <= len(data):
            self._count_item()
            reader = ByteReader(bytes(data[offset : offset + 2 * _SECTION_HEADER]), "firmware section")
            header, size = _SECTION_HEADER, reader.u24(0, name="section size")
            if size == 0xFFFFFF:
                header, size = 2 * _SECTION_HEADER, reader.u32(4, name="section size")
            yield reader.u8(3, name="section type"), _content(data[offset:], header, size, what="section"), header
            offset = _aligned(offset + size, 4)

    def _pe_image(self, content: memoryview) -> bytes:
        """The first PE image among the sections of a driver's file; nothing if there is none."""
        image = next((data for kind, data, _ in self._sections(content) if kind == _SECTION_PE32), memoryview(b""))
        if len(image) > _MAX_PROGRAM:
            raise DocumentError(f"firmware: a driver of {len(image)} bytes, wanted at most {_MAX_PROGRAM}")
        return bytes(image)

    def _count_item(self) -> None:
        self._items_left -= 1
        if self._items_left < 0:
            raise DocumentError(f"firmware: more than {MAX_ITEMS} files and sections")


def _content(data: memoryview, header: int, size: int, *, what: str) -> memoryview:
    """What is behind the header of the file or section at the start of `data`, whose size includes the header."""
    if not header <= size <= len(data):
        raise DocumentError(f"firmware: {what} of {size} bytes, wanted {header} to the {len(data)} that are left")
    return data[header:size]


def _volume_length(data: memoryview) -> int:
    """Length of the volume whose header stands at the start of `data`, 0 if none does."""
    reader = ByteReader(bytes(data[:_BLOCK]), "firmware volume")
    if reader.slice(40, 4, name="volume signature") != b"_FVH":
        return 0
    length = reader.u64(32, name="volume length")
    header = reader.u16(48, name="volume header length")
    if not _HEADER_SIZE <= header <= _BLOCK or header % 2 or not header <= length <= len(data):
        return 0
    words = memoryview(reader.slice(0, header, name="volume header")).cast("H")
    return length if sum(words) & 0xFFFF == 0 else 0


def _first_file(header: ByteReader, data: memoryview) -> int:
    extended = header.u16(52, name="extended header offset")
    if extended == 0:
        return header.u16(48, name="volume header length")
    sized = ByteReader(bytes(data[extended : extended + _EXTENDED_HEADER]), "firmware volume")
    return _aligned(extended + sized.u32(16, name="extended header size"), 8)


def _aligned(offset: int, to: int) -> int:
    return -(-offset // to) * to
