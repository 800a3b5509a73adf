"""A deterministic tar writer (`formats.md` 12.1): GNU format, one time for all, numeric owners, no sparse files.

`tarfile` in GNU format gives the same bytes as GNU tar 1.34 for the same list of members (`determinism.md` 3.3), except
in the mode of the extra header that names of more than 100 bytes need.
"""

import tarfile
from collections.abc import Iterable, Iterator

from builder.errors import DocumentError
from builder.normalize.tree import Kind, Member, directory_member

_TYPES = {Kind.FILE: tarfile.REGTYPE, Kind.DIRECTORY: tarfile.DIRTYPE, Kind.SYMLINK: tarfile.SYMTYPE}


def encode_tar(members: Iterable[Member], *, epoch: int, top: bool = False) -> Iterator[bytes]:
    """The archive in chunks: the members in the order given, each with the time `epoch` (seconds since 1970).

    With `top` there is a member for the top directory before them, root's with mode 0755: mkfs.erofs has no option for
    it and makes it 0777 unless the archive says otherwise.
    """
    written = 0
    for member in (*((directory_member("./"),) if top else ()), *members):
        for chunk in _member(member, epoch):
            written += len(chunk)
            yield chunk
    yield bytes(2 * tarfile.BLOCKSIZE + -(written + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE)


def checked_content(member: Member) -> Iterator[bytes]:
    """The content of `member`; DocumentError if it is not of the size that a header already announced."""
    seen = 0
    for chunk in member.content:
        seen += len(chunk)
        yield chunk
    if seen != member.size:
        raise DocumentError(f"/{member.path}: content of {seen} bytes, announced are {member.size}")


def _member(member: Member, epoch: int) -> Iterator[bytes]:
    header = tarfile.TarInfo(member.path)
    header.type = _TYPES[member.kind]
    header.mode, header.uid, header.gid, header.mtime = member.mode, member.uid, member.gid, epoch
    header.size, header.linkname = member.size, member.target
    yield header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    yield from checked_content(member)
    yield bytes(-member.size % tarfile.BLOCKSIZE)
