"""MRTD: the SHA-384 of one long stream of records about a TD's initial pages (`measurement.md` 3).

No digest of a firmware file has been confirmed by hardware here; three independent programs agree with these.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain

from builder.errors import DocumentError
from builder.measure.firmware.tdvf import PAGE_SIZE, SectionType, TdvfMetadata, TdvfSection, parse_tdvf
from builder.model.launch_profile import PageOrder

_CHUNK = 256
_CHUNKS = PAGE_SIZE // _CHUNK
_RECORD = 128
_BLOCK = 64 * PAGE_SIZE  # packed in one call: large enough for few calls, small enough for little memory

# `measurement.md` 3.1: name padded to 16 bytes, u64 address, zeros to 128; MR.EXTEND is followed by its data
_ADD = "16sQ104x"
_EXTEND = "16sQ104x256s"
_ADD_NAME = b"MEM.PAGE.ADD"
_EXTEND_NAME = b"MR.EXTEND"

_Records = Callable[[range, bytes], bytes]  # (addresses of pages, their data) -> records


def mrtd_for(
    firmware: bytes,
    page_order: PageOrder,
    *,
    written: Mapping[SectionType, bytes] | None = None,
    every_section: bool = False,
) -> bytes:
    """MRTD (48 bytes) of a TD that a VMM with this page order builds from a firmware file.

    `written` is what the VMM itself puts into sections of a type before it adds them, such as the kernel into the
    PAYLOAD of td-shim, instead of the file's data. `every_section`: the VMM extends all sections, whatever their
    attributes say (the old GCE bug, `measurement.md` 3.3). DocumentError if the file's TDVF metadata is refused
    (`parse_tdvf`), and for written data that no section has room for.
    """
    digest = hashlib.sha384()
    given = written or {}
    sections = parse_tdvf(firmware).sections
    _check_written(sections, given)
    for section in sections:
        data = given.get(section.type, section.data(firmware))
        for records in _section_stream(_extended(section) if every_section else section, data, page_order):
            digest.update(records)
    return digest.digest()


def mrtd_stream_length(metadata: TdvfMetadata) -> int:
    """How many bytes are hashed for MRTD; the same in both page orders."""
    return sum(_page_stream_length(section) * section.memory_size // PAGE_SIZE for section in metadata.sections)


def _check_written(sections: Sequence[TdvfSection], written: Mapping[SectionType, bytes]) -> None:
    for kind, data in written.items():
        rooms = [section.memory_size for section in sections if section.type is kind]
        if len(rooms) != 1 or len(data) > rooms[0]:
            raise DocumentError(
                f"firmware: {len(data)} bytes for one {kind.name} section, found {len(rooms)} of {sum(rooms)} bytes",
                hint="the VMM would not start this firmware with this file",
            )


def _extended(section: TdvfSection) -> TdvfSection:
    return replace(section, extends=not section.augments)


def _page_stream_length(section: TdvfSection) -> int:
    added = 0 if section.augments else _RECORD
    return added + (_CHUNKS * (_RECORD + _CHUNK) if section.extends else 0)


def _section_stream(section: TdvfSection, data: bytes, page_order: PageOrder) -> Iterator[bytes]:
    """`measurement.md` 3.2: page by page, or all pages of the *section* added first."""
    passes: list[_Records]
    if section.augments:
        passes = [_extend] if section.extends else []
    elif not section.extends:
        passes = [_add]
    else:
        passes = [_add_and_extend] if page_order is PageOrder.SINGLE_PASS else [_add, _extend]
    return chain.from_iterable(_blocks(section, data, records) for records in passes)


def _blocks(section: TdvfSection, data: bytes, records: _Records) -> Iterator[bytes]:
    """The records of a section, block by block; data beyond the raw size is zeros, as in the VMM's page."""
    for start in range(0, section.memory_size, _BLOCK):
        end = min(start + _BLOCK, section.memory_size)
        addresses = range(section.address + start, section.address + end, PAGE_SIZE)
        yield records(addresses, data[start:end].ljust(end - start, b"\0"))


# One call of pack for a block: its fields are laid out by slices, because this is the inner loop.


def _add(pages: range, _data: bytes) -> bytes:
    fields: list[bytes | int] = [_ADD_NAME] * (2 * len(pages))
    fields[1::2] = pages
    return _layout(_ADD, len(pages)).pack(*fields)


def _extend(pages: range, data: bytes) -> bytes:
    fields: list[bytes | int] = [_EXTEND_NAME] * (3 * _CHUNKS * len(pages))
    fields[1::3] = range(pages.start, pages.stop, _CHUNK)
    fields[2::3] = _chunks(data)
    return _layout(_EXTEND, _CHUNKS * len(pages)).pack(*fields)


def _add_and_extend(pages: range, data: bytes) -> bytes:
    width = 2 + 3 * _CHUNKS
    chunks = _chunks(data)
    fields: list[bytes | int] = [_EXTEND_NAME] * (width * len(pages))
    fields[0::width] = [_ADD_NAME] * len(pages)
    fields[1::width] = pages
    for chunk in range(_CHUNKS):
        fields[3 * chunk + 3 :: width] = range(pages.start + chunk * _CHUNK, pages.stop, PAGE_SIZE)
        fields[3 * chunk + 4 :: width] = chunks[chunk::_CHUNKS]
    return _layout(_ADD + _EXTEND * _CHUNKS, len(pages)).pack(*fields)


def _chunks(data: bytes) -> tuple[bytes, ...]:
    return _layout(f"{_CHUNK}s", len(data) // _CHUNK).unpack(data)


@cache
def _layout(record: str, count: int) -> struct.Struct:
    return struct.Struct("<" + record * count)
