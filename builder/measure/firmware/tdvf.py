"""TDVF metadata: where a firmware file says which of its parts make up a TD's initial memory (`measurement.md` 2)."""

import uuid
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError

PAGE_SIZE = 4096
MAX_SECTIONS = 64
# Pages the VMM adds or extends one by one. OVMF has some 5 MiB; the bound keeps a hostile file from costing hours.
MAX_ADDED_MEMORY = 1 << 30
_ADDRESS_LIMIT = 1 << 52

_FOOTER = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
_TDX_ENTRY = uuid.UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
_DESCRIPTOR_GUID = uuid.UUID("e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae")
_DESCRIPTOR_SIZE = 16
_SECTION_SIZE = 32
_ENTRY_OVERHEAD = 18  # u16 length and GUID
_SMALLEST_FILE = 50  # the end of a GUIDed table
_SIGNATURE = b"TDVF"
_WHOLE_FILE_HINT = (
    "give the whole firmware (code and variable store in one file, such as OVMF.fd), built with TDX support"
)


class SectionType(IntEnum):
    """What a section holds; only the first four occur in OVMF, TD_PARAMS in no table of `measurement.md`.

    TD_INFO and TD_PARAMS are no memory of the TD: they name bytes that a BFV section holds (td-shim specification,
    table 1.1-4).
    """

    BFV = 0
    CFV = 1
    TD_HOB = 2
    TEMP_MEM = 3
    PERM_MEM = 4
    PAYLOAD = 5
    PAYLOAD_PARAM = 6
    TD_INFO = 7
    TD_PARAMS = 8


_WITHOUT_MEMORY = (SectionType.TD_INFO, SectionType.TD_PARAMS)


@dataclass(frozen=True)
class TdvfSection:
    """One section: `raw_size` bytes at `data_offset` of the file, at `address` .. `address + memory_size` of the TD."""

    type: SectionType
    data_offset: int
    raw_size: int
    address: int
    memory_size: int
    extends: bool
    augments: bool

    @property
    def end(self) -> int:
        """The first address after the section."""
        return self.address + self.memory_size

    def data(self, firmware: bytes) -> bytes:
        """The section's raw bytes in the file."""
        return firmware[self.data_offset : self.data_offset + self.raw_size]


@dataclass(frozen=True)
class TdvfMetadata:
    """The sections in table order, which is the order in which the VMM measures them."""

    sections: tuple[TdvfSection, ...]

    def of_type(self, *types: SectionType) -> tuple[TdvfSection, ...]:
        """The sections of these types, in table order."""
        return tuple(section for section in self.sections if section.type in types)

    @property
    def td_hob(self) -> TdvfSection:
        """The one section that the VMM writes the HOB list to; DocumentError if the firmware takes none."""
        sections = self.of_type(SectionType.TD_HOB)
        if not sections:
            raise DocumentError("firmware: no TD_HOB section; all its memory is in PERM_MEM sections")
        return sections[0]


def parse_tdvf(firmware: bytes) -> TdvfMetadata:
    """The TDVF metadata of a firmware file, OVMF's or td-shim's.

    DocumentError for everything `measurement.md` 2 refuses: no footer and no descriptor where td-shim has it, broken
    table entries, unknown versions, types or attributes, misaligned or overlapping sections, data beyond the file (the
    sign of a CODE-only file), no BFV, not exactly one TD_HOB, more than 64 sections, more than 1 GiB of added pages.
    Two things that only td-shim has are accepted: no TD_HOB where the memory is in PERM_MEM sections, as in MigTD, and
    TD_INFO or TD_PARAMS at address 0 without memory. Not checked: what is in the sections.
    """
    reader = ByteReader(firmware, "firmware")
    descriptor = _descriptor_offset(reader)
    _check_descriptor(reader, descriptor)
    count = reader.u32(descriptor + 12, name="number of TDVF sections")
    if not 1 <= count <= MAX_SECTIONS:
        raise DocumentError(f"firmware: {count} TDVF sections, wanted 1 to {MAX_SECTIONS}")
    first = descriptor + _DESCRIPTOR_SIZE
    sections = tuple(_parse_section(reader, first + index * _SECTION_SIZE) for index in range(count))
    _check_layout(sections)
    return TdvfMetadata(sections)


