"""Dependencies resolved by apt itself, from an empty system; sources by the signed Sources index.

apt's own rules choose between suites: the highest version outside of NotAutomatic suites (backports), which are used
only for `name/suite` and `name=version`; where two suites have the same version, the one listed first. What apt is
shown for a group, and what it is not, is in `program.py`.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from builder.backends.apt.output import ChosenPackage, PackageSource, parse_install_uris, parse_madison
from builder.backends.apt.program import Apt, AptSettings, View
from builder.backends.apt.sources import parse_tarballs
from builder.backends.process import CompletedRun
from builder.errors import DocumentError, FetchError, MissingError
from builder.model.location import without_credentials
from builder.model.recipe import PackageGroup
from builder.model.source_package import ARCHITECTURE as SOURCE
from builder.model.source_package import parse_source_request
from builder.ports import Resolution, ResolvedPackage

_KEYRINGS = tuple(Path("/usr/share/keyrings") / f"debian-archive-keyring.{suffix}" for suffix in ("gpg", "pgp"))


class AptResolver:
    """A Resolver for Debian archives, architecture amd64."""

    def __init__(self, settings: AptSettings) -> None:
        self._settings = settings

    def resolve(self, groups: Mapping[str, PackageGroup]) -> Resolution:
        """Each group by itself, from an empty system.

        FetchError if the indexes cannot be had or trusted, DocumentError for names that apt cannot satisfy and for a
        version of a source that is not there, MissingError without apt or the keyring.
        """
        keyring = self._settings.keyring or _host_keyring()
        with tempfile.TemporaryDirectory(prefix="tdx-builder-apt-") as name:
            apt = Apt(Path(name), self._settings, keyring)
            apt.update()
            resolving = _Resolving(apt, self._settings)
            resolved = {group: resolving.group(group, wanted) for group, wanted in groups.items()}
            return Resolution(groups=resolved, suite_dates=apt.suite_dates())


_Origin = tuple[str, str, str]  # archive, suite, mirror


class _Resolving:
    """Groups one by one, on indexes that were downloaded already."""

    def __init__(self, apt: Apt, settings: AptSettings) -> None:
        self._apt = apt
        self._settings = settings

    def group(self, name: str, group: PackageGroup) -> tuple[ResolvedPackage, ...]:
        """What apt chooses for a group, sorted by name."""
        view = self._view(group)
        if group.source:
            return tuple(tarball for request in group.requests for tarball in self._tarballs(name, request, view))
        chosen = self._install(name, group.requests, view) if group.requests else []
        origins = self._package_origins(view, {package.name for package in chosen}) if chosen else {}
        return tuple(sorted((_resolved(package, origins) for package in chosen), key=lambda package: package.name))

    def _view(self, group: PackageGroup) -> View:
        archives = self._settings.archives
        if group.source:
            return View("sources", {}, {archive.name: archive.source_suites for archive in archives})
        if not group.suites:
            return View("packages", {archive.name: archive.suites for archive in archives}, {})
        own = {
            archive.name: tuple(suite for suite in group.suites if suite in archive.suites + archive.root_suites)
            for archive in archives
        }
        return View(f"packages.{'.'.join(group.suites)}", own, {})

    def _install(self, group: str, requests: Sequence[str], view: View) -> list[ChosenPackage]:
        """What apt would install for `requests`, each of which has to be among it by its own name."""
        argv = ["apt-get", "install", "--print-uris", "--yes", "--quiet", "--", *requests]
        completed = self._apt.ask(view, argv, accept=(0, 100))
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

    def _package_origins(self, view: View, names: Iterable[str]) -> dict[tuple[str, str], _Origin]:
        completed = self._apt.ask(view, ["apt-cache", "madison", "--", *sorted(names)])
        return self._origins(parse_madison(_text(completed.stdout)), view.packages)

    def _origins(
        self, places: Sequence[PackageSource], suites: Mapping[str, tuple[str, ...]]
    ) -> dict[tuple[str, str], _Origin]:
        """(name, version) -> its origin: the first of the view's suites that has it."""
        found: dict[tuple[str, str], _Origin] = {}
        for archive, names in suites.items():
            mirror = without_credentials(self._settings.mirrors[archive])
            for suite in names:
                for place in places:
                    if (place.base, place.suite) == (mirror, suite):
                        found.setdefault((place.name, place.version), (archive, suite, mirror))
        return found

    def _tarballs(self, group: str, request: str, view: View) -> list[ResolvedPackage]:
        """The orig tarballs of exactly the version that is asked for."""
        name, version = parse_source_request(request, what=group)
        madison = self._apt.ask(view, ["apt-cache", "madison", "--", name])
        origins = self._origins(parse_madison(_text(madison.stdout), index="Sources"), view.sources)
        if (name, version) not in origins:
            raise _no_such_version(
                f"{group}: source {request}", [found for known, found in origins if known == name], view
            )
        archive, suite, _ = origins[name, version]
        records = self._apt.ask(view, ["apt-cache", "showsrc", "--only-source", "--", name])
        return [
            ResolvedPackage(name, version, SOURCE, archive, suite, tarball.path, tarball.size, tarball.sha256)
            for tarball in parse_tarballs(_text(records.stdout), name=name, version=version)
        ]


def _no_such_version(what: str, versions: Sequence[str], view: View) -> DocumentError:
    suites = ", ".join(suite for suites in view.sources.values() for suite in suites)
    known = f"versions there are: {', '.join(versions)}" if versions else "no source of this name is there"
    return DocumentError(f"{what}: not in {suites}; {known}", hint="name another version or source suite")


def _unsatisfied(group: str, requests: Sequence[str], completed: CompletedRun) -> DocumentError:
    from_suite = any("/" in request for request in requests)
    hint = "a package taken from backports does not bring its dependencies from there: ask for those as name/suite too"
    output = f"{_text(completed.stdout)}\n{_text(completed.stderr)}"
    lines = "".join(f"\n  {line.rstrip()}" for line in output.splitlines() if line.strip() and line[-3:] != "...")
    return DocumentError(f"{group}: apt cannot satisfy {' '.join(requests)}:{lines}", hint=hint if from_suite else None)


def _resolved(package: ChosenPackage, origins: Mapping[tuple[str, str], _Origin]) -> ResolvedPackage:
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
