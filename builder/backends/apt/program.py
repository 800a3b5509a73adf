"""apt in a private state directory: its indexes are downloaded once, and looked at through views.

Nothing of the host's apt takes part but the program, the mirror it is pointed at and the proxy: no sources, no
preferences, no configuration parts, no package status, no downloaded lists. Signatures are always checked, against
Debian's archive keyring; expiry is not, because the lists of a frozen suite expire.

A view is a sources list of its own over the same indexes. What a view does not list cannot come from it: neither a
package from a suite of sources, nor one for a root with suites of its own from the others. And since there is one
download, a suite has one state for all of them.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.backends.apt.output import parse_release_time
from builder.backends.atomic_file import storage_errors
from builder.backends.process import CompletedRun, run
from builder.errors import FetchError
from builder.model.recipe import Archive

_PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy")
_UPDATE_SECONDS = 1800
_ANSWER_SECONDS = 600
_EVERYTHING = "everything"
# So that the host's configuration cannot change what apt chooses or trusts; ForceHash has --print-uris print SHA-256.
_CONFIGURATION = """\
Dir::State "{state}/state";
Dir::State::status "{state}/status";
Dir::Cache "{view}/cache";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{view}/sources";
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
Types: {kind}
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


@dataclass(frozen=True)
class View:
    """What apt is shown: suites by the name of their archive, preferred first, of packages and of sources."""

    name: str
    packages: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, tuple[str, ...]]


class Apt:
    """apt-get and apt-cache with the indexes of every suite of the archives, once `update` was called."""

    def __init__(self, state: Path, settings: AptSettings, keyring: Path) -> None:
        self._state = state
        self._settings = settings
        self._keyring = keyring
        with storage_errors(state):
            (state / "state/lists/partial").mkdir(parents=True)
            (state / "status").touch()

    def update(self) -> None:
        """Download and verify the indexes; any failure counts, also one that apt would pass over."""
        archives = self._settings.archives
        packages = {archive.name: tuple(dict.fromkeys(archive.suites + archive.root_suites)) for archive in archives}
        everything = View(_EVERYTHING, packages, {archive.name: archive.source_suites for archive in archives})
        self._run(everything, ["apt-get", "update", "--error-on=any"], timeout=_UPDATE_SECONDS)

    def ask(self, view: View, argv: Sequence[str], *, accept: Sequence[int] = (0,)) -> CompletedRun:
        """Run a program of apt that looks at a view and downloads nothing."""
        return self._run(view, argv, timeout=_ANSWER_SECONDS, accept=accept)

    def suite_dates(self) -> dict[str, str]:
        """Suite -> Date of its Release file, whose signature apt has checked."""
        return {suite: self._date(suite) for archive in self._settings.archives for suite in archive.every_suite}

    def _date(self, suite: str) -> str:
        lists = self._state / "state" / "lists"
        files = [path for kind in ("InRelease", "Release") for path in lists.glob(f"*_dists_{suite}_{kind}")]
        if len(files) != 1:
            raise FetchError(f"suite {suite}: apt has {len(files)} Release files of it, wanted one")
        return parse_release_time(files[0].read_text("utf-8", "replace"), what=f"Release file of suite {suite}")

    def _run(self, view: View, argv: Sequence[str], *, timeout: float, accept: Sequence[int] = (0,)) -> CompletedRun:
        environment = {name: os.environ[name] for name in _PROXY_VARIABLES if name in os.environ}
        environment |= {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        environment |= {"APT_CONFIG": str(self._configuration(view)), "TMPDIR": str(self._state)}
        return run(argv, environment=environment, failure=FetchError, timeout=timeout, accept=accept)

    def _configuration(self, view: View) -> Path:
        """The configuration of a view, with the sources and the cache that go with it."""
        directory = self._state / "views" / view.name
        path = directory / "apt.conf"
        if path.exists():
            return path
        with storage_errors(directory):
            for name in ("cache/archives/partial", "sources"):
                (directory / name).mkdir(parents=True)
            for archive in self._settings.archives:
                (directory / "sources" / f"{archive.name}.sources").write_text(self._sources(archive, view))
            path.write_text(_configuration(self._state, directory, self._settings.proxies))
        return path

    def _sources(self, archive: Archive, view: View) -> str:
        suites = {"deb": view.packages.get(archive.name), "deb-src": view.sources.get(archive.name)}
        return "".join(
            _SOURCE.format(
                kind=kind,
                mirror=self._settings.mirrors[archive.name],
                suites=" ".join(names),
                components=" ".join(archive.components),
                keyring=self._keyring,
            )
            for kind, names in suites.items()
            if names
        )


def _configuration(state: Path, view: Path, proxies: Mapping[str, str]) -> str:
    lines = [_CONFIGURATION.format(state=state, view=view)]
    for name, address in sorted(proxies.items()):
        scheme, _, host = name.partition("://")
        option = f"Acquire::{scheme}::Proxy" + (f"::{host}" if host else "")
        lines.append(f'{option} "{address or "DIRECT"}";\n')
    return "".join(lines)
