"""Command lines as systemd-stub takes them."""

import pytest

from builder.errors import DocumentError
from builder.measure.images.stub_command_line import StubOptions, embedded_command_line, mangle, split_options


@pytest.mark.parametrize(
    ("given", "profile", "text"),
    [
        ("", 0, ""),
        ("quiet", 0, "quiet"),
        ("@1", 1, ""),
        ("@2 quiet", 2, "quiet"),
        ("@2  quiet", 2, " quiet"),
        ("@x quiet", 0, "@x quiet"),
        ("@1quiet", 0, "@1quiet"),
        (" @1", 0, " @1"),
    ],
)
def test_a_number_in_front_names_a_profile(given: str, profile: int, text: str) -> None:
    assert split_options(given, profiles=True) == StubOptions(profile, text)


def test_stubs_that_know_no_profiles_take_the_number_for_an_option() -> None:
    assert split_options("@1 quiet", profiles=False) == StubOptions(0, "@1 quiet")


@pytest.mark.parametrize("given", ["a\nb", "é", "tab\t", "\x7f"])
def test_load_options_are_printable_ascii(given: str) -> None:
    with pytest.raises(DocumentError, match="not printable ASCII"):
        split_options(given, profiles=True)


@pytest.mark.parametrize("given", [" ", "@1  "])
def test_blanks_alone_are_refused(given: str) -> None:
    with pytest.raises(DocumentError, match="nothing but blanks"):
        split_options(given, profiles=True)


def test_control_characters_become_blanks_and_the_end_is_trimmed() -> None:
    assert mangle("a\tb  c\n\n ", 252) == mangle("a\tb  c\n\n ", 262) == "a b  c"


def test_leading_blanks_stay_with_old_stubs_and_go_with_new_ones() -> None:
    assert mangle("  a", 254) == "  a"
    assert mangle("  a", 257) == "a"
    assert mangle("a\x7f", 252) == "a\x7f"
    assert mangle("a\x7f", 257) == "a"


@pytest.mark.parametrize("version", [255, 256])
def test_between_the_two_rules_only_what_both_agree_on_is_known(version: int) -> None:
    assert mangle("quiet ", version) == "quiet"
    with pytest.raises(DocumentError, match=f"not known whether systemd-stub {version}"):
        mangle(" quiet", version)


def test_a_section_ends_at_its_first_nul() -> None:
    assert embedded_command_line(b"caf\xc3\xa9 x\n\0more", 257) == "café x"
    assert embedded_command_line(b"", 257) == ""


@pytest.mark.parametrize(("section", "reason"), [(b"a\xff", "not UTF-8 at byte 1"), ("😀".encode(), r"beyond U\+FFFF")])
def test_what_the_stub_would_drop_is_refused(section: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        embedded_command_line(section, 257)
