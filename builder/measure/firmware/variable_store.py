"""The variable store of a firmware file (CFV): the variables that a TD finds in it (`measurement.md` 5.3).

The layout is that of edk2's `VariableFormat.h`: a firmware volume of its own file system, a store header, then
authenticated variables on 4-byte boundaries, new ones behind old ones. What follows the store in the volume (event log
and fault-tolerant-write areas) holds no variables.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.measure.firmware.efi_variables import EfiVariable

NV_DATA = uuid.UUID("fff12b8d-7696-4c8b-a985-2747075b4f50")
_AUTHENTICATED = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792")
_VOLUME_ATTRIBUTES, _VOLUME_REVISION = 0x4FEFF, 2
_LARGEST_STORE = 4 << 20  # OVMF's have 128 and 528 KiB
_STORE_HEADER = 28
_FORMATTED, _HEALTHY = 0x5A, 0xFE
_VARIABLE_HEADER = 60
_START_ID = 0x55AA
_ADDED, _ADDED_IN_TRANSITION = 0x3F, 0x3E
_STATES = {0x7F, _ADDED, 0x3D, _ADDED_IN_TRANSITION, 0x3C}
# before edk2 commit ceb52713b0 the firmware's own check knew no variable that had been added and deleted
_STATES_BEFORE_202302 = {0x7F, _ADDED, 0xFD, 0xFE}
_WHAT = "firmware: variable store"
_HINT = "the firmware would not use this store, or not start at all; take a whole firmware file"


@dataclass(frozen=True)
class _StoredVariable:
    state: int
    variable: EfiVariable


def stored_variables(store: bytes, *, edk2: str) -> tuple[EfiVariable, ...]:
    """The variables that firmware of this edk2 release finds in its CFV section, in the order of the store.

    None in a section that is no variable store, because the firmware then starts with an empty one; nor in one with
    deleted variables before 202302, whose check took those for damage. DocumentError for a store that is damaged.
    Not checked: signatures of authenticated variables, which the firmware does not check in its own store either.
    """
    reader = ByteReader(store, _WHAT)
    if len(store) < 32 or reader.guid(16, name="file system") != NV_DATA:
        return ()
    if len(store) > _LARGEST_STORE:
        raise DocumentError(f"{_WHAT}: {len(store)} bytes, wanted at most {_LARGEST_STORE}", hint=_HINT)
    found = tuple(_variables(reader, *_store_range(reader)))
    known = _STATES if edk2 >= "202302" else _STATES_BEFORE_202302
    if any(each.state not in known for each in found):
        if edk2 < "202302":
            return ()
        raise DocumentError(f"{_WHAT}: a variable has an unknown state", hint=_HINT)
    return _live(found)


def _store_range(reader: ByteReader) -> tuple[int, int]:
    """First and last offset of the variables, after checking both headers as the firmware does."""
    header = reader.u16(48, name="header length")
    words = memoryview(reader.slice(0, header & ~1, name="volume header")).cast("H")
    volume = {
        "zero vector": reader.slice(0, 16, name="zero vector") == bytes(16),
        "length": reader.u64(32, name="volume length") == len(reader),
        "signature": reader.slice(40, 4, name="signature") == b"_FVH",
        "attributes": reader.u32(44, name="attributes") == _VOLUME_ATTRIBUTES,
        "revision": reader.u8(55, name="revision") == _VOLUME_REVISION,
        "checksum": header % 2 == 0 and sum(words) & 0xFFFF == 0,
    }
    size = reader.u32(header + 16, name="size of the store")
    content = {
        "store signature": reader.guid(header, name="store signature") == _AUTHENTICATED,
        "store format": reader.u8(header + 20, name="store format") == _FORMATTED,
        "store state": reader.u8(header + 21, name="store state") == _HEALTHY,
        "store size": _STORE_HEADER <= size <= len(reader) - header,
    }
    wrong = [name for name, right in (volume | content).items() if not right]
    if wrong:
        raise DocumentError(f"{_WHAT}: wrong {', '.join(wrong)}", hint=_HINT)
    return header + _STORE_HEADER, header + size


def _variables(reader: ByteReader, offset: int, end: int) -> Iterator[_StoredVariable]:
    """Every variable that was ever written, up to the first place that is none; the rest must be erased flash."""
    while offset < end:
        if end - offset < _VARIABLE_HEADER or reader.u16(offset, name="start of a variable") != _START_ID:
            _check_erased(reader, offset, end)
            return
        name_size = reader.u32(offset + 36, name="name size")
        data_size = reader.u32(offset + 40, name="data size")
        stop = offset + _VARIABLE_HEADER + name_size + data_size
        if stop > end:
            raise DocumentError(
                f"{_WHAT}: variable at {offset:#x} ends at {stop:#x}, the store at {end:#x}", hint=_HINT
            )
        yield _stored_variable(reader, offset, name_size, data_size)
        offset = -(-stop // 4) * 4
        _check_erased(reader, stop, min(offset, end))


def _stored_variable(reader: ByteReader, offset: int, name_size: int, data_size: int) -> _StoredVariable:
    start = offset + _VARIABLE_HEADER
    encoded = reader.slice(start, name_size, name="name")
    try:
        name = encoded.decode("utf-16-le").removesuffix("\0")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{_WHAT}: variable at {offset:#x}: name {encoded.hex()} is not UTF-16") from error
    data = reader.slice(start + name_size, data_size, name="data")
    return _StoredVariable(
        reader.u8(offset + 2, name="state"), EfiVariable(reader.guid(offset + 44, name="vendor"), name, data)
    )


def _check_erased(reader: ByteReader, start: int, end: int) -> None:
    if reader.slice(start, end - start, name="erased flash").strip(b"\xff"):
        raise DocumentError(f"{_WHAT}: bytes at {start:#x} are neither a variable nor erased flash", hint=_HINT)


def _live(found: tuple[_StoredVariable, ...]) -> tuple[EfiVariable, ...]:
    """One variable per name: the first that is valid, else one whose replacement was interrupted."""
    live: dict[tuple[uuid.UUID, str], EfiVariable] = {}
    for wanted in (_ADDED, _ADDED_IN_TRANSITION):
        for each in found:
            if each.state == wanted:
                live.setdefault((each.variable.vendor, each.variable.name), each.variable)
    return tuple(
        each.variable for each in found if live.get((each.variable.vendor, each.variable.name)) is each.variable
    )
