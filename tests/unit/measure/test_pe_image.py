"""PE headers: sections by name and size, and what is refused. Digests are tested in `test_authenticode`."""

import struct

import pytest

from builder.errors import DocumentError
from builder.measure.images.pe_image import PeSection, image_version, parse_pe_image
from tests.fakes.efi_images import HEADERS, OPTIONAL, SECTION_TABLE, Section, pe_image

TWO = pe_image([Section(".text", b"x" * 700), Section(".linux", b"y" * 10, virtual_size=4000)], image_version=3)


def patched(offset: int, data: bytes, image: bytes = TWO) -> bytes:
    return image[:offset] + data + image[offset + len(data) :]


def test_sections_keep_the_order_of_their_table() -> None:
    parsed = parse_pe_image(TWO)
    assert parsed.sections == (
        PeSection(".text", 700, 0x10000, 1024, HEADERS),
        PeSection(".linux", 4000, 0x20000, 512, HEADERS + 1024),
    )
    assert parsed.size == parsed.content_size == len(TWO)


def test_a_long_name_is_in_the_string_table() -> None:
    strings = struct.pack("<I", 17) + b".vendor_cert\0"
    (section,) = parse_pe_image(pe_image([Section("/4", b"x")], strings=strings)).sections
    assert section.name == ".vendor_cert"


@pytest.mark.parametrize("name", ["/", "/x", "/9999999", "/²"])
def test_a_name_that_points_nowhere_stays_as_it_is(name: str) -> None:
    (section,) = parse_pe_image(pe_image([Section(name, b"x")])).sections
    assert section.name == name.encode().decode("latin-1")


def test_the_image_version_is_that_of_the_optional_header() -> None:
    assert image_version(TWO) == (3, 0)
    with pytest.raises(DocumentError, match="no MZ and PE"):
        image_version(b"XX" + TWO[2:])


def test_pe32_images_have_their_directories_elsewhere() -> None:
    image = bytearray(TWO)
    struct.pack_into("<H", image, OPTIONAL, 0x10B)
    struct.pack_into("<I", image, OPTIONAL + 92, 16)
    assert parse_pe_image(bytes(image)).certificate_entry == OPTIONAL + 96 + 32
    assert parse_pe_image(TWO).certificate_entry == OPTIONAL + 112 + 32


def test_no_part_of_the_file_belongs_to_two_sections() -> None:
    """Otherwise a file of 1 MB could say that it has gigabytes of content."""
    twice = patched(SECTION_TABLE + 40 + 16, struct.pack("<II", 1024, HEADERS))
    with pytest.raises(DocumentError, match="more than the file's"):
        parse_pe_image(twice)


def test_a_section_without_content_may_point_anywhere() -> None:
    parsed = parse_pe_image(patched(SECTION_TABLE + 40 + 16, struct.pack("<II", 0, 0xFFFFFFFF)))
    assert parsed.sections[1].raw_size == 0


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (TWO[:-1], "beyond the end"),
        (patched(0x46, b"\xff\xff"), "section table"),
        (patched(SECTION_TABLE + 20, b"\xff\xff\xff\xff"), "beyond the end"),
    ],
)
def test_broken_headers_are_refused(image: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        parse_pe_image(image)