def has_guided_table(firmware: bytes) -> bool:
    """Whether the file ends in a GUIDed table, as all but the oldest firmware does; nothing of it is checked."""
    return len(firmware) >= _SMALLEST_FILE and firmware[-48:-32] == _FOOTER.bytes_le


def _descriptor_offset(reader: ByteReader) -> int:
    """Where the descriptor stands in the file (`measurement.md` 2.1)."""
    size = len(reader)
    if size < _SMALLEST_FILE:
        raise DocumentError(f"firmware: {size} bytes, too small for a GUIDed table", hint=_WHOLE_FILE_HINT)
    if reader.guid(size - 48, name="table footer") != _FOOTER:
        return _pointed_descriptor(reader)
    data = _table_entry(reader, _TDX_ENTRY)
    offset = size - int.from_bytes(data[-4:], "little") if len(data) >= 4 else size
    _check_offset(reader, offset)
    return offset


def _pointed_descriptor(reader: ByteReader) -> int:
    """The descriptor of a td-shim image older than its GUIDed table, from the u32 at the end of the file.

    td-shim's specification counts from the beginning of the file, and so do its tools and Cloud Hypervisor;
    `measurement.md` 2.1 counts from the end. The file says which: only one of the two places has a descriptor.
    """
    size = len(reader)
    pointer = reader.u32(size - 0x20, name="TDVF descriptor pointer")
    found = sorted({offset for offset in (pointer, size - pointer) if _is_descriptor(reader, offset)})
    if len(found) > 1:
        raise DocumentError(f"firmware: TDVF descriptors at both {found[0]:#x} and {found[1]:#x}, wanted one")
    offset = found[0] if found else size - pointer
    _check_offset(reader, offset)
    return offset


def _is_descriptor(reader: ByteReader, offset: int) -> bool:
    if not 16 <= offset <= len(reader) - _DESCRIPTOR_SIZE:
        return False
    start = reader.slice(offset - 16, 20, name="TDVF descriptor")
    return start == _DESCRIPTOR_GUID.bytes_le + _SIGNATURE


def _check_offset(reader: ByteReader, offset: int) -> None:
    if not 0 <= offset <= len(reader) - _DESCRIPTOR_SIZE - 16:
        raise DocumentError(
            f"firmware: no TDVF metadata (its descriptor would stand at {offset:#x} of {len(reader):#x} bytes)",
            hint=_WHOLE_FILE_HINT,
        )


def _table_entry(reader: ByteReader, wanted: uuid.UUID) -> bytes:
    """Data of the table entry `wanted`, walking the GUIDed table from its end."""
    end = len(reader) - 50
    length = reader.u16(end, name="length of the GUIDed table")
    start = len(reader) - 32 - length
    if length < _ENTRY_OVERHEAD or start < 0:
        raise DocumentError(f"firmware: GUIDed table is {length} bytes long, wanted 18 up to the size of the file")
    while end - start >= _ENTRY_OVERHEAD:
        entry = reader.u16(end - _ENTRY_OVERHEAD, name="length of a table entry")
        if entry < _ENTRY_OVERHEAD or end - entry < start:
            raise DocumentError(f"firmware: table entry before {end:#x} is {entry} bytes long and leaves the table")
        if reader.guid(end - 16, name="GUID of a table entry") == wanted:
            return reader.slice(end - entry, entry - _ENTRY_OVERHEAD, name="table entry")
        end -= entry
    raise DocumentError(f"firmware: GUIDed table has no TDX entry {wanted}", hint=_WHOLE_FILE_HINT)


