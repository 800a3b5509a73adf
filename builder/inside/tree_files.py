"""Trees that lie on disk: a directory that another program filled, and a tar file that a step before wrote."""

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.errors import DocumentError
from builder.inside.packages import Slice
from builder.normalize.tree import Kind, Member, Tree

_CHUNK = 1 << 20
_LOST_ATTRIBUTES = ("security.capability", "system.posix_acl_access", "system.posix_acl_default")
_TAR_KINDS = {tarfile.REGTYPE: Kind.FILE, tarfile.DIRTYPE: Kind.DIRECTORY, tarfile.SYMTYPE: Kind.SYMLINK}

Owners = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class FileContent:
    """The bytes of a file on disk, in chunks; can be read more than once."""

    path: Path

    def __iter__(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk


def read_directory(top: Path, owners: Owners, *, what: str) -> Tree:
    """Everything below `top` as a tree. `owners` gives uid and gid of those paths that are not root's; modes are those
    on disk, and hard links become files of their own.

    DocumentError, naming tree and path, for what an image here cannot hold: device nodes, sockets and pipes, and files
    with capabilities or access control lists. OSError for a directory that is not there or cannot be listed.
    """
    tree = Tree()
    for directory, names, files in os.walk(top, onerror=_not_passed_over):
        for name in (*names, *files):
            path = Path(directory) / name
            relative = str(path.relative_to(top))
            tree.add(_disk_member(path, relative, owners.get(relative, (0, 0)), what), origin=what)
    return tree


def _not_passed_over(error: OSError) -> None:
    """os.walk would take a directory that it cannot list for an empty one."""
    raise error


def _disk_member(path: Path, relative: str, owner: tuple[int, int], what: str) -> Member:
    status = path.lstat()
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return Member(relative, Kind.SYMLINK, 0o777, *owner, target=str(path.readlink()))
    lost = [name for name in os.listxattr(path, follow_symlinks=False) if name in _LOST_ATTRIBUTES]
    if lost:
        raise DocumentError(f"{what}: /{relative} has {lost[0]}, which the image would lose", hint="take it off")
    if stat.S_ISDIR(status.st_mode):
        return Member(relative, Kind.DIRECTORY, mode, *owner)
    if stat.S_ISREG(status.st_mode):
        return Member(relative, Kind.FILE, mode, *owner, size=status.st_size, content=FileContent(path))
    raise DocumentError(f"{what}: /{relative} is no file, directory or symbolic link", hint="have it removed")


def read_tar(path: Path, *, what: str) -> Tree:
    """The tree in a tar file of `encode_tar`; contents are read from there when they are needed.

    DocumentError for members of any other kind, and for what is no tar file. Not checked: whether it is cut off behind
    a member.
    """
    tree = Tree()
    file = path.open("rb")  # open as long as its slices are there
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errorlevel=2) as archive:
            for entry in archive:
                if entry.name != ".":  # the top directory is no member
                    tree.add(_tar_member(entry, Slice(file, entry.offset_data, entry.size), what), origin=what)
    except tarfile.TarError as error:
        raise DocumentError(f"{what}: {path.name} is no tar file: {error}") from error
    return tree


def _tar_member(entry: tarfile.TarInfo, content: Slice, what: str) -> Member:
    kind = _TAR_KINDS.get(entry.type)
    if kind is None:
        raise DocumentError(f"{what}: {entry.name} is no file, directory or symbolic link")
    if kind is Kind.FILE:
        return Member(entry.name, kind, entry.mode, entry.uid, entry.gid, size=entry.size, content=content)
    return Member(entry.name, kind, entry.mode, entry.uid, entry.gid, target=entry.linkname)


def content_digest(content: Iterable[bytes]) -> str:
    """SHA-256, in hex, of content in chunks."""
    digest = hashlib.sha256()
    for chunk in content:
        digest.update(chunk)
    return digest.hexdigest()
