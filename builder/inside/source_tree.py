"""Source trees: an upstream tarball unpacked the same way in every leg, and the recipe's patches applied to it.

The tarball is pinned by digest, but what it holds is not trusted to stay inside the tree. Members are written by this
module and not by `tarfile`'s extraction, whose safe filter the Python of Debian 12 does not have.
"""

import bz2
import gzip
import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from builder.errors import DocumentError
from builder.inside.command import run

_READERS: Mapping[str, Callable[[Path], IO[bytes]]] = {
    ".xz": lzma.LZMAFile,
    ".gz": lambda path: cast(IO[bytes], gzip.GzipFile(path)),  # it has all that IO[bytes] asks for
    ".bz2": bz2.BZ2File,
}
_SPECIAL_MODE = 0o7000  # setuid, setgid, sticky
_CHUNK = 1 << 20


def keep_all(path: str) -> bool:
    """The `skip` that skips nothing."""
    del path
    return False


def unpack_source(tarball: Path, directory: Path, *, epoch: int, skip: Callable[[str], bool] = keep_all) -> None:
    """Unpack `tarball` (.tar.xz, .tar.gz, .tar.bz2) into the new directory `directory`, without its one top directory.

    Whatever the umask, files get mode 0644, or 0755 if they may be run, and directories 0755; every time is `epoch`.
    `skip` says by its path below the top directory whether a member is left out; of such a member only the path is
    looked at. DocumentError for a tarball that is damaged or cut off, holds no files or anything beside its top
    directory, a member twice, a member that is setuid, setgid or sticky, or anything but files, directories and
    symbolic links that stay inside the tree. What was unpacked until then stays: a step that fails has no outputs.
    """
    directory.mkdir()
    tree = _Tree(directory, tarball.name)
    with _members(tarball) as members:
        for member, content in members:
            path = tree.path_of(member)
            if path and not skip(path):
                tree.add(path, member, content)
    tree.finish(epoch)


def apply_patches(directory: Path, patches: Sequence[Path]) -> None:
    """Apply `patches` in this order with the root's patch(1); each has to fit exactly, except for line numbers.

    patch(1) itself refuses to leave `directory`. BuildFailedError for the first that does not apply.
    """
    for patch in patches:
        options = ("-p1", "--fuzz=0", "--batch", "--no-backup-if-mismatch", "-i", str(patch.absolute()))
        run(("patch", *options), cwd=directory)


class _Tree:
    """Writes members below an empty directory. Links are made last, so that nothing is ever written through one."""

    def __init__(self, directory: Path, what: str) -> None:
        self._directory = directory
        self._what = what
        self._top = ""
        self._directories = {directory}
        self._files: list[Path] = []
        self._links: list[tuple[Path, str]] = []

    def path_of(self, member: tarfile.TarInfo) -> str:
        """The path of a member below the top directory, "" for the top directory itself."""
        parts = member.name.removeprefix("./").rstrip("/").split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise self._error(member, "has a path that is not safe")
        self._top = self._top or parts[0]
        if parts[0] != self._top or (len(parts) == 1 and not member.isdir()):
            raise self._error(member, f"is not in the one top directory, {self._top}")
        return "/".join(parts[1:])

    def add(self, path: str, member: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        """Write one member, or keep a link in mind."""
        if member.mode & _SPECIAL_MODE:
            raise self._error(member, f"has mode {member.mode:04o}, wanted none of setuid, setgid, sticky")
        place = self._directory / path
        if member.isdir():
            self._make_directory(place)
        elif member.issym():
            self._links.append((place, member.linkname))
        elif member.isfile() and not member.issparse() and content is not None:
            self._write(place, member, content)
        else:
            raise self._error(member, f"has type {member.type!r}, wanted a file, directory or symbolic link")

    def finish(self, epoch: int) -> None:
        """Make the links, check that each stays inside, and set every time, now that nothing is added."""
        for place, target in self._links:
            self._make_link(place, target)
        top = os.path.realpath(self._directory)
        for place, target in self._links:  # through other links too, so only now
            if os.path.commonpath((top, os.path.realpath(place))) != top:
                raise DocumentError(f"{self._what}: link {place} -> {target} leads outside of the tree")
        if not self._files:
            raise DocumentError(f"{self._what}: holds no files")
        for place in (*self._files, *self._directories):
            os.utime(place, (epoch, epoch), follow_symlinks=False)

    def _make_directory(self, place: Path) -> None:
        if place in self._directories:  # never asked of the file system, which would follow a link
            return
        self._make_directory(place.parent)
        with self._new(place):
            place.mkdir()
        place.chmod(0o755)
        self._directories.add(place)

    def _write(self, place: Path, member: tarfile.TarInfo, content: IO[bytes]) -> None:
        self._make_directory(place.parent)
        with self._new(place), place.open("xb") as file:
            shutil.copyfileobj(content, file, _CHUNK)
        place.chmod(0o755 if member.mode & 0o111 else 0o644)
        self._files.append(place)

    def _make_link(self, place: Path, target: str) -> None:
        if target.startswith("/") or not target or "\0" in target:
            raise DocumentError(f"{self._what}: link {place} -> {target} leads outside of the tree")
        self._make_directory(place.parent)
        with self._new(place):
            place.symlink_to(target)
        self._files.append(place)

    @contextmanager
    def _new(self, place: Path) -> Iterator[None]:
        try:
            yield
        except FileExistsError as error:
            path = place.relative_to(self._directory)
            raise DocumentError(f"{self._what}: {path} is there twice, or is no directory but has members") from error

    def _error(self, member: tarfile.TarInfo, why: str) -> DocumentError:
        return DocumentError(f"{self._what}: member {member.name[:200]!r} {why}")


@contextmanager
def _members(tarball: Path) -> Iterator[Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]]:
    """The members of a tarball with what they hold, in their order; DocumentError if it is damaged up to its end."""
    reader = _READERS.get(tarball.suffix)
    if reader is None:
        raise DocumentError(f"{tarball.name}: compressed as {tarball.suffix!r}, known are {', '.join(_READERS)}")
    try:
        with reader(tarball) as file, tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errorlevel=2) as archive:
            yield ((member, archive.extractfile(member) if member.isfile() else None) for member in archive)
            _check_end(file, archive.offset, tarball.name)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OverflowError, ValueError) as error:
        raise DocumentError(f"{tarball.name}: not a whole tarball: {error}") from error
    except OSError as error:
        if error.errno is not None:  # gzip and bz2 say so that their data is damaged; the system gives a number
            raise
        raise DocumentError(f"{tarball.name}: not a whole tarball: {error}") from error


def _check_end(file: IO[bytes], offset: int, what: str) -> None:
    """tarfile takes a damaged header for the end of the archive; a real end is zero blocks up to the last byte."""
    file.seek(offset)
    end = file.read(_CHUNK)
    rest = end
    while rest and not any(rest):
        rest = file.read(_CHUNK)
    if rest or not end:
        raise DocumentError(f"{what}: cut off or damaged at byte {offset} of what it unpacks to")
