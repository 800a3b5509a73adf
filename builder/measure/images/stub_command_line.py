"""Command lines as systemd-stub takes them: from the boot loader, or from a section of the UKI."""

import re
from dataclasses import dataclass

from builder.errors import DocumentError

_OLD_RULE_UNTIL = 254  # read in the sources of 252 and 254
_NEW_RULE_FROM = 257  # read in the source of 257
_PROFILE = re.compile(r"@([0-9]{1,10})(?: |$)")


@dataclass(frozen=True)
class StubOptions:
    """Load options without the number of a profile; `text` is empty if there are none."""

    profile: int
    text: str


def split_options(load_options: str, *, profiles: bool) -> StubOptions:
    """`@N` in front names a profile, for stubs that know `profiles`.

    DocumentError for what is not printable ASCII, and for nothing but blanks, which versions treat differently.
    """
    if not load_options.isascii() or not all(character.isprintable() for character in load_options):
        raise DocumentError(f"load options {load_options!r} are not printable ASCII")
    match = _PROFILE.match(load_options) if profiles else None
    profile = 0 if match is None else int(match[1])
    text = load_options if match is None else load_options[match.end() :]
    if text and not text.strip(" "):
        raise DocumentError("load options: nothing but blanks, which no rule covers", hint="give none at all")
    return StubOptions(profile, text)


def embedded_command_line(section: bytes, version: int) -> str:
    """The content of `.cmdline` up to a NUL, as the stub hands it on.

    DocumentError if it is not UTF-8, or has characters that UTF-16 needs two units for: no rule covers those.
    """
    content = section.partition(b"\0")[0]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"UKI: .cmdline is not UTF-8 at byte {error.start}") from error
    if any(character > "\uffff" for character in text):
        raise DocumentError("UKI: .cmdline has characters beyond U+FFFF, which no rule covers")
    return mangle(text, version)


def mangle(text: str, version: int) -> str:
    """Control characters as blanks, and none at the end; from 257 on none at the beginning either.

    DocumentError where it matters which rule 255 and 256 follow.
    """
    old = re.sub("[\x00-\x1f]", " ", text).rstrip(" ")
    new = re.sub("[\x00-\x20\x7f]", " ", text).strip(" ")
    if version <= _OLD_RULE_UNTIL:
        return old
    if version < _NEW_RULE_FROM and old != new:
        raise DocumentError(
            f"command line {text!r}: not known whether systemd-stub {version} keeps its leading blanks and DELs",
            hint="write the command line without them",
        )
    return new
