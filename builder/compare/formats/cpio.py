"""cpio archives in the "newc" form, as an initrd is (`determinism.md` 3.2; Linux, "initramfs buffer format")."""

from builder.compare.source import Extent
from builder.compare.tree import MAX_MEMBERS, Field, Format, Member, Tree
from builder.errors import DocumentError
from builder.model.comparison import DifferenceKind

_HEADER = 110
_TRAILER = b"TRAILER!!!"
_MAX_NAME = 4096
# 8 hex digits each, from offset 6 on; filesize (6), namesize (11) and check (12) are not metadata of their own
_NUMBERS = 13
_METADATA = (
    (0, Field("ino", DifferenceKind.OTHER, 6)),
    (1, Field("mode", DifferenceKind.MODE, 14, octal=True)),
    (2, Field("uid", DifferenceKind.OWNER, 22)),
    (3, Field("gid", DifferenceKind.OWNER, 30)),
    (4, Field("nlink", DifferenceKind.OTHER, 38)),
    (5, Field("mtime", DifferenceKind.MTIME, 46)),
    (7, Field("devmajor", DifferenceKind.OTHER, 62)),
    (8, Field("devminor", DifferenceKind.OTHER, 70)),
    (9, Field("rdevmajor", DifferenceKind.OTHER, 78)),
    (10, Field("rdevminor", DifferenceKind.OTHER, 86)),
)
_FIELDS = tuple(field for _, field in _METADATA)


def _matches(extent: Extent) -> bool:
    return extent.read(0, 6) in (b"070701", b"070702")


def _parse(extent: Extent) -> Tree:
    members: list[Member] = []
    offset = 0
    while len(members) <= MAX_MEMBERS:
        member, offset = _member(extent, offset)
        if member.name == _TRAILER:
            return Tree(tuple(members), tail=extent.after_zeros(offset, unit=4))
        members.append(member)
    raise DocumentError(f"cpio: more than {MAX_MEMBERS} members")


def _member(extent: Extent, offset: int) -> tuple[Member, int]:
    """The member at `offset`, and where the next one begins."""
    numbers = _numbers(extent.exactly(offset, _HEADER, what="cpio header"), offset)
    size, name_size = numbers[6], numbers[11]
    if not 1 <= name_size <= _MAX_NAME:
        raise DocumentError(f"cpio: name of {name_size} bytes at {offset}, wanted 1 to {_MAX_NAME}")
    name = extent.exactly(offset + _HEADER, name_size, what="cpio name").rstrip(b"\0")
    data = _aligned(offset + _HEADER + name_size)
    content = extent.part(data if size else offset, size, what="cpio member")
    values = tuple(numbers[index] for index, _ in _METADATA)
    return Member(name, content, offset, _FIELDS, values), _aligned(data + size)


def _numbers(header: bytes, offset: int) -> list[int]:
    digits = header[6:]
    if header[:6] not in (b"070701", b"070702") or not digits.isalnum():
        raise DocumentError(f"cpio: no header at {offset}")
    try:
        return [int(digits[start : start + 8], 16) for start in range(0, _NUMBERS * 8, 8)]
    except ValueError as error:
        raise DocumentError(f"cpio: header at {offset} has a field that is not hexadecimal") from error


def _aligned(offset: int) -> int:
    return -(-offset // 4) * 4


CPIO = Format("cpio", _matches, _parse)
