"""tar archives: ustar, GNU and pax (POSIX.1-2017, pax; GNU tar manual, "Basic Tar Format").

The headers are read here and not by `tarfile`, because a difference is to be named with the offset of its field.
Sparse members are compared as they are stored.
"""

from dataclasses import dataclass, field

from builder.compare.source import Extent
from builder.compare.tree import MAX_MEMBERS, Field, Format, Member, Tree, Value
from builder.errors import DocumentError
from builder.model.comparison import DifferenceKind

_BLOCK = 512
_MAX_EXTENSION = 1 << 20
_FIELDS = (
    Field("mode", DifferenceKind.MODE, 100, octal=True),
    Field("uid", DifferenceKind.OWNER, 108),
    Field("gid", DifferenceKind.OWNER, 116),
    Field("mtime", DifferenceKind.MTIME, 136),
    Field("type", DifferenceKind.OTHER, 156),
    Field("link", DifferenceKind.OTHER, 157),
    Field("user", DifferenceKind.OWNER, 265),
    Field("group", DifferenceKind.OWNER, 297),
    Field("device", DifferenceKind.OTHER, 329),
    Field("atime", DifferenceKind.MTIME),
    Field("ctime", DifferenceKind.MTIME),
    Field("pax", DifferenceKind.OTHER),
)
# pax records that replace a header field; all others are compared together as `pax`
_NAMED_RECORDS = (b"path", b"linkpath", b"size", b"mtime", b"atime", b"ctime")


@dataclass
class _Extensions:
    """What extension headers say about the member that follows them."""

    records: dict[bytes, bytes] = field(default_factory=dict)

    def add(self, kind: bytes, body: bytes) -> None:
        if kind == b"L":
            self.records[b"path"] = body.rstrip(b"\0")
        elif kind == b"K":
            self.records[b"linkpath"] = body.rstrip(b"\0")
        else:
            self.records.update(_pax_records(body))


def _matches(extent: Extent) -> bool:
    return extent.read(257, 5) == b"ustar"


def _parse(extent: Extent) -> Tree:
    members: list[Member] = []
    pending, offset = _Extensions(), 0
    for _ in range(2 * MAX_MEMBERS):
        header = extent.exactly(offset, _BLOCK, what="tar header")
        if not header.strip(b"\0"):
            return Tree(tuple(members), tail=extent.after_zeros(offset, unit=_BLOCK))
        _check_sum(header, offset)
        kind, size = header[156:157], _size(header, pending)
        content = extent.part(offset + _BLOCK, size, what="tar member")
        if kind in b"LKxg":
            pending.add(kind, _extension(content))
        else:
            members.append(_member(header, pending, offset, content))
            pending = _Extensions()
        offset += _BLOCK + -(-size // _BLOCK) * _BLOCK
    raise DocumentError(f"tar: more than {MAX_MEMBERS} members")


def _extension(content: Extent) -> bytes:
    if content.size > _MAX_EXTENSION:
        raise DocumentError(f"tar: extension header of {content.size} bytes, more than {_MAX_EXTENSION}")
    return content.read(0, content.size)


def _member(header: bytes, extensions: _Extensions, offset: int, content: Extent) -> Member:
    records = extensions.records
    name, prefix = _text(header, 0, 100), _text(header, 345, 155)
    if prefix and header[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    others = b"".join(key + b"=" + value + b"\n" for key, value in sorted(records.items()) if key not in _NAMED_RECORDS)
    values: tuple[Value, ...] = (
        _number(header, 100, 8),
        _number(header, 108, 8),
        _number(header, 116, 8),
        records.get(b"mtime") or _number(header, 136, 12),
        header[156:157],
        records.get(b"linkpath") or _text(header, 157, 100),
        _text(header, 265, 32),
        _text(header, 297, 32),
        header[329:345].strip(b"\0 "),
        records.get(b"atime", b""),
        records.get(b"ctime", b""),
        others,
    )
    return Member(records.get(b"path", name), content, offset, _FIELDS, values)


def _size(header: bytes, extensions: _Extensions) -> int:
    """The size of what follows the header; a pax record wins, and links, directories and devices have none."""
    if header[156:157] in b"123456":
        return 0
    record = None if header[156:157] in b"LKxg" else extensions.records.get(b"size")
    if record is None:
        return _number(header, 124, 12)
    if not record.isdigit() or len(record) > 20:
        raise DocumentError(f"tar: pax size {record[:30]!r} is not a number")
    return int(record)


def _number(header: bytes, offset: int, length: int) -> int:
    """An octal field, or a GNU base-256 one. The top bit of its first byte tells."""
    raw = header[offset : offset + length]
    if raw[0] & 0x80:
        return int.from_bytes(raw, "big", signed=False) & ~(0x80 << 8 * (length - 1))
    text = raw.strip(b"\0 ")
    try:
        return int(text, 8) if text else 0
    except ValueError as error:
        raise DocumentError(f"tar: header field {raw!r} is not an octal number") from error


def _text(header: bytes, offset: int, length: int) -> bytes:
    return header[offset : offset + length].split(b"\0", 1)[0]


def _check_sum(header: bytes, offset: int) -> None:
    """The sum over the header's bytes with the field of the sum itself taken as spaces."""
    wanted = sum(header[:148]) + sum(b" " * 8) + sum(header[156:])
    if _number(header, 148, 8) != wanted:
        raise DocumentError(f"tar: header at {offset} has a wrong sum")


def _pax_records(body: bytes) -> dict[bytes, bytes]:
    """`length key=value newline` again and again; the length counts the whole record."""
    records: dict[bytes, bytes] = {}
    while body.strip(b"\0"):
        digits = body[:20].split(b" ", 1)[0]
        length = int(digits) if digits.isdigit() else 0
        record = body[len(digits) + 1 : length]
        if not record.endswith(b"\n") or b"=" not in record or length > len(body):
            raise DocumentError(f"tar: malformed pax record {body[:40]!r}")
        key, value = record[:-1].split(b"=", 1)
        records[key] = value
        body = body[length:]
    return records


TAR = Format("tar", _matches, _parse)
