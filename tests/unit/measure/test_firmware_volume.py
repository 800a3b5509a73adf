"""Whether a firmware has the driver that extends RTMRs. Real firmware is in tests/vectors."""

import tracemalloc

import pytest

from builder.measure import CcMeasurement, cc_measurement_of
from builder.measure.firmware.volume import MAX_DECOMPRESSED, MAX_ITEMS, TD_TCG2_DXE
from tests.fakes.boot_files import (
    DXE_CORE,
    LZMA_SECTION,
    OTHER_ENTRY,
    SOME_FILE,
    VARIABLE_STORE,
    VOLUME_IMAGE,
    ffs_file,
    guided_section,
    lzma_alone,
    section,
    volume,
)

VOLUME_SECTION = 0x17
CORE = ffs_file(SOME_FILE, b"core", kind=DXE_CORE)
WITH_DRIVER = volume([CORE, ffs_file(TD_TCG2_DXE, b"driver")])
WITHOUT_DRIVER = volume([CORE, ffs_file(OTHER_ENTRY, TD_TCG2_DXE.bytes_le)])


def image(content: bytes) -> bytes:
    """A flash image like OVMF: a variable store, then a volume with one file that holds sections."""
    store = volume([], file_system=VARIABLE_STORE, size=8192)
    return store + volume([ffs_file(OTHER_ENTRY, content, kind=VOLUME_IMAGE)])


def compressed(inner: bytes) -> bytes:
    return guided_section(LZMA_SECTION, lzma_alone(section(0x19, bytes(12)) + section(VOLUME_SECTION, inner)))


def test_the_driver_is_found_inside_a_compressed_volume() -> None:
    assert cc_measurement_of(image(compressed(WITH_DRIVER))) is CcMeasurement.PRESENT


def test_absent_means_that_everything_was_read_and_it_is_not_there() -> None:
    """Its GUID inside another file, as a dependency of some driver, is not the driver."""
    assert cc_measurement_of(image(compressed(WITHOUT_DRIVER))) is CcMeasurement.ABSENT


def test_uncompressed_volumes_are_read_too() -> None:
    assert cc_measurement_of(WITH_DRIVER) is CcMeasurement.PRESENT
    assert cc_measurement_of(image(section(VOLUME_SECTION, WITHOUT_DRIVER))) is CcMeasurement.ABSENT
    crc = guided_section(OTHER_ENTRY, section(VOLUME_SECTION, WITH_DRIVER), attributes=2)
    assert cc_measurement_of(image(crc)) is CcMeasurement.PRESENT


def test_large_files_and_sections_are_read() -> None:
    large = section(VOLUME_SECTION, WITH_DRIVER, large=True)
    assert cc_measurement_of(image(large)) is CcMeasurement.PRESENT
    assert cc_measurement_of(image(guided_section(LZMA_SECTION, lzma_alone(large)))) is CcMeasurement.PRESENT
    file = ffs_file(OTHER_ENTRY, large, kind=VOLUME_IMAGE, large=True)
    assert cc_measurement_of(volume([file])) is CcMeasurement.PRESENT
    assert cc_measurement_of(volume([file[:24] + bytes(8) + file[32:]])) is CcMeasurement.UNKNOWN


UNKNOWN = {
    "empty file": b"",
    "zeros": bytes(65536),
    "no DXE core": image(compressed(volume([ffs_file(SOME_FILE, b"x")]))),
    "unknown compression": image(guided_section(OTHER_ENTRY, b"secret")) + WITHOUT_DRIVER,
    "UEFI compression": image(section(0x01, b"secret")) + WITHOUT_DRIVER,
    "unknown file system": volume([], file_system=SOME_FILE) + WITHOUT_DRIVER,
    "broken compression": image(guided_section(LZMA_SECTION, b"\xff" * 40)) + WITHOUT_DRIVER,
    "truncated compression": image(guided_section(LZMA_SECTION, lzma_alone(bytes(9999))[:30])) + WITHOUT_DRIVER,
    "section of size 0": image(bytes(8)) + WITHOUT_DRIVER,
    "file of size 0": volume([ffs_file(SOME_FILE, b"")[:20] + bytes(4)]) + WITHOUT_DRIVER,
}


@pytest.mark.parametrize("firmware", UNKNOWN.values(), ids=UNKNOWN)
def test_what_could_not_be_read_is_unknown_and_never_absent(firmware: bytes) -> None:
    assert cc_measurement_of(firmware) is CcMeasurement.UNKNOWN


def test_what_was_found_stays_found_when_the_rest_cannot_be_read() -> None:
    assert cc_measurement_of(WITH_DRIVER + image(bytes(8))) is CcMeasurement.PRESENT


def test_a_decompression_bomb_is_not_unpacked() -> None:
    bomb = lzma_alone(bytes(MAX_DECOMPRESSED + 1))
    assert len(bomb) < MAX_DECOMPRESSED // 1000
    assert cc_measurement_of(image(guided_section(LZMA_SECTION, bomb))) is CcMeasurement.UNKNOWN


def test_endless_nesting_is_not_followed() -> None:
    nested = WITH_DRIVER
    for _ in range(20):
        nested = volume([ffs_file(OTHER_ENTRY, section(VOLUME_SECTION, nested), kind=VOLUME_IMAGE)])
    assert cc_measurement_of(nested) is CcMeasurement.UNKNOWN


def test_a_volume_with_a_wrong_checksum_is_no_volume() -> None:
    broken = bytearray(WITH_DRIVER)
    broken[50] ^= 1
    assert cc_measurement_of(bytes(broken)) is CcMeasurement.UNKNOWN


def nested(content: bytes) -> bytes:
    """Sections inside volumes inside volumes, three deep."""
    for _ in range(3):
        content = section(VOLUME_SECTION, image(content), large=True)
    return content


def test_what_is_unpacked_is_never_held_twice_however_deep_a_volume_lies() -> None:
    unpacked = nested(section(0x19, bytes(MAX_DECOMPRESSED // 2), large=True))
    firmware = image(guided_section(LZMA_SECTION, lzma_alone(unpacked)))
    tracemalloc.start()
    try:
        cc_measurement_of(firmware)
        assert tracemalloc.get_traced_memory()[1] < 2 * MAX_DECOMPRESSED
    finally:
        tracemalloc.stop()


def test_the_budget_is_for_all_that_is_unpacked_together() -> None:
    half = guided_section(LZMA_SECTION, lzma_alone(section(0x19, bytes(MAX_DECOMPRESSED // 2), large=True)))
    driver = section(VOLUME_SECTION, WITHOUT_DRIVER)
    assert cc_measurement_of(image(half + driver)) is CcMeasurement.ABSENT
    assert cc_measurement_of(image(half + half + driver)) is CcMeasurement.UNKNOWN


def test_files_without_end_are_not_read() -> None:
    files = [ffs_file(OTHER_ENTRY, b"")] * (MAX_ITEMS - 1)
    assert cc_measurement_of(volume([CORE, *files])) is CcMeasurement.ABSENT
    assert cc_measurement_of(volume([CORE, *files, files[0]])) is CcMeasurement.UNKNOWN
