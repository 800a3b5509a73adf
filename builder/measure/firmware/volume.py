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

MAX_DECOMPRESSED = 64 << 20
_MAX_MEMORY = 256 << 20
_MAX_DEPTH = 8
_BLOCK = 4096
_HEADER_SIZE = 72
_FILE_HEADER = 24
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
    """Collects file names (GUIDs) from volumes, through the sections that hold volumes."""

    def __init__(self, wanted: frozenset[uuid.UUID]) -> None:
        self.names: set[uuid.UUID] = set()
        self.programs: dict[uuid.UUID, bytes] = {}
        self._wanted = wanted
        self.dxe_core = False
        self.complete = True
        self._budget = MAX_DECOMPRESSED

    def read_firmware(self, firmware: bytes) -> None:
        """The volumes of a flash image start on 4 KiB blocks."""
        reader = ByteReader(firmware, "firmware")
        offset = 0
        while offset + _HEADER_SIZE <= len(firmware):
            length = _volume_length(reader, offset)
            if length:
                self._read_volume(reader.slice(offset, length, name="firmware volume"), depth=0)
            offset += max(_aligned(length, _BLOCK), _BLOCK)

    def _read_volume(self, data: bytes, *, depth: int) -> None:
        reader = ByteReader(data, "firmware volume")
        file_system = reader.guid(16, name="file system")
        if file_system not in _FILE_SYSTEMS:
            self.complete = self.complete and file_system == _VARIABLE_STORE
            return
        offset = _first_file(reader)
        while offset + _FILE_HEADER <= len(data) and data[offset : offset + _FILE_HEADER].strip(b"\xff"):
            offset = _aligned(self._read_file(reader, offset, depth=depth), 8)

    def _read_file(self, reader: ByteReader, offset: int, *, depth: int) -> int:
        """Note one file and read on inside it if it holds a volume; gives the offset after it."""
        kind = reader.u8(offset + 18, name="file type")
        header, size = _FILE_HEADER, reader.u24(offset + 20, name="file size")
        if reader.u8(offset + 19, name="file attributes") & _LARGE_FILE:
            header, size = _FILE_HEADER + 8, reader.u64(offset + _FILE_HEADER, name="file size")
        if size < header:
            raise DocumentError(f"firmware: file at {offset:#x} of its volume is {size} bytes long")
        content = reader.slice(offset, size, name="file")[header:]
        name = reader.guid(offset, name="file name")
        if kind != _FILE_PAD:
            self.names.add(name)
        if name in self._wanted and name not in self.programs:
            self.programs[name] = _pe_image(content)
        self.dxe_core = self.dxe_core or kind == _FILE_DXE_CORE
        if kind == _FILE_VOLUME_IMAGE:
            self._read_sections(content, depth=depth + 1)
        return offset + size

    def _read_sections(self, data: bytes, *, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise DocumentError(f"firmware: volumes nested deeper than {_MAX_DEPTH}")
        for kind, content, header in _sections(data):
            self._read_section(kind, content, header, depth=depth)

    def _read_section(self, kind: int, content: bytes, header: int, *, depth: int) -> None:
        if kind == _SECTION_VOLUME_IMAGE:
            self._read_volume(content, depth=depth + 1)
        elif kind == _SECTION_GUIDED:
            self._read_guided(ByteReader(content, "GUIDed section"), header, depth=depth + 1)
        elif kind == _SECTION_COMPRESSED:
            self.complete = False

    def _read_guided(self, reader: ByteReader, header: int, *, depth: int) -> None:
        start = reader.u16(16, name="data offset") - header
        data = reader.slice(max(start, 20), len(reader) - max(start, 20), name="data")
        if reader.guid(0, name="GUID") == _LZMA:
            self._read_sections(self._decompressed(data), depth=depth)
        elif reader.u16(18, name="attributes") & _PROCESSING_REQUIRED:
            self.complete = False
        else:
            self._read_sections(data, depth=depth)

    def _decompressed(self, data: bytes) -> bytes:
        decompressor = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=_MAX_MEMORY)
        content = decompressor.decompress(data, max_length=self._budget + 1)
        if not decompressor.eof or len(content) > self._budget:
            raise DocumentError(f"firmware: compressed section is broken or larger than {MAX_DECOMPRESSED} bytes")
        self._budget -= len(content)
        return content


def _sections(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Type, content and header size of each section of a file."""
    reader = ByteReader(data, "firmware section")
    offset = 0
    while offset + 4 <= len(data):
        header, size = 4, reader.u24(offset, name="section size")
        if size == 0xFFFFFF:
            header, size = 8, reader.u32(offset + 4, name="section size")
        if size < header:
            raise DocumentError(f"firmware: section at {offset:#x} of its file is {size} bytes long")
        section = reader.slice(offset, size, name="section")
        yield reader.u8(offset + 3, name="section type"), section[header:], header
        offset = _aligned(offset + size, 4)


def _pe_image(content: bytes) -> bytes:
    """The first PE image among the sections of a driver's file; nothing if there is none."""
    return next((data for kind, data, _ in _sections(content) if kind == _SECTION_PE32), b"")


def _volume_length(reader: ByteReader, offset: int) -> int:
    """Length of the volume whose header stands at `offset`, 0 if none does."""
    if reader.slice(offset + 40, 4, name="volume signature") != b"_FVH":
        return 0
    length = reader.u64(offset + 32, name="volume length")
    header = reader.u16(offset + 48, name="volume header length")
    if header < _HEADER_SIZE or header % 2 or not header <= length <= len(reader) - offset:
        return 0
    words = memoryview(reader.slice(offset, header, name="volume header")).cast("H")
    return length if sum(words) & 0xFFFF == 0 else 0


def _first_file(reader: ByteReader) -> int:
    extended = reader.u16(52, name="extended header offset")
    if extended == 0:
        return reader.u16(48, name="volume header length")
    return _aligned(extended + reader.u32(extended + 16, name="extended header size"), 8)


def _aligned(offset: int, to: int) -> int:
    return -(-offset // to) * to
