"""What the signed Sources index says about a source package, as orig tarballs. Pure: text in, values out.

Format: Debian control data (deb822(5)) with the fields of a Sources index, as `apt-cache showsrc` prints them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from builder.errors import DocumentError, FetchError
from builder.model.source_package import orig_component

_LARGEST = 1 << 32  # bytes: what a lock can hold
_CHECKSUM = re.compile(r"([0-9a-f]{64}) ([0-9]{1,12}) ([^\s/]+)")
_POOL_PATH = re.compile(r"pool(?:/[A-Za-z0-9_+~-][A-Za-z0-9_.+:~-]*)+")


@dataclass(frozen=True)
class Tarball:
    """An orig tarball: its component (empty for the main one), path in the archive, size in bytes and digest."""

    component: str
    path: str
    size: int
    sha256: str


def parse_tarballs(text: str, *, name: str, version: str) -> tuple[Tarball, ...]:
    """The orig tarballs of the source `name` in `version` out of the output of `apt-cache showsrc`, the main one first.

    FetchError if the index does not pin them: no such record, two records that disagree, no SHA-256, a path outside of
    the pool, an absurd size, two tarballs of one component. DocumentError for a source without an orig tarball, and for
    a tarball that is another source's by its name.
    """
    what = f"source {name} {version}"
    records = [record for record in map(_fields, _paragraphs(text)) if _identity(record) == (name, version)]
    found = {tuple(_tarballs(record, name, version)) for record in records}
    if len(found) != 1:
        raise FetchError(f"{what}: the Sources index has {len(found)} different records of it, wanted one")
    (tarballs,) = found
    components = [tarball.component for tarball in tarballs]
    if len(set(components)) != len(components):
        raise FetchError(f"{what}: two tarballs of one component: {', '.join(each.path for each in tarballs)}")
    if "" not in components:
        raise DocumentError(
            f"{what}: has no orig tarball: files of native packages leave the archive with their version",
            hint="put its files into the recipe, or pin an archive of it as `prebuilt`",
        )
    return tuple(sorted(tarballs, key=lambda tarball: tarball.component))


def _paragraphs(text: str) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.strip():
            lines.append(line)
        elif lines:
            yield lines
            lines = []


def _fields(lines: list[str]) -> dict[str, list[str]]:
    """Field -> its lines; a field that stands twice has the lines of both, so that neither is passed over."""
    fields: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        value = line
        if not line.startswith((" ", "\t")):
            name, _, value = line.partition(":")
            current = fields.setdefault(name, [])
        if value.strip():
            current.append(value.strip())
    return fields


def _identity(record: Mapping[str, list[str]]) -> tuple[str, str]:
    return _single(record, "Package"), _single(record, "Version")


def _single(record: Mapping[str, list[str]], name: str) -> str:
    return "\n".join(record.get(name, ()))


def _tarballs(record: Mapping[str, list[str]], name: str, version: str) -> Iterator[Tarball]:
    what = f"source {name} {version}"
    checksums = record.get("Checksums-Sha256")
    if not checksums:
        raise FetchError(f"{what}: the Sources index has no SHA-256 of its files")
    for line in checksums:
        match = _CHECKSUM.fullmatch(line)
        if match is None:
            raise FetchError(f"{what}: {line!r} is not SHA-256, size and name of a file")
        component = orig_component(match[3], name=name, version=version, what=what)
        if component is not None:
            path = f"{_single(record, 'Directory')}/{match[3]}"
            yield Tarball(component, _checked_path(path, what), _checked_size(match[2], path), match[1])


def _checked_path(path: str, what: str) -> str:
    if not _POOL_PATH.fullmatch(path) or ".." in path:
        raise FetchError(f"{what}: {path!r} is no path in the pool of an archive")
    return path


def _checked_size(text: str, path: str) -> int:
    if not 0 < int(text) <= _LARGEST:
        raise FetchError(f"{path}: the Sources index says {text} bytes, wanted 1 to {_LARGEST}")
    return int(text)
