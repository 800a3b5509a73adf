"""Unified kernel images: what is measured is what was put in, and a stub that cannot take it is refused."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure.images.pe_image import parse_pe_image
from builder.measure.images.uki import parse_uki
from builder.normalize.uki import UkiSection, add_sections, kernel_version
from tests.fakes.boot_files import bzimage
from tests.fakes.efi_images import HEADERS, OPTIONAL, SECTION_TABLE, Section, efi_stub

SECTIONS = (UkiSection(".cmdline", b"console=ttyS0"), UkiSection(".linux", bzimage()))


def changed(offset: int, data: bytes) -> bytes:
    image = efi_stub()
    return image[:offset] + data + image[offset + len(data) :]


@given(st.lists(st.binary(min_size=1, max_size=9000), min_size=1, max_size=4))
def test_the_stub_finds_every_section_byte_by_byte(contents: list[bytes]) -> None:
    names = (".osrel", ".cmdline", ".uname", ".initrd")
    sections = [UkiSection(name, content) for name, content in zip(names, contents, strict=False)]
    image = add_sections(efi_stub(), [*sections, SECTIONS[-1]])
    uki = parse_uki(image)
    assert uki.stub == "257.13-1~deb13u1"
    assert not uki.ambiguous
    assert uki.profile(0) == {section.name: section.content for section in (*sections, SECTIONS[-1])}


def test_sections_lie_one_after_the_other_and_inside_the_image() -> None:
    image = add_sections(efi_stub(), SECTIONS)
    found = sorted(parse_pe_image(image).sections, key=lambda section: section.virtual_address)
    for one, other in pairwise(found):
        assert one.virtual_address + one.virtual_size <= other.virtual_address
        assert one.start + one.raw_size <= other.start
    size_of_image = int.from_bytes(image[OPTIONAL + 56 : OPTIONAL + 60], "little")
    assert found[-1].virtual_address + found[-1].virtual_size <= size_of_image
    assert all(section.virtual_address % 4096 == 0 and section.start % 512 == 0 for section in found)


def test_the_stub_itself_stays_as_it_is() -> None:
    image = add_sections(efi_stub(), SECTIONS)
    assert image[HEADERS : len(efi_stub())] == efi_stub()[HEADERS:]
    assert image[0x48:0x4C] == efi_stub()[0x48:0x4C]  # TimeDateStamp


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "truncated"),
        (efi_stub()[:70], "truncated"),
        (b"ELF" + efi_stub()[3:], "no PE32"),
        (changed(OPTIONAL, b"\x0b\x01"), "no PE32"),
        (changed(OPTIONAL + 112 + 32, b"\1"), "signed"),
        (changed(0x46, bytes(2)), "0 sections, none of them behind its headers"),
        (changed(OPTIONAL + 32, bytes(4)), "alignment 0x0"),
        (changed(OPTIONAL + 36, b"\x03\0\0\0"), "alignment 0x3"),
        (changed(OPTIONAL + 60, struct.pack("<I", SECTION_TABLE + 80)), "bytes of room"),
        (changed(SECTION_TABLE + 80, b"code"), "bytes of room"),
        (efi_stub(Section(".linux", b"other")), r"two sections \.linux"),
    ],
)
def test_a_stub_that_cannot_take_the_sections_is_refused(image: bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        add_sections(image, SECTIONS)


@given(st.binary(max_size=400), st.integers(0, 300))
def test_hostile_stubs_never_give_anything_but_a_refusal_or_an_image(noise: bytes, offset: int) -> None:
    image = efi_stub()[:offset] + noise + efi_stub()[offset + len(noise) :]
    try:
        add_sections(image, SECTIONS)
    except DocumentError:
        return


@pytest.mark.parametrize(
    "section", [UkiSection(".cmdline", b""), UkiSection(".far-too-long", b"x"), UkiSection("", b"x")]
)
def test_a_section_that_no_header_can_describe_is_refused(section: UkiSection) -> None:
    with pytest.raises(DocumentError, match="wanted a name and content"):
        add_sections(efi_stub(), [section])


def test_the_same_section_twice_is_refused() -> None:
    with pytest.raises(DocumentError, match="two sections"):
        add_sections(efi_stub(), [SECTIONS[0], SECTIONS[0]])


def test_the_version_is_the_kernels_own() -> None:
    assert kernel_version(bzimage(release=b"6.12.95+deb12 (builder@host) #1")) == "6.12.95+deb12"


@pytest.mark.parametrize(
    "kernel", [b"", bytes(0x300), bzimage()[:0x206], bzimage(release=b""), bzimage(release=b"\xff")]
)
def test_a_kernel_that_does_not_say_its_version_is_refused(kernel: bytes) -> None:
    with pytest.raises(DocumentError, match="UKI: the kernel"):
        kernel_version(kernel)
