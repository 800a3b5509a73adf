"""The SMBIOS tables as the firmware measures them: QEMU's, one structure of its own, volatile fields blanked.

From edk2 202505 on `SmbiosMeasurementDxe` measures them at ReadyToBoot (`measurement.md` 5.8). QEMU's tables are its
fw_cfg file `etc/smbios/smbios-tables`; `SmbiosPlatformDxe` installs them and adds a type 0 where QEMU has none. The
fields and rules are those of the SMBIOS specification 3.x, clause 6.1 and the structures of clause 7.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.model.digest import sha384_hex

SMBIOS_FILE = "etc/smbios/smbios-tables"
MAX_TABLES_SIZE = 0xFFFF  # of a 32-bit entry point; beyond, edk2 leaves structures out of the table that it measures

_HEADER = struct.Struct("<BBH")
_BIOS_INFORMATION, _PROCESSOR, _END_OF_TABLE = 0, 4, 127
_FIRST_OEM_TYPE = 128
_END_HANDLE = 0xFEFF  # what SmbiosDxe gives the end-of-table structure
_PROCESSOR_ID = slice(8, 16)
_PROCESSOR_ID_SIZE = 8
# segment 0xe800, no ROM size, no characteristics; a virtual machine with UEFI; releases 0.0 and unknown
_OVMF_BIOS_INFORMATION = bytes.fromhex("010200e803000800000000000000001c0000ffff0000")

# Fields that say something about one machine only: (offset, size), text fields have size 1 and hold a string's number.
_TEXTS: Mapping[int, tuple[int, ...]] = {
    1: (0x07,),
    2: (0x07, 0x0A),
    3: (0x07, 0x08),
    4: (0x20, 0x21, 0x22),
    17: (0x18, 0x19, 0x1A),
    22: (0x07,),
    39: (0x08, 0x09, 0x0A),
}
_NUMBERS: Mapping[int, tuple[tuple[int, int], ...]] = {
    1: ((0x08, 16), (0x18, 1)),  # UUID, wake-up type
    4: (
        (0x23, 1),
        (0x24, 1),
        (0x25, 1),
        (0x2A, 2),
        (0x2C, 2),
        (0x2E, 2),
        (0x11, 1),
        (0x16, 2),
    ),  # cores, threads, speed
    22: ((0x10, 2), (0x12, 2)),
    23: ((0x05, 2),),
    27: ((0x0C, 2),),
}
_ALL_BUT_THE_HEADER = frozenset({11, 15, 18, 31, 33})


class UnknownStringsError(DocumentError):
    """The firmware adds a structure whose strings nobody knows."""


@dataclass(frozen=True)
class FirmwareStrings:
    """What a firmware build calls itself in its type 0 structure: vendor, version and release date, ASCII."""

    vendor: str
    version: str
    release_date: str


@dataclass(frozen=True)
class SmbiosStructure:
    """One structure: type, handle, the formatted area behind the header, and its strings, numbered from 1."""

    type: int
    handle: int
    formatted: bytes
    strings: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Header, formatted area, strings, and the terminator."""
        header = _HEADER.pack(self.type, _HEADER.size + len(self.formatted), self.handle)
        texts = b"".join(text + b"\0" for text in self.strings)
        return header + self.formatted + (texts or b"\0") + b"\0"


def smbios_digest(tables: bytes, strings: FirmwareStrings | None) -> str:
    """SHA-384 (hex) of what the firmware measures, from `etc/smbios/smbios-tables` and the firmware's own strings.

    DocumentError for tables that are broken or larger than 65535 bytes, UnknownStringsError if they need `strings` and
    there are none. Not checked: that the tables are those of the machine; type 4 shows the CPUID of the processor that
    the VMM presents.
    """
    installed = installed_structures(parse_smbios(tables), strings)
    encoded = b"".join(filtered(structure) for structure in installed)
    if len(encoded) > MAX_TABLES_SIZE:
        raise DocumentError(f"SMBIOS tables: {len(encoded)} bytes with the firmware's own, wanted {MAX_TABLES_SIZE}")
    return sha384_hex(encoded)


def parse_smbios(tables: bytes) -> tuple[SmbiosStructure, ...]:
    """The structures of `etc/smbios/smbios-tables`, without the end-of-table structure that must be its last.

    DocumentError for tables that are broken, and for more than 65535 bytes: QEMU makes more of more than some 900
    sockets, and what edk2 measures then is not known (MAX_TABLES_SIZE).
    """
    if len(tables) > MAX_TABLES_SIZE:
        raise DocumentError(
            f"SMBIOS tables: {len(tables)} bytes, wanted at most {MAX_TABLES_SIZE}",
            hint="QEMU describes each socket: give the machine fewer sockets, or take a rehearsed event",
        )
    structures = tuple(_structures(ByteReader(tables, "SMBIOS tables"), tables))
    handles = [structure.handle for structure in structures]
    if len(set(handles)) != len(handles):
        raise DocumentError("SMBIOS tables: two structures have the same handle, which the firmware refuses")
    return structures


