"""The first look at a built firmware: whatever is not one for a TD, as asked for, ends the step."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuildFailedError
from builder.inside.tdx_firmware import check_tdx_firmware
from builder.measure import parse_tdvf
from tests.fakes.boot_files import FOOTER, OTHER_ENTRY, Firmware

SIZE = 0x10000
GOOD = Firmware(size=SIZE).encode()
MODULES = "GUID SecMain\nGUID TdTcg2Dxe\n\nGUID Tcg2Dxe\n"
DRIVERS = ("TdTcg2Dxe", "Tcg2Dxe")


def check(firmware: bytes = GOOD, *, modules: str = MODULES) -> None:
    check_tdx_firmware(firmware, size=SIZE, modules=modules, wanted=DRIVERS)


def test_what_the_measuring_core_can_read_passes() -> None:
    parse_tdvf(GOOD)
    check()


def test_entries_of_other_kinds_are_passed_over() -> None:
    check(Firmware(size=SIZE, entries=[(OTHER_ENTRY, bytes(size)) for size in (0, 1, 100)]).encode())


def test_modules_are_only_asked_for_where_they_are_wanted() -> None:
    check_tdx_firmware(GOOD, size=SIZE, modules="", wanted=())


@pytest.mark.parametrize("firmware", [b"", GOOD[:-1], GOOD + b"\0", GOOD[: SIZE // 2], GOOD * 2])
def test_a_firmware_of_another_size_is_refused(firmware: bytes) -> None:
    with pytest.raises(BuildFailedError, match=f"^the firmware has {len(firmware)} bytes, wanted {SIZE}$"):
        check(firmware)


@pytest.mark.parametrize(
    "firmware",
    [
        Firmware(size=SIZE, footer=OTHER_ENTRY).encode(),
        Firmware(size=SIZE, tdx_entry=OTHER_ENTRY).encode(),
        Firmware(size=SIZE, signature=b"TDVX").encode(),
        Firmware(size=SIZE, distance=0).encode(),
        Firmware(size=SIZE, distance=SIZE + 1).encode(),
        Firmware(size=SIZE, distance=0xFFFFFFFF).encode(),
        Firmware(size=SIZE, table_length=0).encode(),
        Firmware(size=SIZE, extra={SIZE - 32 - 18 - 18: struct.pack("<H", 0)}).encode(),
        bytes(SIZE),
        b"\xff" * SIZE,
    ],
    ids=["footer", "entry", "signature", "no-distance", "too-far", "farthest", "no-table", "no-step", "zeros", "ones"],
)
def test_a_firmware_without_metadata_is_refused(firmware: bytes) -> None:
    with pytest.raises(BuildFailedError, match="^the firmware has no TDX metadata$"):
        check(firmware)


@pytest.mark.parametrize(
    ("modules", "missing"),
    [
        ("", "TdTcg2Dxe, Tcg2Dxe"),
        (MODULES.replace("TdTcg2Dxe", "TdTcg2Pei"), "TdTcg2Dxe"),
        (MODULES.replace(" Tcg2Dxe", " Tcg2Pei"), "Tcg2Dxe"),  # which is the end of another name
    ],
)
def test_a_driver_that_was_asked_for_and_is_not_there_is_named(modules: str, missing: str) -> None:
    with pytest.raises(BuildFailedError, match=f"^the firmware has no {missing}, which its defines ask for$"):
        check(modules=modules)


@given(st.binary(min_size=64, max_size=64))
def test_any_end_of_a_file_has_an_answer(end: bytes) -> None:
    size = len(end) + 32
    table = end[:-16] + FOOTER.bytes_le + bytes(32)
    with pytest.raises(BuildFailedError):
        check_tdx_firmware(table, size=size, modules="", wanted=())
