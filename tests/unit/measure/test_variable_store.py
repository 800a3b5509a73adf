"""The variables of a firmware file: what its own firmware would find in them."""

import struct
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuilderError, DocumentError
from builder.measure.firmware.efi_variables import EFI_GLOBAL_VARIABLE, EfiVariable
from builder.measure.firmware.state import variable_store
from builder.measure.firmware.variable_store import stored_variables
from builder.model.digest import sha384_hex
from tests.fakes.variable_stores import (
    ADDED,
    DELETED,
    GONE,
    HEADER_ONLY,
    IN_TRANSITION,
    OWNER,
    Store,
    encode_stored,
    store_of,
    volume_header,
)

PK = EfiVariable(EFI_GLOBAL_VARIABLE, "PK", b"platform key")
OLD_PK = EfiVariable(EFI_GLOBAL_VARIABLE, "PK", b"old")
BOOT = EfiVariable(EFI_GLOBAL_VARIABLE, "BootOrder", b"\0\0")
OTHER_PK = EfiVariable(OWNER, "PK", b"of somebody else")


def found(*stored: tuple[EfiVariable, int], edk2: str = "202502") -> tuple[EfiVariable, ...]:
    return stored_variables(Store(stored).encode(), edk2=edk2)


def test_valid_variables_are_found_in_their_order() -> None:
    assert found((BOOT, ADDED), (PK, ADDED), (OTHER_PK, ADDED)) == (BOOT, PK, OTHER_PK)


def test_an_empty_store_has_no_variables() -> None:
    assert found() == ()


@pytest.mark.parametrize("state", [HEADER_ONLY, DELETED, GONE], ids=hex)
def test_deleted_and_half_written_variables_are_not_there(state: int) -> None:
    assert found((PK, state)) == ()
    assert found((OLD_PK, state), (PK, ADDED)) == (PK,)


def test_an_interrupted_update_leaves_the_old_value_until_the_new_one_is_valid() -> None:
    assert found((OLD_PK, IN_TRANSITION)) == (OLD_PK,)
    assert found((OLD_PK, IN_TRANSITION), (PK, HEADER_ONLY)) == (OLD_PK,)
    assert found((OLD_PK, IN_TRANSITION), (PK, ADDED)) == (PK,)


@pytest.mark.parametrize("state", [DELETED, IN_TRANSITION, GONE], ids=hex)
def test_before_202302_a_store_with_deleted_variables_is_not_used_at_all(state: int) -> None:
    """Debian 12's firmware with the store of its own OVMF_VARS_4M.ms.fd starts without keys: seen in a boot."""
    assert found((OLD_PK, state), (PK, ADDED), edk2="202211") == ()
    assert found((OLD_PK, state), (PK, ADDED), edk2="202302") in {(PK,), (OLD_PK, PK)}
    assert found((PK, ADDED), edk2="202211") == (PK,)


@pytest.mark.parametrize("state", [0x00, 0xFF, 0x7E, 0xFD], ids=hex)
def test_an_unknown_state_is_damage(state: int) -> None:
    with pytest.raises(DocumentError, match="unknown state"):
        found((PK, state))


def test_what_follows_the_store_in_its_volume_holds_no_variables() -> None:
    """The fault-tolerant-write areas may hold copies of old blocks."""
    store = bytearray(store_of(BOOT))
    store[0x1000 : 0x1000 + 100] = encode_stored(PK).ljust(100, b"\xff")[:100]
    assert stored_variables(bytes(store), edk2="202502") == (BOOT,)


@pytest.mark.parametrize("content", [b"", b"firmware volume " * 100, bytes(4096), b"\xff" * 4096])
def test_a_section_that_is_no_variable_store_has_no_variables(content: bytes) -> None:
    assert stored_variables(content, edk2="202502") == ()


HEADER = {
    "zero vector": (0, b"\x01"),
    "volume length": (32, struct.pack("<Q", 0x3000)),
    "signature": (40, b"_FVX"),
    "attributes": (44, b"\0\0\0\0"),
    "revision": (55, b"\x01"),
    "checksum": (50, b"\0\0"),
    "store signature": (72, bytes(16)),
    "store format": (92, b"\0"),
    "store state": (93, b"\0"),
    "store size": (88, struct.pack("<I", 0x2000)),
}


@pytest.mark.parametrize(("offset", "data"), HEADER.values(), ids=HEADER)
def test_a_damaged_header_is_refused(offset: int, data: bytes) -> None:
    store = bytearray(store_of(PK))
    store[offset : offset + len(data)] = data
    with pytest.raises(DocumentError, match="variable store: wrong"):
        stored_variables(bytes(store), edk2="202502")


def test_padding_and_free_space_must_be_erased() -> None:
    with pytest.raises(DocumentError, match="neither a variable nor erased flash"):
        stored_variables(Store([(PK, ADDED)], tail=b"\0").encode(), edk2="202502")
    odd = EfiVariable(EFI_GLOBAL_VARIABLE, "PK", b"x")
    with pytest.raises(DocumentError, match="neither a variable nor erased flash"):
        stored_variables(Store(tail=encode_stored(odd)[:-1] + b"\0").encode(), edk2="202502")


@pytest.mark.parametrize("offset", [36, 40])
def test_a_variable_that_leaves_the_store_is_refused(offset: int) -> None:
    store = bytearray(store_of(PK))
    store[100 + offset : 104 + offset] = b"\xf0\xff\xff\xff"
    with pytest.raises(DocumentError, match="ends at"):
        stored_variables(bytes(store), edk2="202502")


def test_a_name_that_is_not_utf_16_is_refused() -> None:
    store = store_of(PK).replace("PK\0".encode("utf-16-le"), b"\x00\xd8\x00\xd8\0\0")
    with pytest.raises(DocumentError, match="not UTF-16"):
        stored_variables(store, edk2="202502")


@given(st.binary(max_size=200), st.integers(0, 400))
def test_arbitrary_bytes_are_refused_or_read(data: bytes, offset: int) -> None:
    store = store_of(PK, BOOT)
    for content in (data, store[:32] + data, store[:offset] + data + store[offset + len(data) :]):
        try:
            variables = stored_variables(content, edk2="202502")
        except BuilderError as error:
            assert str(error).startswith("firmware: variable store")
        else:
            assert all(isinstance(variable.vendor, uuid.UUID) for variable in variables)


def test_a_truncated_store_is_refused() -> None:
    store = store_of(PK)
    for size in (*range(32, 200), 0x1000, 0x1FFF):
        with pytest.raises(DocumentError):
            stored_variables(store[:size], edk2="202502")


def test_the_fake_header_is_the_real_one(vectors: Path) -> None:
    store = variable_store((vectors / "firmware/virtee_OVMF.inteltdx.fd").read_bytes())
    assert store[:72] == volume_header(0x20000)
    assert stored_variables(store, edk2="202402") == ()
    filled = bytearray(store)
    filled[100 : 100 + len(encode_stored(PK))] = encode_stored(PK)
    assert stored_variables(bytes(filled), edk2="202402") == (PK,)
    assert sha384_hex(bytes(filled)) != sha384_hex(store)


def test_a_store_larger_than_any_firmware_has_is_refused() -> None:
    with pytest.raises(DocumentError, match="wanted at most 4194304"):
        stored_variables(Store(size=5 << 20).encode(), edk2="202502")