def with_processor_id(tables: bytes, processor_id: bytes) -> bytes:
    """QEMU's tables with another processor in every type 4: u32 EAX, u32 EDX of CPUID leaf 1, as the TD sees it.

    For tables that were read from a machine with another CPU model. DocumentError if it is not 8 bytes.
    """
    if len(processor_id) != _PROCESSOR_ID_SIZE:
        raise DocumentError(f"processor id {processor_id.hex()}: wanted {_PROCESSOR_ID_SIZE} bytes")
    structures = parse_smbios(tables)
    end = tables[sum(len(structure.encode()) for structure in structures) :]
    return b"".join(_with_processor_id(structure, processor_id).encode() for structure in structures) + end


def installed_structures(
    structures: Iterable[SmbiosStructure], strings: FirmwareStrings | None
) -> tuple[SmbiosStructure, ...]:
    """What the firmware publishes: QEMU's structures in their order, its own type 0 if QEMU has none, the end."""
    installed = list(structures)
    if not any(structure.type == _BIOS_INFORMATION for structure in installed):
        if strings is None:
            raise UnknownStringsError(
                "SMBIOS tables: QEMU has no type 0, and what this firmware puts there could not be told from its file",
                hint="give the VMM a type 0 (`-smbios type=0,...`), or take the event from a rehearsal",
            )
        installed.append(_bios_information(strings, {structure.handle for structure in installed}))
    return *installed, SmbiosStructure(_END_OF_TABLE, _END_HANDLE, b"", ())


def filtered(structure: SmbiosStructure) -> bytes:
    """The bytes of a structure with volatile fields blanked, as edk2's `SmbiosMeasurementDxe` has them."""
    encoded = bytearray(structure.encode())
    if structure.type >= _FIRST_OEM_TYPE or structure.type in _ALL_BUT_THE_HEADER:
        encoded[_HEADER.size :] = bytes(len(encoded) - _HEADER.size)
        return bytes(encoded)
    end = _HEADER.size + len(structure.formatted)
    for offset in _TEXTS.get(structure.type, ()):
        if offset < end:
            _blank_text(encoded, structure, offset)
    for offset, size in _NUMBERS.get(structure.type, ()):
        if offset + size <= end:
            encoded[offset : offset + size] = bytes(size)
    return bytes(encoded)


def _blank_text(encoded: bytearray, structure: SmbiosStructure, offset: int) -> None:
    """Spaces for the string whose number stands at `offset`, and zero for the number."""
    number = structure.formatted[offset - _HEADER.size]
    encoded[offset] = 0
    if number == 0:
        return
    if number > len(structure.strings):
        raise DocumentError(
            f"SMBIOS tables: type {structure.type} refers to string {number} of {len(structure.strings)}"
        )
    before = sum(len(text) + 1 for text in structure.strings[: number - 1])
    start = _HEADER.size + len(structure.formatted) + before
    size = len(structure.strings[number - 1])
    encoded[start : start + size] = b" " * size


def _structures(reader: ByteReader, tables: bytes) -> Iterator[SmbiosStructure]:
    offset = 0
    while True:
        kind = reader.u8(offset, name="structure type")
        length = reader.u8(offset + 1, name="structure length")
        if length < _HEADER.size:
            raise DocumentError(f"SMBIOS tables: structure at {offset:#x} is {length} bytes long, wanted 4 or more")
        strings, end = _strings(tables, offset + length)
        structure = SmbiosStructure(
            kind,
            reader.u16(offset + 2, name="structure handle"),
            reader.slice(offset + _HEADER.size, length - _HEADER.size, name="structure"),
            strings,
        )
        if kind == _END_OF_TABLE:
            if end != len(reader):
                raise DocumentError(f"SMBIOS tables: {len(reader) - end} bytes after the end-of-table structure")
            return
        yield structure
        offset = end


def _strings(tables: bytes, offset: int) -> tuple[tuple[bytes, ...], int]:
    """The strings at `offset`, and the offset behind their terminator; a structure without strings has two NULs."""
    end = tables.find(b"\0\0", offset)
    if end < 0:
        raise DocumentError(f"SMBIOS tables: strings at {offset:#x} do not end", hint="the tables are truncated")
    strings = tuple(tables[offset:end].split(b"\0")) if end > offset else ()
    if b"" in strings:
        raise DocumentError(f"SMBIOS tables: an empty string at {offset:#x}, which the firmware would not count")
    return strings, end + 2


def _with_processor_id(structure: SmbiosStructure, processor_id: bytes) -> SmbiosStructure:
    if structure.type != _PROCESSOR:
        return structure
    start, end = (position - _HEADER.size for position in (_PROCESSOR_ID.start, _PROCESSOR_ID.stop))
    if len(structure.formatted) < end:
        raise DocumentError(f"SMBIOS tables: type 4 of {len(structure.formatted)} bytes has no processor id")
    return replace(structure, formatted=structure.formatted[:start] + processor_id + structure.formatted[end:])


def _bios_information(strings: FirmwareStrings, used: set[int]) -> SmbiosStructure:
    """OVMF's type 0 with the lowest handle that is free."""
    handle = next(number for number in range(len(used) + 1) if number not in used)
    texts = (strings.vendor, strings.version, strings.release_date)
    return SmbiosStructure(
        _BIOS_INFORMATION, handle, _OVMF_BIOS_INFORMATION, tuple(text.encode("ascii") for text in texts)
    )
