"""Firmware that ships with keys measures other secure-boot events than the rules here say, and is refused."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuilderError, DocumentError
from builder.measure import BootFiles, Measurer, launch_profiles, parse_tdvf
from builder.measure.tdvf import SectionType
from builder.measure.variable_store import check_no_variables
from builder.model.recipe import VmmSpec
from builder.model.reference_values import AcpiDigests
from tests.fakes.boot_files import VARIABLE_STORE, Firmware, bzimage, volume

HEADER = struct.pack("<16sIBBHI", bytes(16), 0x1FB8, 0x5A, 0xFE, 0, 0)
VARIABLE = b"\xaa\x55\x3f\0" + bytes(56)


def store(content: bytes) -> bytes:
    """A variable store of 8 KiB, with the one header that its volume holds in place of files."""
    return volume([HEADER + content], file_system=VARIABLE_STORE, size=0x2000)


def predict(firmware: bytes) -> None:
    files = BootFiles(firmware, bzimage(), None, "quiet")
    vmm = VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off", "cpu", ())
    (profile,) = launch_profiles(files, vmm=vmm, edk2="202502", shapes=[(1, 1 << 30)])
    Measurer(files).predict(profile, AcpiDigests(*("ab" * 48,) * 3))


def test_an_empty_store_passes() -> None:
    check_no_variables(store(b""))
    predict(Firmware(extra={0: store(b"")}).encode())


@pytest.mark.parametrize("state", [0x3F, 0x3D, 0x3C, 0x7F], ids=hex)
def test_firmware_with_enrolled_keys_is_refused(state: int) -> None:
    """Whatever the state says: a deleted variable was one, and nobody here knows what it left."""
    variable = VARIABLE[:2] + bytes((state,)) + VARIABLE[3:]
    with pytest.raises(DocumentError, match="enrolled keys"):
        predict(Firmware(extra={0: store(variable)}).encode())


def test_a_store_of_zeros_is_not_an_empty_one() -> None:
    with pytest.raises(DocumentError, match="enrolled keys"):
        check_no_variables(store(bytes(64)))


def test_a_store_that_ends_in_its_header_is_refused() -> None:
    with pytest.raises(DocumentError, match="first variable"):
        check_no_variables(store(b"")[:100])


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_pass(data: bytes) -> None:
    for content in (data, store(b"")[:32] + data):
        try:
            check_no_variables(content)
        except BuilderError as error:
            assert str(error).startswith("firmware: variable store")


def test_a_real_firmware_for_tdx_has_an_empty_store(vectors: Path) -> None:
    firmware = (vectors / "firmware/virtee_OVMF.inteltdx.fd").read_bytes()
    (section,) = parse_tdvf(firmware).of_type(SectionType.CFV)
    data = section.data(firmware)
    check_no_variables(data)
    with pytest.raises(DocumentError, match="enrolled keys"):
        check_no_variables(data[:100] + VARIABLE + data[100 + len(VARIABLE) :])
