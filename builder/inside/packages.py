"""Unpacking packages into a tree whose file contents lie on disk, so that memory does not grow with the image."""

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import BinaryIO

from builder.errors import DocumentError
from builder.inside.program import read_input
from builder.normalize.deb import (
    Entry,
    EntryKind,
    control_paragraph,
    is_merged_usr_link,
    merged_usr_path,
    read_package,
)
from builder.normalize.tree import Kind, Member, Tree, file_member

STATUS_DIRECTORY = "var/lib/dpkg/status.d"

_CHUNK = 1 << 20
_PACKAGE_FIELD = re.compile(rb"^Package: *([a-z0-9][a-z0-9+.-]+) *$", re.MULTILINE)
_KINDS = {EntryKind.FILE: Kind.FILE, EntryKind.DIRECTORY: Kind.DIRECTORY, EntryKind.SYMLINK: Kind.SYMLINK}


@dataclass(frozen=True)
class Slice:
    """Part of an open file, in chunks; can be read more than once and while others read the same file."""

    file: BinaryIO
    offset: int
    size: int

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, self.size, _CHUNK):
            yield os.pread(self.file.fileno(), min(_CHUNK, self.size - start), self.offset + start)


class Spool:
    """A nameless temporary file beside the outputs that keeps contents until the program ends."""

    def __init__(self) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(dir=".")  # noqa: SIM115 - lives as long as its slices
        self._end = 0

    def keep(self, chunks: Iterable[bytes]) -> Slice:
        """Append `chunks` and give them back as a slice."""
        start = self._end
        for chunk in chunks:
            self._end += self._file.write(chunk)
        self._file.flush()
        return Slice(self._file, start, self._end - start)


def unpack_packages(paths: Iterable[str], spool: Spool) -> Tree:
    """What the packages hold, in one tree with a merged /usr. Maintainer scripts are not run.

    Owners and modes are those of the archives. DocumentError if two packages ship different things at one path.
    """
    tree = Tree()
    for path in paths:
        name = PurePath(path).name
        for entry in read_package(read_input(path), what=name):
            if not is_merged_usr_link(entry):
                tree.add(_member(entry, tree, spool, name), origin=name)
    return tree


def package_records(paths: Iterable[str]) -> Iterator[Member]:
    """The control paragraph of each package as a file of /var/lib/dpkg/status.d, where scanners find packages."""
    for path in paths:
        paragraph = control_paragraph(read_input(path), what=PurePath(path).name)
        yield file_member(f"{STATUS_DIRECTORY}/{_package_name(paragraph, path)}", paragraph)


def _package_name(paragraph: bytes, path: str) -> str:
    match = _PACKAGE_FIELD.search(paragraph)
    if match is None:
        raise DocumentError(f"{PurePath(path).name}: its control file names no package")
    return match[1].decode("ascii")


def _member(entry: Entry, tree: Tree, spool: Spool, package: str) -> Member:
    path = merged_usr_path(entry.path)
    if entry.kind is EntryKind.HARD_LINK:
        shared = tree.get(merged_usr_path(entry.target))
        if shared is None or shared.kind is not Kind.FILE:
            raise DocumentError(f"{package}: {entry.path} is a hard link to {entry.target}, which is no file before it")
        return replace(shared, path=path)
    content = spool.keep((entry.data,)) if entry.data else ()
    return Member(path, _KINDS[entry.kind], entry.mode, entry.uid, entry.gid, len(entry.data), content, entry.target)
