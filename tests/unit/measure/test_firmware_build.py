"""What a firmware was built with, by the files in it. Real firmware is in tests/conformance."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.measure.firmware.boot_options import EFI_SHELL
from builder.measure.firmware.build import (
    BDS_DXE,
    SECURE_BOOT_CONFIG_DXE,
    SMBIOS_MEASUREMENT_DXE,
    SMBIOS_PLATFORM_DXE,
    firmware_build,
    firmware_strings,
)
from builder.measure.firmware.smbios import FirmwareStrings
from builder.measure.firmware.volume import firmware_files
from builder.model.launch_profile import CcMeasurement
from tests.fakes.boot_files import DXE_CORE, SOME_FILE, ffs_file, section, volume

PE32 = 0x10
CORE = ffs_file(SOME_FILE, b"core", kind=DXE_CORE)


def text(value: str) -> bytes:
    return (value + "\0").encode("utf-16-le")


def driver(*constants: str, fallback: str = "02/02/2022", noise: bytes = b"") -> bytes:
    """The data of a compiled driver: literals on 2-byte boundaries, constants on 16-byte boundaries."""
    data = b"MZ code" + bytes(7) + text("unknown") + text(fallback)
    for constant in constants:
        data = data.ljust(-(-len(data) // 16) * 16, b"\0")
        data += text(constant)
    return data + noise


BDS = b"MZ" + text("Some vendor")
DATE, VERSION, VENDOR = "09/26/2026", "2026.08-2", "Some vendor"


@pytest.mark.parametrize(
    ("constants", "expected"),
    [
        ((DATE, VERSION, VENDOR), FirmwareStrings(VENDOR, VERSION, DATE)),
        ((VERSION, VENDOR), FirmwareStrings(VENDOR, VERSION, "02/02/2022")),
        ((DATE, VENDOR), FirmwareStrings(VENDOR, "unknown", DATE)),
        ((VENDOR,), FirmwareStrings(VENDOR, "unknown", "02/02/2022")),
    ],
    ids=["all", "no date", "no version", "vendor only"],
)
def test_the_strings_are_those_of_the_build_or_what_the_driver_falls_back_to(
    constants: tuple[str, ...], expected: FirmwareStrings
) -> None:
    assert firmware_strings(driver(*constants), bds=BDS) == expected


def test_the_fallback_date_is_the_drivers_own() -> None:
    strings = firmware_strings(driver(VENDOR, fallback="2/2/2022"), bds=BDS)
    assert strings is not None
    assert strings.release_date == "2/2/2022"


UNTOLD = {
    "nothing": b"",
    "no literals": text(DATE) + text(VERSION) + text(VENDOR),
    "no fallback date": b"MZ" + text("unknown") + text("date") + text(VENDOR),
    "no constants": driver(),
    "another order": driver(VENDOR, VERSION, DATE),
    "version and vendor swapped": driver(DATE, VENDOR, VERSION),
    "one constant too many": driver(DATE, VERSION, VENDOR, "another"),
    "a vendor that BdsDxe does not have": driver(DATE, VERSION, "Other vendor"),
}


@pytest.mark.parametrize("image", UNTOLD.values(), ids=UNTOLD)
def test_a_driver_built_otherwise_tells_nothing(image: bytes) -> None:
    assert firmware_strings(image, bds=BDS) is None


def test_printable_bytes_before_a_constant_are_not_of_it() -> None:
    image = driver(DATE, VERSION)
    image = image.ljust(-(-len(image) // 16) * 16 + 14, b"\0") + b"@\0" + text(VENDOR)
    assert firmware_strings(image, bds=BDS) == FirmwareStrings(VENDOR, VERSION, DATE)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_tell_nothing_or_printable_text(data: bytes) -> None:
    for image in (data, driver(DATE) + data):
        strings = firmware_strings(image, bds=BDS + data)
        if strings is not None:
            assert all(each.isascii() and each.isprintable() for each in strings.__dict__.values())


def test_drivers_are_found_by_their_file_names() -> None:
    bare = firmware_build(volume([CORE]))
    assert (bare.secure_boot, bare.smbios_measured, bare.shell, bare.strings) == (False, False, False, None)
    assert bare.cc_measurement is CcMeasurement.ABSENT
    names = (SECURE_BOOT_CONFIG_DXE, SMBIOS_MEASUREMENT_DXE, EFI_SHELL)
    full = firmware_build(volume([CORE, *(ffs_file(name, b"driver") for name in names)]))
    assert (full.secure_boot, full.smbios_measured, full.shell) == (True, True, True)


def test_what_could_not_be_read_is_unknown_and_never_absent() -> None:
    unread = volume([CORE, ffs_file(SOME_FILE, section(0x01, b"compressed"), kind=0x0B)])
    build = firmware_build(unread)
    assert (build.secure_boot, build.smbios_measured, build.shell) == (None, None, None)
    assert build.cc_measurement is CcMeasurement.UNKNOWN
    found = firmware_build(unread + volume([ffs_file(SECURE_BOOT_CONFIG_DXE, b"driver")]))
    assert found.secure_boot is True


def test_strings_come_out_of_the_drivers_pe_image() -> None:
    def file_of(image: bytes) -> bytes:
        return section(0x13, b"depex") + section(PE32, image) + section(0x15, text("name"))

    platform = ffs_file(SMBIOS_PLATFORM_DXE, file_of(driver(DATE, VERSION, VENDOR)))
    image = volume([CORE, platform, ffs_file(BDS_DXE, file_of(BDS))])
    assert firmware_build(image).strings == FirmwareStrings(VENDOR, VERSION, DATE)
    assert firmware_build(volume([CORE, platform])).strings is None
    found = firmware_files(image, programs=frozenset({BDS_DXE}))
    assert found.programs == {BDS_DXE: BDS.ljust(len(found.programs[BDS_DXE]), b"\0")}


def test_of_a_real_firmware(vectors: Path) -> None:
    build = firmware_build((vectors / "firmware/virtee_OVMF.inteltdx.fd").read_bytes())
    assert build.cc_measurement is CcMeasurement.PRESENT
    assert (build.secure_boot, build.smbios_measured) == (True, False)
    assert build.strings == FirmwareStrings("EDK II", "edk2-20240214-7.fc40", "02/14/2024")
