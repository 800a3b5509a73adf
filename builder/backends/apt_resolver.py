"""Dependencies resolved by apt itself, in a state directory of its own and from an empty system.

Nothing of the host's apt takes part but the program, the mirror it is pointed at and the proxy: no sources, no
preferences, no configuration parts, no package status, no downloaded lists. Signatures are always checked, against
Debian's archive keyring; expiry is not, because the lists of a frozen suite expire. apt's own rules choose between
suites: the highest version outside of NotAutomatic suites (backports), which are used only for `name/suite` and
`name=version`; where two suites have the same version, the one listed first.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.backends.apt_output import (
    ChosenPackage,
    parse_install_uris,
    parse_madison,
    parse_release_time,
)
from builder.backends.atomic_file import storage_errors
from builder.backends.process import CompletedRun, run
from builder.errors import DocumentError, FetchError, MissingError
from builder.model.location import without_credentials
from builder.model.recipe import Archive
from builder.ports import Resolution, ResolvedPackage

_KEYRINGS = tuple(Path("/usr/share/keyrings") / f"debian-archive-keyring.{suffix}" for suffix in ("gpg", "pgp"))
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy")
_UPDATE_SECONDS = 1800
_INSTALL_SECONDS = 600
# So that the host's configuration cannot change what apt chooses or trusts; ForceHash has --print-uris print SHA-256.
_CONFIGURATION = """\
Dir::State "{state}/state";
Dir::State::status "{state}/status";
Dir::Cache "{state}/cache";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{state}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Solver "internal";
APT::Cmd::Pattern-Only "true";
APT::Sandbox::User "root";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
Acquire::Retries "3";
"""
_SOURCE = """\
Types: deb
URIs: {mirror}
Suites: {suites}
Components: {components}
Architectures: amd64
Signed-By: {keyring}
"""


@dataclass(frozen=True)
class AptSettings:
    """The archives to resolve from, with a mirror for each by name; proxies by scheme or scheme://host.

    `keyring` replaces Debian's archive keyring.
    """

    archives: tuple[Archive, ...]
    mirrors: Mapping[str, str]
    proxies: Mapping[str, str]
    keyring: Path | None = None


class AptResolver:
    """A Resolver for Debian archives, architecture amd64."""

    def __init__(self, settings: AptSettings) -> None:
        self._settings = settings

    def resolve(self, groups: Mapping[str, tuple[str, ...]]) -> Resolution:
        """Each group by itself, from an empty system.

        FetchError if the indexes cannot be had or trusted, DocumentError for names that apt cannot satisfy,
        MissingError without apt or the keyring.
        """
        keyring = self._settings.keyring or _host_keyring()
        with tempfile.TemporaryDirectory(prefix="tdx-builder-apt-") as name:
            apt = _Apt(Path(name), self._settings)
            apt.prepare(keyring)
            apt.update()
            chosen = {group: apt.install(group, requests) for group, requests in groups.items()}
            origins = apt.origins(package for packages in chosen.values() for package in packages)
            return Resolution(
                groups={group: _resolved(packages, origins) for group, packages in chosen.items()},
                suite_dates=apt.suite_dates(),
            )


_Origins = Mapping[tuple[str, str], tuple[str, str, str]]


class _Apt:
    """apt in its private state directory."""

    def __init__(self, state: Path, settings: AptSettings) -> None:
        self._state = state
        self._settings = settings

    def prepare(self, keyring: Path) -> None:
        with storage_errors(self._state):
            for name in ("state/lists/partial", "cache/archives/partial", "sources"):
                (self._state / name).mkdir(parents=True)
            (self._state / "status").touch()
            (self._state / "apt.conf").write_text(_configuration(self._state, self._settings.proxies))
            for archive in self._settings.archives:
                text = _source(archive, mirror=self._settings.mirrors[archive.name], keyring=keyring)
                (self._state / "sources" / f"{archive.name}.sources").write_text(text)

    def update(self) -> None:
        """Download and verify the indexes; any failure counts, also one that apt would pass over."""
        self._run(["apt-get", "update", "--error-on=any"], timeout=_UPDATE_SECONDS)

    def install(self, group: str, requests: Sequence[str]) -> list[ChosenPackage]:
        """What apt would install for `requests`, each of which has to be among it by its own name."""
        if not requests:
            return []
        completed = self._run(
            ["apt-get", "install", "--print-uris", "--yes", "--quiet", "--", *requests],
            timeout=_INSTALL_SECONDS,
            accept=(0, 100),
        )
        if completed.status != 0:
            raise _unsatisfied(group, requests, completed)
        chosen = parse_install_uris(_text(completed.stdout))
        missing = sorted({_name(request) for request in requests} - {package.name for package in chosen})
        if missing:
            raise DocumentError(
                f"{group}: apt chose no package of the name {missing[0]!r}",
                hint="ask for a real package by its full name",
            )
        return chosen

    def origins(self, packages: Iterable[ChosenPackage]) -> _Origins:
        """(name, version) -> archive, suite and mirror: the first of the recipe's suites that has it."""
        names = sorted({package.name for package in packages})
        if not names:
            return {}
        completed = self._run(["apt-cache", "madison", *names], timeout=_INSTALL_SECONDS)
        places = parse_madison(_text(completed.stdout))
        found: dict[tuple[str, str], tuple[str, str, str]] = {}
        for archive in self._settings.archives:
            mirror = without_credentials(self._settings.mirrors[archive.name])
            for suite in archive.suites:
                for place in places:
                    if (place.base, place.suite) == (mirror, suite):
                        found.setdefault((place.name, place.version), (archive.name, suite, mirror))
        return found

    def suite_dates(self) -> dict[str, str]:
        """Suite -> Date of its Release file, whose signature apt has checked."""
        return {suite: self._date(suite) for archive in self._settings.archives for suite in archive.suites}

    def _date(self, suite: str) -> str:
        lists = self._state / "state" / "lists"
        files = [path for kind in ("InRelease", "Release") for path in lists.glob(f"*_dists_{suite}_{kind}")]
        if len(files) != 1:
            raise FetchError(f"suite {suite}: apt has {len(files)} Release files of it, wanted one")
        return parse_release_time(files[0].read_text("utf-8", "replace"), what=f"Release file of suite {suite}")

    def _run(self, argv: Sequence[str], *, timeout: float, accept: Sequence[int] = (0,)) -> CompletedRun:
        environment = {name: os.environ[name] for name in _PROXY_VARIABLES if name in os.environ}
        environment |= {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        environment |= {"APT_CONFIG": str(self._state / "apt.conf"), "TMPDIR": str(self._state)}
        return run(argv, environment=environment, failure=FetchError, timeout=timeout, accept=accept)


def _unsatisfied(group: str, requests: Sequence[str], completed: CompletedRun) -> DocumentError:
    from_suite = any("/" in request for request in requests)
    hint = "a package taken from backports does not bring its dependencies from there: ask for those as name/suite too"
    output = f"{_text(completed.stdout)}\n{_text(completed.stderr)}"
    lines = "".join(f"\n  {line.rstrip()}" for line in output.splitlines() if line.strip() and line[-3:] != "...")
    return DocumentError(f"{group}: apt cannot satisfy {' '.join(requests)}:{lines}", hint=hint if from_suite else None)


def _resolved(packages: Iterable[ChosenPackage], origins: _Origins) -> tuple[ResolvedPackage, ...]:
    return tuple(sorted((_resolved_package(package, origins) for package in packages), key=lambda item: item.name))


def _resolved_package(package: ChosenPackage, origins: _Origins) -> ResolvedPackage:
    uri = without_credentials(package.uri)
    archive, suite, mirror = origins.get((package.name, package.version), ("", "", ""))
    if not mirror or not uri.startswith(f"{mirror}/"):
        raise FetchError(f"{package.name} {package.version}: {uri} is not in a suite of the recipe")
    return ResolvedPackage(
        name=package.name,
        version=package.version,
        architecture=package.architecture,
        archive=archive,
        suite=suite,
        path=uri.removeprefix(f"{mirror}/"),
        size=package.size,
        sha256=package.sha256,
    )


def _configuration(state: Path, proxies: Mapping[str, str]) -> str:
    lines = [_CONFIGURATION.format(state=state)]
    for name, address in sorted(proxies.items()):
        scheme, _, host = name.partition("://")
        option = f"Acquire::{scheme}::Proxy" + (f"::{host}" if host else "")
        lines.append(f'{option} "{address or "DIRECT"}";\n')
    return "".join(lines)


def _source(archive: Archive, *, mirror: str, keyring: Path) -> str:
    return _SOURCE.format(
        mirror=mirror, suites=" ".join(archive.suites), components=" ".join(archive.components), keyring=keyring
    )


def _host_keyring() -> Path:
    for path in _KEYRINGS:
        if path.is_file():
            return path
    raise MissingError(
        f"{_KEYRINGS[0]}: the keys that sign Debian's archive are not there",
        hint="install the Debian package debian-archive-keyring",
    )


def _name(request: str) -> str:
    return request.partition("=")[0].partition("/")[0]


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")