def _check_descriptor(reader: ByteReader, offset: int) -> None:
    signature = reader.slice(offset, 4, name="TDVF signature")
    if signature != _SIGNATURE:
        raise DocumentError(f"firmware: TDVF signature at {offset:#x} is {signature.hex()}", hint=_WHOLE_FILE_HINT)
    if reader.guid(offset - 16, name="TDVF GUID") != _DESCRIPTOR_GUID:
        raise DocumentError(f"firmware: the GUID before the TDVF descriptor at {offset:#x} is not {_DESCRIPTOR_GUID}")
    version = reader.u32(offset + 8, name="TDVF version")
    if version != 1:
        raise DocumentError(f"firmware: TDVF version {version}, wanted 1")


def _parse_section(reader: ByteReader, offset: int) -> TdvfSection:
    name = f"TDVF section at {offset:#x}"
    kind = reader.u32(offset + 24, name=name)
    attributes = reader.u32(offset + 28, name=name)
    if kind not in SectionType.__members__.values():
        raise DocumentError(f"firmware: {name} has the unknown type {kind}")
    if attributes & ~3:
        raise DocumentError(f"firmware: {name} has unknown attributes {attributes:#x}")
    section = TdvfSection(
        type=SectionType(kind),
        data_offset=reader.u32(offset, name=name),
        raw_size=reader.u32(offset + 4, name=name),
        address=reader.u64(offset + 8, name=name),
        memory_size=reader.u64(offset + 16, name=name),
        extends=bool(attributes & 1),
        augments=bool(attributes & 2),
    )
    _check_section(section, len(reader), name)
    return section


def _check_section(section: TdvfSection, file_size: int, name: str) -> None:
    _check_memory(section, name)
    if section.data_offset + section.raw_size > file_size:
        raise DocumentError(
            f"firmware: {name} takes its data from {section.data_offset:#x} + {section.raw_size:#x}, "
            f"beyond the file's {file_size:#x} bytes: a CODE-only file describes the file that it was split from",
            hint=_WHOLE_FILE_HINT,
        )


def _check_memory(section: TdvfSection, name: str) -> None:
    if section.type in _WITHOUT_MEMORY and section.address == section.memory_size == 0:
        return
    if section.type is SectionType.TD_PARAMS:
        raise DocumentError(f"firmware: {name} has the unknown type {section.type:d}, with memory")
    if section.address % PAGE_SIZE or section.memory_size % PAGE_SIZE:
        raise DocumentError(
            f"firmware: {name} lies at {section.address:#x} + {section.memory_size:#x}, not on 4096-byte pages"
        )
    if section.end > _ADDRESS_LIMIT:
        raise DocumentError(f"firmware: {name} ends at {section.end:#x}, beyond 52 bits of address")
    if section.raw_size > section.memory_size:
        raise DocumentError(
            f"firmware: {name} has {section.raw_size:#x} bytes of data for {section.memory_size:#x} bytes of memory"
        )


def _check_layout(sections: tuple[TdvfSection, ...]) -> None:
    kinds = [section.type for section in sections]
    if SectionType.BFV not in kinds:
        raise DocumentError("firmware: no BFV section, so nothing of the firmware's code would be measured")
    hobs_wanted = (0, 1) if SectionType.PERM_MEM in kinds else (1,)
    if kinds.count(SectionType.TD_HOB) not in hobs_wanted:
        raise DocumentError(f"firmware: {kinds.count(SectionType.TD_HOB)} TD_HOB sections, wanted exactly one")
    for before, after in pairwise(sorted(sections, key=lambda section: (section.address, section.end))):
        if before.end > after.address:
            raise DocumentError(f"firmware: sections overlap in memory at {after.address:#x}")
    measured = sum(section.memory_size for section in sections if section.extends or not section.augments)
    if measured > MAX_ADDED_MEMORY:
        raise DocumentError(f"firmware: {measured:#x} bytes of added pages, more than {MAX_ADDED_MEMORY:#x}")
