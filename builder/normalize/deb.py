"""Reading .deb packages (deb(5)): bytes in, the entries of data.tar out. Pure, and strict about hostile bytes.

A .deb is an ar archive of `debian-binary`, `control.tar*` and `data.tar*`. Of control.tar only the `control` file is
ever looked at: no maintainer script is. Not checked here: that the package is the pinned one (its digest is, where it
was fetched).
"""

import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from builder.errors import DocumentError

MAX_DATA_SIZE = 4 << 30
MERGED_DIRECTORIES = ("bin", "lib", "lib32", "lib64", "libo32", "libx32", "sbin")

_MAGIC = b"!<arch>\n"
_HEADER_SIZE = 60
_MAX_PATH, _MAX_NAME, _MAX_DEPTH = 4095, 255, 128
_MAX_TIME = 1 << 33
_CHUNK = 1 << 24
_XZ_MEMORY = 1 << 28  # xz -9 needs 65 MiB


class EntryKind(StrEnum):
    """What an entry of a package is. Nothing else is accepted: no device nodes, FIFOs or sparse files."""

    DIRECTORY = "directory"
    FILE = "file"
    SYMLINK = "symbolic link"
    HARD_LINK = "hard link"


@dataclass(frozen=True)
class Entry:
    """One entry of data.tar. `path` is relative, without `.`, `..` or empty parts; "" is the root directory itself.

    `mode` holds the permission bits with setuid, setgid and sticky; `uid` and `gid` are the archive's numbers; `mtime`
    is in seconds since 1970. `target` is the text of a symbolic link as it stands (never checked: it is for whoever
    reads the link), or the clean path of the file a hard link shares.
    """

    path: str
    kind: EntryKind
    mode: int
    mtime: int
    uid: int = 0
    gid: int = 0
    data: bytes = b""
    target: str = ""


def read_package(deb: bytes, *, what: str) -> Iterator[Entry]:
    """The entries of a package's data.tar in their order. DocumentError, naming `what`, for anything malformed."""
    return read_entries(data_tar(deb, what=what), what=what)


def data_tar(deb: bytes, *, what: str) -> bytes:
    """The decompressed data.tar of a .deb; DocumentError for a malformed one, or a compression not known here."""
    return _inner_tar(deb, "data.tar", what)


def control_paragraph(deb: bytes, *, what: str) -> bytes:
    """The `control` file of a .deb, deb-control(5): what the package says about itself. Not parsed here."""
    for entry in read_entries(_inner_tar(deb, "control.tar", what), what=what):
        if entry.path == "control" and entry.kind is EntryKind.FILE:
            return entry.data
    raise DocumentError(f"{what}: control.tar has no control file")


def _inner_tar(deb: bytes, name: str, what: str) -> bytes:
    members = _ar_members(deb, what)
    names = list(members)
    if names[:1] != ["debian-binary"] or not bytes(members["debian-binary"]).startswith(b"2."):
        raise DocumentError(f"{what}: not a .deb of format 2: it starts with {names[:1]}")
    found = [member for member in names if member.startswith(name)]
    if len(found) != 1:
        raise DocumentError(f"{what}: has {len(found)} {name} members, wanted one (members: {', '.join(names)})")
    return _decompressed(members[found[0]], found[0], what)


def read_entries(tar: bytes, *, what: str) -> Iterator[Entry]:
    """The entries of a tar archive in their order; DocumentError for a malformed, truncated or unsafe one."""
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:", encoding="utf-8", errorlevel=2) as archive:
            for member in archive:
                yield _entry(archive, member, what)
            end = archive.offset
    except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:  # it reads long names so
        raise DocumentError(f"{what}: data.tar is malformed: {error}") from error
    # tarfile takes a damaged header for the end of the archive; a real end is zero blocks up to the last byte
    if end >= len(tar) or tar.count(0, end) != len(tar) - end:
        raise DocumentError(f"{what}: data.tar is cut off or damaged at byte {end} of {len(tar)}")


def merged_usr_path(path: str) -> str:
    """Where `path` lies on a system with a merged /usr: `bin/sh` -> `usr/bin/sh`."""
    first = path.partition("/")[0]
    return f"usr/{path}" if first in MERGED_DIRECTORIES else path


def is_merged_usr_link(entry: Entry) -> bool:
    """Whether `entry` is itself one of the links of a merged /usr (`bin` -> `usr/bin`), as in newer base-files."""
    target = entry.target.lstrip("/")
    return entry.kind is EntryKind.SYMLINK and entry.path in MERGED_DIRECTORIES and target == f"usr/{entry.path}"


def _ar_members(deb: bytes, what: str) -> Mapping[str, memoryview]:
    """The members of an ar archive by name, in their order."""
    if not deb.startswith(_MAGIC):
        raise DocumentError(f"{what}: not a .deb: starts with {deb[:8]!r}, wanted {_MAGIC!r}")
    members: dict[str, memoryview] = {}
    offset = len(_MAGIC)
    while offset < len(deb):
        name, size = _ar_header(deb[offset : offset + _HEADER_SIZE], f"{what}: byte {offset}")
        offset += _HEADER_SIZE
        if size > len(deb) - offset:
            raise DocumentError(f"{what}: member {name!r} has {size} bytes, only {len(deb) - offset} are there")
        if name in members:
            raise DocumentError(f"{what}: member {name!r} appears twice")
        members[name] = memoryview(deb)[offset : offset + size]
        offset += size + size % 2
    return members


