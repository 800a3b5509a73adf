"""The pseudo file that `unsquashfs -pf` writes: every member with its metadata as a line, then all contents.

Format: squashfs-tools 4.5, USAGE, "Pseudo file definitions". A name escapes spaces, quotes and backslashes, but not
newlines: a line that is no definition is the beginning of a name that goes on in the next line.
"""

import re

from builder.compare.source import Extent, in_memory
from builder.compare.tree import MAX_MEMBERS, Field, Member, Value
from builder.errors import DocumentError
from builder.model.comparison import DifferenceKind

_FIELDS = (
    Field("mode", DifferenceKind.MODE, octal=True),
    Field("uid", DifferenceKind.OWNER),
    Field("gid", DifferenceKind.OWNER),
    Field("mtime", DifferenceKind.MTIME),
    Field("type", DifferenceKind.OTHER),
    Field("link", DifferenceKind.OTHER),
)
_NOTHING = in_memory(b"")
_MARK = b"#\n# START OF DATA - DO NOT MODIFY\n#\n"
_CHUNK = 1 << 20
_MAX_LISTING = 256 << 20
# name, type, then: time mode uid gid and what the type needs; a hard link (L) has nothing but its target
_LINE = re.compile(
    rb"(?s)(?P<name>(?:[^\\ ]|\\.)+) "
    rb"(?:(?P<type>[RDSBCI]) (?P<time>\d{1,20}) (?P<mode>[0-7]{1,6}) (?P<uid>\d{1,10}) (?P<gid>\d{1,10})"
    rb"(?: (?P<rest>.*))?"
    rb"|L (?P<target>.+))"
)
_ESCAPE = re.compile(rb"(?s)\\(.)")


def parse_pseudo_file(extent: Extent) -> tuple[Member, ...]:
    """The members with their contents; values as _FIELDS. DocumentError for anything that is not a pseudo file."""
    listing, data = _split(extent)
    members: list[Member] = []
    begun = b""
    for line in listing.split(b"\n")[:-1]:
        match = _LINE.fullmatch(begun + line)
        if match is None:
            begun += line + b"\n"
            continue
        members.append(_member(match, data))
        begun = b""
        if len(members) > MAX_MEMBERS:
            raise DocumentError(f"pseudo file: more than {MAX_MEMBERS} members")
    if begun or not members:
        raise DocumentError(f"pseudo file: {begun[:60]!r} is not a definition")
    return tuple(members)


def _split(extent: Extent) -> tuple[bytes, Extent]:
    listing = bytearray()
    for offset in range(0, min(extent.size, _MAX_LISTING), _CHUNK):
        listing += extent.read(offset, _CHUNK)
        end = listing.find(_MARK, max(0, offset - len(_MARK)))
        if end >= 0:
            return bytes(listing[:end]), Extent(extent.source, end + len(_MARK), extent.size - end - len(_MARK), False)
    raise DocumentError("pseudo file: no beginning of the data")


def _member(match: re.Match[bytes], data: Extent) -> Member:
    name = _ESCAPE.sub(rb"\1", match["name"])
    if match["target"] is not None:
        values: tuple[Value, ...] = (0, 0, 0, 0, b"hard link", _ESCAPE.sub(rb"\1", match["target"]))
        return Member(name, _NOTHING, None, _FIELDS, values)
    numbers = (int(match["mode"], 8), int(match["uid"]), int(match["gid"]), int(match["time"]))
    if match["type"] != b"R":
        return Member(name, _NOTHING, None, _FIELDS, (*numbers, match["type"], match["rest"] or b""))
    return Member(name, _content(match["rest"] or b"", data), None, _FIELDS, (*numbers, b"R", b""))


def _content(rest: bytes, data: Extent) -> Extent:
    """`length offset`, and in later versions more, relative to the beginning of the data."""
    words = rest.split(b" ")
    if len(words) < 2 or not all(word.isdigit() and len(word) <= 20 for word in words[:2]):
        raise DocumentError(f"pseudo file: {rest[:60]!r} are not length and offset of a content")
    return data.part(int(words[1]), int(words[0]), what="pseudo file")
