"""Debian packages made in memory: honest ones, and ones that try to get out."""

import io
import lzma
import tarfile
from collections.abc import Iterable

DEBIAN_BINARY = ("debian-binary", b"2.0\n")


def ar_archive(members: Iterable[tuple[str, bytes]]) -> bytes:
    """An ar archive as dpkg-deb writes it."""
    archive = b"!<arch>\n"
    for name, data in members:
        archive += b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name.encode(), 0, 0, 0, b"100644", len(data))
        archive += data + b"\n" * (len(data) % 2)
    return archive


def member(
    name: str, data: bytes = b"", *, mode: int = 0o644, kind: bytes = tarfile.REGTYPE, target: str = "", mtime: int = 1
) -> tuple[tarfile.TarInfo, bytes]:
    """One member of a tar archive, with a name that nobody checks."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type, info.linkname, info.mtime = len(data), mode, kind, target, mtime
    return info, data


def tar_archive(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tar archive of these members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def deb_file(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A .deb whose data.tar.xz holds these members."""
    return deb_with_data("data.tar.xz", lzma.compress(tar_archive(members)))


def deb_with_data(name: str, data: bytes) -> bytes:
    """A .deb with this data archive."""
    control = lzma.compress(tar_archive([member("./control", b"Package: sample\n")]))
    return ar_archive([DEBIAN_BINARY, ("control.tar.xz", control), (name, data)])