def _ar_header(header: bytes, what: str) -> tuple[str, int]:
    if len(header) != _HEADER_SIZE or header[58:] != b"`\n":
        raise DocumentError(f"{what}: not an ar member header: {header!r}")
    name, size = header[:16].rstrip(b" ").rstrip(b"/"), header[48:58].rstrip(b" ")
    if not size.isdigit() or not name.isascii():
        raise DocumentError(f"{what}: ar member {name!r} has size {size!r}, wanted an ASCII name and decimal digits")
    return name.decode("ascii"), int(size)


def _decompressed(data: memoryview, name: str, what: str) -> bytes:
    match name.partition(".tar")[2]:
        case "":
            return bytes(data)
        case ".xz":
            return _unpacked_xz(data, f"{what}: {name}")
        case ".gz":
            return _unpacked_gzip(data, f"{what}: {name}")
        case other:
            raise DocumentError(
                f"{what}: {name} is compressed as {other!r}, known are '.xz', '.gz' and none",
                hint="lock a package from an archive that compresses with xz, as Debian's does",
            )


def _unpacked_xz(data: memoryview, what: str) -> bytes:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    output = bytearray()
    try:
        output += decompressor.decompress(data, _CHUNK)
        while not (decompressor.eof or decompressor.needs_input):
            output += _within_limit(output, decompressor.decompress(b"", _CHUNK), what)
    except lzma.LZMAError as error:
        raise DocumentError(f"{what}: {error}") from error
    _check_end(what, ended=decompressor.eof, rest=decompressor.unused_data)
    return bytes(output)


def _unpacked_gzip(data: memoryview, what: str) -> bytes:
    decompressor = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    output = bytearray()
    rest: bytes | memoryview = data
    try:
        while rest and not decompressor.eof:
            output += _within_limit(output, decompressor.decompress(rest, _CHUNK), what)
            rest = decompressor.unconsumed_tail
    except zlib.error as error:
        raise DocumentError(f"{what}: {error}") from error
    _check_end(what, ended=decompressor.eof, rest=decompressor.unused_data)
    return bytes(output)


def _within_limit(output: bytearray, more: bytes, what: str) -> bytes:
    if len(output) + len(more) > MAX_DATA_SIZE:
        raise DocumentError(f"{what}: unpacks to more than {MAX_DATA_SIZE} bytes")
    return more


def _check_end(what: str, *, ended: bool, rest: bytes) -> None:
    if not ended:
        raise DocumentError(f"{what}: cut off: the compressed stream has no end")
    if rest:
        raise DocumentError(f"{what}: {len(rest)} bytes follow the compressed stream")


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo, what: str) -> Entry:
    entry = Entry(
        path=_clean_path(member.name, what),
        kind=_kind(member, what),
        mode=member.mode & 0o7777,
        mtime=int(member.mtime),
        uid=member.uid,
        gid=member.gid,
    )
    if not 0 <= entry.mtime < _MAX_TIME:
        raise DocumentError(f"{what}: data.tar: {member.name!r} has time {entry.mtime}, wanted seconds since 1970")
    match entry.kind:
        case EntryKind.FILE:
            content = archive.extractfile(member)
            return replace(entry, data=b"" if content is None else content.read())
        case EntryKind.SYMLINK:
            return replace(entry, target=_link_target(member, what))
        case EntryKind.HARD_LINK:
            return replace(entry, target=_clean_path(member.linkname, what))
    return entry


def _kind(member: tarfile.TarInfo, what: str) -> EntryKind:
    if member.isdir():
        return EntryKind.DIRECTORY
    if member.name in (".", "./"):
        raise DocumentError(f"{what}: data.tar: the root directory is not a directory")
    if member.issym():
        return EntryKind.SYMLINK
    if member.islnk():
        return EntryKind.HARD_LINK
    if member.isfile() and not member.issparse():
        return EntryKind.FILE
    raise DocumentError(f"{what}: data.tar: {member.name!r} has type {member.type!r}, wanted a file, directory or link")


def _clean_path(name: str, what: str) -> str:
    parts = name.removeprefix("./").rstrip("/").split("/")
    if name in (".", "./"):
        return ""
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise DocumentError(f"{what}: data.tar: unsafe path {name[:200]!r}")
    if len(name) > _MAX_PATH or len(parts) > _MAX_DEPTH or any(len(_os_name(part)) > _MAX_NAME for part in parts):
        raise DocumentError(f"{what}: data.tar: path {name[:200]!r} is longer or deeper than file systems take")
    return "/".join(parts)


def _os_name(part: str) -> bytes:
    return part.encode("utf-8", "surrogateescape")


def _link_target(member: tarfile.TarInfo, what: str) -> str:
    target = member.linkname
    if not target or "\0" in target or len(target) > _MAX_PATH:
        raise DocumentError(f"{what}: data.tar: link {member.name[:200]!r} has the target {target[:200]!r}")
    return target
