"""Authenticode digests (`measurement.md` 6.4): what is left out, what is not, and what is refused."""

import hashlib
import struct

import pytest

from builder.errors import DocumentError
from builder.measure import authenticode_digest
from tests.fakes.boot_files import bzimage

IMAGE = bzimage()
OPTIONAL = 0x58
CHECKSUM, HEADERS_SIZE, DIRECTORY_COUNT, CERTIFICATE = OPTIONAL + 64, OPTIONAL + 60, OPTIONAL + 108, OPTIONAL + 144
FIRST_SECTION = 0xF8


def patched(offset: int, data: bytes, image: bytes = IMAGE) -> bytes:
    return image[:offset] + data + image[offset + len(data) :]


def u32(offset: int, value: int, image: bytes = IMAGE) -> bytes:
    return patched(offset, struct.pack("<I", value), image)


def test_an_unsigned_image_is_its_bytes_without_checksum_and_directory_entry() -> None:
    content = IMAGE[:CHECKSUM] + IMAGE[CHECKSUM + 4 : CERTIFICATE] + IMAGE[CERTIFICATE + 8 :]
    assert authenticode_digest(IMAGE) == hashlib.sha384(content).digest()
    assert authenticode_digest(IMAGE, algorithm="sha256") == hashlib.sha256(content).digest()


def test_signing_does_not_change_the_digest() -> None:
    certificates = bytes(range(200))
    signed = patched(CERTIFICATE, struct.pack("<II", len(IMAGE), len(certificates)), u32(CHECKSUM, 0x1234))
    assert authenticode_digest(signed + certificates) == authenticode_digest(IMAGE)


@pytest.mark.parametrize("extra", [b"\0", b"abc", bytes(8)])
def test_trailing_data_counts_and_is_not_padded(extra: bytes) -> None:
    content = IMAGE[:CHECKSUM] + IMAGE[CHECKSUM + 4 : CERTIFICATE] + IMAGE[CERTIFICATE + 8 :] + extra
    assert authenticode_digest(IMAGE + extra) == hashlib.sha384(content).digest()


TIMESTAMP, SUBSYSTEM = 0x48, CHECKSUM + 4


@pytest.mark.parametrize(
    "offset", [2, TIMESTAMP, SUBSYSTEM, CERTIFICATE - 1, CERTIFICATE + 8, 0x3FF, 0x400, 0x2000, len(IMAGE) - 1]
)
def test_every_other_byte_changes_the_digest(offset: int) -> None:
    assert authenticode_digest(patched(offset, bytes((IMAGE[offset] ^ 1,)))) != authenticode_digest(IMAGE)


def test_sections_are_hashed_in_the_order_of_the_file() -> None:
    swapped = patched(
        FIRST_SECTION, IMAGE[FIRST_SECTION + 40 : FIRST_SECTION + 80] + IMAGE[FIRST_SECTION : FIRST_SECTION + 40]
    )
    in_order = hashlib.sha384(swapped[:CHECKSUM] + swapped[CHECKSUM + 4 : CERTIFICATE] + swapped[CERTIFICATE + 8 :])
    assert authenticode_digest(swapped) == in_order.digest()


def test_an_image_with_few_directories_keeps_those_bytes() -> None:
    few = u32(DIRECTORY_COUNT, 4)
    assert authenticode_digest(few) == hashlib.sha384(few[:CHECKSUM] + few[CHECKSUM + 4 :]).digest()


def test_headers_may_end_with_the_directories() -> None:
    """Nothing between the directory table and the sections: then the sections' own headers are not hashed."""
    end = CERTIFICATE + 16
    image = u32(HEADERS_SIZE, end)
    rest = image[0x400:] + image[end + len(IMAGE) - 0x400 :]
    content = image[:CHECKSUM] + image[CHECKSUM + 4 : CERTIFICATE] + image[CERTIFICATE + 8 : end] + rest
    assert authenticode_digest(image) == hashlib.sha384(content).digest()


REFUSED = {
    "nothing": (b"", "e_lfanew"),
    "no MZ": (patched(0, b"XX"), "no MZ and PE"),
    "no PE": (patched(0x40, b"XX"), "no MZ and PE"),
    "PE header beyond the end": (u32(0x3C, 0xFFFFFFF0), "PE signature"),
    "unknown magic": (patched(OPTIONAL, b"\x07\x01"), "magic 0x107"),
    "headers end before the directory": (u32(HEADERS_SIZE, 0x80), "SizeOfHeaders 0x80"),
    "headers beyond the file": (u32(HEADERS_SIZE, len(IMAGE) + 1), "SizeOfHeaders"),
    "section beyond the end": (IMAGE[:-1], "beyond the end"),
    "section at 4 GiB": (u32(FIRST_SECTION + 20, 0xFFFFFFFF), "beyond the end"),
    "overlapping sections": (u32(FIRST_SECTION + 16, 0x6001, u32(FIRST_SECTION + 20, 0x1FFF)), "more than the file's"),
    "certificates larger than the rest": (u32(CERTIFICATE + 4, 9) + bytes(8), "more than the file's"),
    "sections beyond the headers' table": (patched(0x46, b"\xff\xff"), "section table"),
}


@pytest.mark.parametrize(("image", "reason"), REFUSED.values(), ids=REFUSED)
def test_broken_images_are_refused(image: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        authenticode_digest(image)
