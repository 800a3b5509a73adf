"""Unified kernel images: which sections a stub sees, profile by profile, and the initrd that it makes of them."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuilderError, DocumentError
from builder.measure.images.uki import MOST_PROFILES, SECTIONS, parse_uki
from builder.measure.images.uki_initrd import uki_initrd
from tests.fakes.efi_images import SECTION_TABLE, Section, kernel, pe_image, stub_magic, uki

VERSION = "257.13-1~deb13u1"


def sections(*more: Section) -> dict[str, bytes]:
    return dict(parse_uki(uki(VERSION, *more)).profile(0))


def test_a_section_is_as_large_as_in_memory() -> None:
    found = sections(
        Section(".cmdline", b"quiet"), Section(".initrd", b"i" * 600, virtual_size=100), Section(".osrel", b"o", 1000)
    )
    assert found[".cmdline"] == b"quiet"
    assert found[".initrd"] == b"i" * 100
    assert found[".osrel"] == b"o" + bytes(999)
    assert found[".linux"] == kernel()


def test_only_sections_that_stubs_know_count_and_only_with_content() -> None:
    found = sections(Section(".mine", b"x"), Section(".uname", b"", virtual_size=0), Section(".sbat", b"s"))
    assert set(found) == {".linux", ".sbat"}


def test_the_stub_says_its_version() -> None:
    assert parse_uki(uki(VERSION)).stub == VERSION
    assert parse_uki(pe_image([Section(".linux", kernel())])).stub == ""
    assert parse_uki(pe_image([Section(".linux", kernel()), Section(".sdmagic", b"#### LoaderInfo: ")])).stub == ""


def test_the_version_is_not_taken_from_other_sections() -> None:
    hidden = Section(".osrel", stub_magic("999").content)
    assert parse_uki(pe_image([Section(".linux", kernel()), hidden])).stub == ""


PROFILES = uki(
    VERSION,
    Section(".cmdline", b"base"),
    Section(".osrel", b"os"),
    Section(".profile", b"ID=a"),
    Section(".profile", b"ID=b"),
    Section(".cmdline", b"second"),
    Section(".osrel", b"", virtual_size=0),
)


def test_profiles_override_the_base_sections_before_them() -> None:
    parsed = parse_uki(PROFILES)
    assert len(parsed.profiles) == 2
    assert parsed.profile(0)[".cmdline"] == b"base"
    assert parsed.profile(0)[".profile"] == b"ID=a"
    assert parsed.profile(0)[".osrel"] == b"os"
    assert parsed.profile(1)[".cmdline"] == b"second"
    assert ".osrel" not in parsed.profile(1), "an empty section hides the one of the base"
    with pytest.raises(DocumentError, match="profile 2, of 2"):
        parsed.profile(2)


def test_the_first_section_of_a_name_counts_and_older_stubs_are_told() -> None:
    twice = parse_uki(uki(VERSION, Section(".cmdline", b"first"), Section(".cmdline", b"last")))
    assert twice.profile(0)[".cmdline"] == b"first"
    assert twice.ambiguous
    assert parse_uki(uki(VERSION, Section(".dtb", b"1"), Section(".dtbauto", b"2"))).ambiguous
    assert not parse_uki(uki(VERSION, Section(".cmdline", b"first"))).ambiguous


def test_a_kernel_may_be_in_every_profile_or_in_the_base_and_nowhere_else() -> None:
    linux = Section(".linux", kernel())
    profile = Section(".profile", b"p")
    parse_uki(pe_image([profile, linux, profile, linux]))
    for image in (pe_image([Section(".text", b"x")]), pe_image([profile, linux, profile])):
        with pytest.raises(DocumentError, match=r"no \.linux section"):
            parse_uki(image)


def test_an_image_that_grows_in_memory_without_end_is_refused() -> None:
    with pytest.raises(DocumentError, match="bytes more in memory than in the file"):
        sections(Section(".initrd", b"x", virtual_size=0xFFFFFFFF))


def test_the_zeros_behind_a_kernel_are_counted_and_not_made() -> None:
    image = uki(VERSION, Section(".profile", b"p"), Section(".profile", b"q"), Section(".linux", b"k", 200 << 20))
    tracemalloc.start()
    try:
        parsed = parse_uki(image)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert parsed.kernel_padding == (0, (200 << 20) - 512)
    assert parsed.profile(1)[".linux"].rstrip(b"\0") == b"k"


def test_only_a_kernel_may_grow_much() -> None:
    sections(Section(".initrd", b"x", virtual_size=4 << 20))
    with pytest.raises(DocumentError, match="bytes more in memory than in the file, wanted at most 4194304"):
        sections(Section(".initrd", b"x", virtual_size=5 << 20))


def test_profiles_without_end_are_refused() -> None:
    many = [Section(".profile", b"", virtual_size=0)] * 60
    assert len(parse_uki(pe_image([Section(".linux", kernel()), *many])).profiles) == 60 < MOST_PROFILES


@given(offset=st.integers(0, SECTION_TABLE + 40 * 8), data=st.binary(min_size=1, max_size=8))
def test_broken_images_are_refused_or_read(offset: int, data: bytes) -> None:
    hostile = PROFILES[:offset] + data + PROFILES[offset + len(data) :]
    try:
        parsed = parse_uki(hostile)
    except BuilderError:
        return
    assert all(set(profile) <= set(SECTIONS) for profile in parsed.profiles)


def archive(name: str, content: bytes) -> bytes:
    """The archive of `.extra/name`, field by field as Linux documents the format."""
    zero, one = "00000000", "00000001"
    path = f".extra/{name}"
    directory = ["070701", one, "0000416d", zero, zero, one, zero, zero, zero, zero, zero, zero, "00000007", zero]
    file = ["070701", "00000002", "00008124", zero, zero, one, zero, f"{len(content):08x}", zero, zero, zero, zero]
    file += [f"{len(path) + 1:08x}", zero]
    trailer = ["070701", zero, zero, zero, zero, one, zero, zero, zero, zero, zero, zero, "0000000B", zero]
    parts = ("".join(directory) + ".extra\0", "".join(file) + path + "\0", "".join(trailer) + "TRAILER!!!\0")
    encoded = [text.encode().ljust(-(-len(text) // 4) * 4, b"\0") for text in parts]
    return encoded[0] + encoded[1] + content.ljust(-(-len(content) // 4) * 4, b"\0") + encoded[2]


def test_an_initrd_alone_is_handed_over_as_it_is() -> None:
    assert uki_initrd({".linux": b"l", ".initrd": b"odd"}, 257) == b"odd"
    assert uki_initrd({".linux": b"l"}, 257) is None


def test_from_257_on_os_release_and_profile_come_in_archives() -> None:
    found = {".initrd": b"odd", ".osrel": b"ID=x\n", ".profile": b"ID=p"}
    expected = b"odd\0" + archive("os-release", b"ID=x\n") + archive("profile", b"ID=p")
    assert uki_initrd(found, 257) == expected
    assert uki_initrd(found, 256) == uki_initrd(found, 252) == b"odd"


def test_signature_and_key_come_in_archives_before_them() -> None:
    found = {".initrd": b"init", ".pcrsig": b"{}", ".pcrpkey": b"key", ".osrel": b"o"}
    common = b"init" + archive("tpm2-pcr-signature.json", b"{}") + archive("tpm2-pcr-public-key.pem", b"key")
    assert uki_initrd(found, 254) == common
    assert uki_initrd(found, 262) == common + archive("os-release", b"o")


def test_microcode_comes_first_for_stubs_that_know_it() -> None:
    found = {".initrd": b"init", ".ucode": b"micro"}
    assert uki_initrd(found, 256) == b"micro\0\0\0init"
    assert uki_initrd(found, 255) == b"init"
    assert uki_initrd({".ucode": b"micro"}, 256) == b"micro"
