"""Debian source packages: their versions, and which of their files are orig tarballs (dsc(5), dpkg-source(1)).

Only orig tarballs are pinned: Debian's own part of a source (`.debian.tar.*`, `.dsc`) leaves the pool with the next
revision, while a tarball stays as long as any revision of it does.
"""

import re

from builder.errors import DocumentError

ARCHITECTURE = "source"  # of a tarball, where a package has amd64 or all
_ORIG = re.compile(r"([^_/]+)_([^_/]+)\.orig(?:-([A-Za-z0-9-]+))?\.tar\.(?:xz|gz|bz2|zst)")


def parse_source_request(text: str, *, what: str) -> tuple[str, str]:
    """Name and version in `NAME=VERSION`; DocumentError naming `what` for a text without a version."""
    name, _, version = text.partition("=")
    if not name or not version:
        raise DocumentError(
            f"{what}: source {text!r} is not NAME=VERSION", hint="`apt-cache showsrc NAME` shows the versions"
        )
    return name, version


def upstream_version(version: str) -> str:
    """A Debian version without its epoch and revision: `1:2.0-3` -> `2.0` (deb-version(7))."""
    without_epoch = version.partition(":")[2] if ":" in version else version
    return without_epoch.rpartition("-")[0] if "-" in without_epoch else without_epoch


def orig_component(file_name: str, *, name: str, version: str, what: str) -> str | None:
    """The component that a file of the source `name` in `version` is the orig tarball of.

    Empty for the main tarball, None for a file that is no orig tarball at all (signatures included). DocumentError for
    an orig tarball that belongs to another source or version by its name; it starts with `what`.
    """
    match = _ORIG.fullmatch(file_name)
    if match is None:
        return None
    wanted = (name, upstream_version(version))
    if match.group(1, 2) != wanted:
        raise DocumentError(f"{what}: tarball {file_name!r} is not named {'_'.join(wanted)}.orig")
    return match[3] or ""


def path_component(path: str) -> str:
    """The component in the path of an orig tarball; empty for a main one."""
    match = _ORIG.fullmatch(path.rpartition("/")[2])
    return (match[3] or "") if match else ""
