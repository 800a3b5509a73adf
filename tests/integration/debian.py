"""Packages of any Debian suite, as the mirror of this host has them today: firmware, kernels and VMMs to test with.

apt resolves them as `lock` has it do; fetched packages stay in the user's store. Nothing is pinned here, so no test may
expect bytes of what comes out, only rules that hold for them. Where the host's archive has no such suite or package, or
cannot be reached, the test is skipped and the reason shown.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from builder.backends.apt.program import AptSettings
from builder.backends.apt.resolver import AptResolver
from builder.backends.deb_root import unpack_root
from builder.backends.http_fetcher import HttpFetcher, HttpSettings
from builder.backends.local_store import LocalStore
from builder.backends.mirrors import DEBIAN, find_locations, host_proxies
from builder.cli.wiring import default_store
from builder.errors import DocumentError, FetchError, MissingError
from builder.model.lock import LockedPackage
from builder.model.recipe import Archive, PackageGroup
from builder.ports import RemoteFile
from tests.fakes.silent_progress import SilentProgress
from tests.integration.made_once import made_once

_SKIPPED = "skipped"
_EVERYTHING = ".*"


def debian_root(factory: pytest.TempPathFactory, name: str, *, suites: Sequence[str], packages: Sequence[str]) -> Path:
    """A read-only root with `packages` (`name` or `name/suite`) of `suites` and all they depend on.

    `name` is that of the directory, and one for each content. From backports, dependencies that must come from there
    too are asked for as name/suite.
    """
    return _unpacked(factory, name, suites=suites, packages=packages, keep=_EVERYTHING)


def debian_files(
    factory: pytest.TempPathFactory, name: str, *, suites: Sequence[str], packages: Sequence[str], keep: str = ""
) -> Path:
    """The files of `packages` alone, without what they depend on; with the regular expression `keep`, of those of the
    resolved packages whose whole name it matches (`linux-image-[0-9].*` of `linux-image-cloud-amd64`)."""
    named = "|".join(re.escape(package.partition("/")[0]) for package in packages)
    return _unpacked(factory, name, suites=suites, packages=packages, keep=keep or named)


def one_file(root: Path, pattern: str) -> Path:
    """The one file below `root` that the pattern matches (`boot/vmlinuz-*`)."""
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        pytest.fail(f"{root.name} has {len(found)} files {pattern}, wanted one")
    return found[0]


def _unpacked(
    factory: pytest.TempPathFactory, name: str, *, suites: Sequence[str], packages: Sequence[str], keep: str
) -> Path:
    def make(directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        try:
            resolved = [package for package in _resolved(suites, packages) if re.fullmatch(keep, package.name)]
            unpack_root(_fetched(resolved), directory / "root", SilentProgress())
        except (FetchError, MissingError, DocumentError) as error:
            first, *others = error.message.splitlines()
            (directory / _SKIPPED).write_text(" ... ".join((first, *(line.strip() for line in others[-1:]))))

    made = made_once(factory, f"debian-{name}", make)
    if (made / _SKIPPED).exists():
        reason = (made / _SKIPPED).read_text()
        pytest.skip(f"the archive of this host does not give {', '.join(packages)} of {', '.join(suites)}: {reason}")
    return made / "root"


def _resolved(suites: Sequence[str], packages: Sequence[str]) -> list[LockedPackage]:
    archive = Archive(DEBIAN, tuple(suites), ("main",))
    mirror = find_locations((), None, environment=os.environ).mirror(DEBIAN)
    resolution = AptResolver(AptSettings((archive,), {DEBIAN: mirror}, host_proxies())).resolve(
        {"": PackageGroup(tuple(packages))}
    )
    dates = resolution.suite_dates
    return [LockedPackage(**asdict(package), snapshot=dates[package.suite]) for package in resolution.groups[""]]


def _fetched(packages: Sequence[LockedPackage]) -> list[Path]:
    store = LocalStore(default_store())
    locations = find_locations((), None, environment=os.environ)
    files = [RemoteFile(each.key, each.size, each.sha256, locations.urls(each)) for each in packages]
    HttpFetcher(HttpSettings(proxies=host_proxies())).fetch(files, store, SilentProgress())
    return [path for each in packages if (path := store.path(each.sha256)) is not None]
