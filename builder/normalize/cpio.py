"""A deterministic cpio writer in the "newc" form that Linux unpacks as its initial root (`determinism.md` 3.2).

What a file system decides elsewhere is decided here: inode numbers count from 1 in the order of the archive, the link
count is 1 (2 for a directory), devices are 0. The archive is not compressed, so no compressor has to be pinned.
"""

from collections.abc import Iterable, Iterator

from builder.errors import DocumentError
from builder.normalize.paths import path_bytes
from builder.normalize.tar import checked_content
from builder.normalize.tree import Kind, Member

MAGIC = b"070701"
TRAILER = b"TRAILER!!!"
BLOCK = 512
MAX_FIELD = 0xFFFFFFFF  # every field is 8 hex digits

# file types of stat(2)
_TYPES = {Kind.FILE: 0o100000, Kind.DIRECTORY: 0o040000, Kind.SYMLINK: 0o120000}


def encode_cpio(members: Iterable[Member], *, epoch: int) -> Iterator[bytes]:
    """The archive in chunks: the members in the order given, each with the time `epoch` (seconds since 1970)."""
    written = 0
    for inode, member in enumerate(members, start=1):
        for chunk in _member(member, inode, epoch):
            written += len(chunk)
            yield chunk
    end = _header((0, 0, 0, 0, 1, 0, 0), TRAILER)
    yield end
    yield bytes(-(written + len(end)) % BLOCK)


def _member(member: Member, inode: int, epoch: int) -> Iterator[bytes]:
    mode = _TYPES[member.kind] | member.mode
    links = 2 if member.kind is Kind.DIRECTORY else 1
    if member.kind is Kind.SYMLINK:
        target = path_bytes(member.target)
        size, content = len(target), iter((target,))
    else:
        size, content = member.size, checked_content(member)
    if size > MAX_FIELD:
        raise DocumentError(f"/{member.path}: {size} bytes, more than the {MAX_FIELD} that cpio can hold")
    yield _header((inode, mode, member.uid, member.gid, links, epoch, size), path_bytes(member.path))
    yield from content
    yield bytes(-size % 4)


def _header(fields: tuple[int, int, int, int, int, int, int], name: bytes) -> bytes:
    devices = (0, 0, 0, 0)
    check = 0
    numbers = (*fields, *devices, len(name) + 1, check)
    header = MAGIC + b"".join(b"%08X" % number for number in numbers) + name + b"\0"
    return header + bytes(-len(header) % 4)
