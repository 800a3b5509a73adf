"""Which mirror, snapshot archive and proxy to use: what the user named, else what this host's apt is configured with.

No address is written here. Only http and https can be used; lists of `mirror+file:` are read. Not used: credentials of
auth.conf, `Acquire::http::Proxy-Auto-Detect`.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from builder.backends.apt.output import (
    INDEX_FORMAT,
    Source,
    parse_index_targets,
    parse_proxies,
    parse_update_uris,
    snapshot_in_comments,
    snapshot_in_options,
)
from builder.backends.process import run
from builder.errors import DocumentError, MissingError
from builder.model.location import Locations

DEBIAN = "debian"
SECURITY = "debian-security"
SNAPSHOT_VARIABLE = "TDX_BUILDER_SNAPSHOT"

_LABELS = {DEBIAN: ("Debian", "Debian Backports"), SECURITY: ("Debian-Security",)}
_CODENAMES = r"(?:bullseye|bookworm|trixie|forky|duke|sid|(?:old)*stable|testing|unstable)"
_SUITES = {
    DEBIAN: re.compile(rf"{_CODENAMES}(?:-updates|-proposed-updates|-backports(?:-sloppy)?)?"),
    SECURITY: re.compile(rf"{_CODENAMES}(?:-security|/updates)"),
}
_MIRROR_LIST = "mirror+file:"


def find_locations(mirrors: Sequence[str], snapshot: str | None, *, environment: Mapping[str, str]) -> Locations:
    """Where to fetch from.

    `mirrors` are the values of --mirror (`URL`, or `ARCHIVE=URL`), which go before this host's; `snapshot` is the value
    of --snapshot, which goes before the environment's TDX_BUILDER_SNAPSHOT and what this host's apt knows. Nothing
    known is no error here, since everything may be in the store: `notes` say why.
    """
    named = named_mirrors(mirrors)
    base = snapshot or environment.get(SNAPSHOT_VARIABLE)
    if base:
        base = checked_url(base, what="snapshot archive")
    try:
        sources = host_sources()
        base = base or host_snapshot()
    except MissingError as error:
        return Locations(named, base or None, notes=(error.message,))
    unusable = sorted({source.base for source in sources if not _is_http(source.base)})
    notes = tuple(f"apt's source {base} is not reached over http or https" for base in unusable)
    return Locations({**debian_mirrors(sources), **named}, base or None, notes)


def named_mirrors(options: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Values of --mirror by archive: `URL` means the archive `debian`, `ARCHIVE=URL` another one."""
    mirrors: dict[str, tuple[str, ...]] = {}
    for option in options:
        archive, equals, url = option.partition("=")
        if not equals or not re.fullmatch(r"[a-z][a-z0-9_-]*", archive):
            archive, url = DEBIAN, option
        mirrors[archive] = (*mirrors.get(archive, ()), checked_url(url, what="mirror"))
    return mirrors


def debian_mirrors(sources: Iterable[Source]) -> dict[str, tuple[str, ...]]:
    """Those sources that serve one of Debian's own archives over http or https, by archive, each address once.

    A Release file says whose it is. Without one the name of the suite has to do; as others use Debian's code names too,
    addresses with suites that few others have (-updates, -backports) come first.
    """
    ordered = sorted(sources, key=lambda source: "-" not in source.suite)
    mirrors = {}
    for archive in _SUITES:
        bases = [source.base for source in ordered if _serves(source, archive) and _is_http(source.base)]
        if bases:
            mirrors[archive] = tuple(dict.fromkeys(bases))
    return mirrors


def host_sources() -> list[Source]:
    """The suites this host's apt is configured with; MissingError if apt is absent or its configuration is broken."""
    sources = parse_index_targets(_output(["apt-get", "indextargets", "--format", INDEX_FORMAT]))
    if not sources:  # nothing was downloaded yet, as in a fresh container
        # 100: one of several sources cannot be used, the others are listed
        sources = parse_update_uris(_output(["apt-get", "update", "--print-uris"], accept=(0, 100)))
    return [expanded for source in sources for expanded in _expanded(source)]


def host_snapshot() -> str | None:
    """The base of the snapshot archive this host's apt knows: an option of newer ones, or a comment in its sources."""
    options = _output(["apt-config", "dump", "--format", "%v%n", "Acquire::Snapshots"])
    return snapshot_in_options(options) or snapshot_in_comments(map(_text, _source_files()))


def host_proxies() -> dict[str, str]:
    """The proxies of this host's apt, by scheme or scheme://host; "" for a direct connection; none without apt."""
    try:
        return parse_proxies(_output(["apt-config", "dump", "--format", "%f %v%n", "Acquire"]))
    except MissingError:
        return {}


def checked_url(text: str, *, what: str) -> str:
    """An http or https address of a directory, without its final slash; DocumentError naming `what` for another."""
    if not _is_http(text) or re.search(r"[\s\"'<>?#]", text):
        raise DocumentError(
            f"{what}: {text!r} is not the http or https address of a directory", hint="write it as http://HOST/PATH"
        )
    return text.rstrip("/")


def _serves(source: Source, archive: str) -> bool:
    if source.label:
        return source.label in _LABELS[archive]
    return _SUITES[archive].fullmatch(source.suite) is not None


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # a malformed IPv6 address
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _expanded(source: Source) -> list[Source]:
    """The mirrors of a list file, each line an address and perhaps options (apt-transport-mirror(1))."""
    if not source.base.startswith(_MIRROR_LIST):
        return [source]
    lines = _text(Path(source.base.removeprefix(_MIRROR_LIST))).splitlines()
    addresses = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    return [replace(source, base=address.rstrip("/")) for address in addresses] or [source]


def _source_files() -> list[Path]:
    shell = _output(["apt-config", "shell", "FILE", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"])
    values = dict(word.split("=", 1) for word in shlex.split(shell) if "=" in word)
    parts = Path(values.get("PARTS", "/nonexistent"))
    return [Path(values.get("FILE", "/nonexistent")), *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _output(argv: Sequence[str], *, accept: Sequence[int] = (0,)) -> str:
    return run(argv, accept=accept, failure=MissingError).stdout.decode("utf-8", "replace")
