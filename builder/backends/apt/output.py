"""What apt's programs print, as values. Pure: text in, values out; a line that is something else is left out.

Formats: apt-get(8) `--print-uris` and `indextargets`, apt-cache(8) `madison`, apt-config(8) `dump`, and the Release
file of the Debian repository format.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

from builder.errors import FetchError
from builder.model.location import SNAPSHOT_TIME

INDEX_FORMAT = "$(REPO_URI)|$(RELEASE)|$(LABEL)"

_RELEASE_FILE = re.compile(r"'([^']+)/dists/([^']+)/InRelease' .*")
_PACKAGE_FILE = re.compile(r"'([^']+)' ([^_ ]+)_([^_ ]+)_([^_ ]+)\.deb ([0-9]+) SHA256:([0-9a-f]{64})")
_PROXY = re.compile(r"Acquire::(https?)::Proxy(?:::([^:\s]+))?", re.IGNORECASE)
_SNAPSHOT_COMMENT = re.compile(r"#\s*(https?://\S+?)/archive/[a-z-]+/[0-9]{8}T[0-9]{6}Z/?")
_SNAPSHOT_OPTION = re.compile(r"(https?://\S+?)/archive/(?:debian|@PATH@)/@SNAPSHOTID@/?")


@dataclass(frozen=True)
class Source:
    """One suite of apt's sources. `label` says whose it is, and is known only once its Release file was downloaded."""

    base: str
    suite: str
    label: str = ""


@dataclass(frozen=True)
class ChosenPackage:
    """A package that apt would download: its address (as the index has it, unquoted) and what the index says of it."""

    name: str
    version: str
    architecture: str
    uri: str
    size: int
    sha256: str


@dataclass(frozen=True)
class PackageSource:
    """One place of one version of a package: the base address and the suite."""

    name: str
    version: str
    base: str
    suite: str


def parse_index_targets(text: str) -> list[Source]:
    """Lines of `apt-get indextargets --format INDEX_FORMAT`: what apt has downloaded."""
    rows = [line.split("|") for line in text.splitlines()]
    return [Source(row[0].rstrip("/"), row[1], row[2]) for row in rows if len(row) == 3]


def parse_update_uris(text: str) -> list[Source]:
    """Lines of `apt-get update --print-uris`: what apt would download."""
    matches = [_RELEASE_FILE.fullmatch(line.strip()) for line in text.splitlines()]
    return [Source(match[1], match[2]) for match in matches if match]


def parse_install_uris(text: str) -> list[ChosenPackage]:
    """Lines of `apt-get install --print-uris`. FetchError for one without a SHA-256: that index cannot be pinned."""
    packages = []
    for line in text.splitlines():
        if line.startswith("'"):
            match = _PACKAGE_FILE.fullmatch(line.strip())
            if match is None:
                raise FetchError(f"apt-get: {line.strip()!r} does not name a package with size and SHA-256")
            name, version, architecture = map(unquote, match.group(2, 3, 4))
            packages.append(ChosenPackage(name, version, architecture, unquote(match[1]), int(match[5]), match[6]))
    return packages


def parse_madison(text: str, *, index: str = "Packages") -> list[PackageSource]:
    """Lines `NAME | VERSION | BASE SUITE/COMPONENT ARCHITECTURE Packages` of `apt-cache madison`, in apt's order.

    Lines of sources, whose `index` is `Sources`, have no architecture.
    """
    words = {"Packages": 4, "Sources": 3}[index]
    places = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|")]
        where = fields[-1].split()
        if len(fields) == 3 and len(where) == words and where[-1] == index:
            suite, _, _ = where[1].rpartition("/")
            places.append(PackageSource(fields[0], fields[1], where[0], suite))
    return places


def parse_release_time(text: str, *, what: str) -> str:
    """The `Date` of a Release or InRelease file as a time of the snapshot archive, for example 20250520T143011Z."""
    dates = re.findall(r"^Date: (.+)$", text, re.MULTILINE)
    if len(dates) != 1:
        raise FetchError(f"{what}: {len(dates)} Date fields, wanted one")
    try:
        date = parsedate_to_datetime(dates[0])
    except ValueError as error:
        raise FetchError(f"{what}: Date {dates[0]!r} is not a date") from error
    if date.utcoffset() != timedelta(0):
        raise FetchError(f"{what}: Date {dates[0]!r} is not in UTC")
    return date.strftime(SNAPSHOT_TIME)


def parse_proxies(dump: str) -> dict[str, str]:
    """Proxies out of lines `NAME VALUE` of apt's configuration, by scheme or scheme://host; "" for DIRECT."""
    proxies = {}
    for line in dump.splitlines():
        name, _, value = line.partition(" ")
        match = _PROXY.fullmatch(name)
        if match and value:
            scheme = match[1].lower()
            proxies[f"{scheme}://{match[2]}" if match[2] else scheme] = "" if value == "DIRECT" else value
    return proxies


def snapshot_in_options(text: str) -> str | None:
    """The base in the values of `Acquire::Snapshots`, one a line: `BASE/archive/debian/@SNAPSHOTID@/`."""
    return _first_match(_SNAPSHOT_OPTION, text.splitlines())


def snapshot_in_comments(texts: Iterable[str]) -> str | None:
    """The base in a comment of sources files, as in Debian's container images: `# BASE/archive/debian/TIMESTAMP`."""
    return _first_match(_SNAPSHOT_COMMENT, (line for text in texts for line in text.splitlines()))


def _first_match(pattern: re.Pattern[str], lines: Iterable[str]) -> str | None:
    matches = (pattern.fullmatch(line.strip()) for line in lines)
    return next((match[1] for match in matches if match), None)
