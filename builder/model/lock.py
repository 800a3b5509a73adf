"""The lock: every input of a recipe by digest. The tool writes it; `parse_lock` refuses an edited one.

The format is `schemas/lock-v1.json`. Each section carries the SHA-256 of its canonical JSON, so that an edit is named
by section even without the archive at hand; `lock --check` resolves again and names the entry.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from builder.encoding.canonical_json import encode_canonical, encode_readable, parse_json
from builder.encoding.schema import load_schema, validate
from builder.errors import DocumentError
from builder.model.digest import sha256_hex
from builder.model.recipe import Recipe

SCHEMA = "tdx-builder/lock/v1"
FILE_NAME = "lock.json"
_SECTIONS = ("recipe", "requests", "archives", "packages", "groups", "sources")
_RELOCK = "run `tdx-builder lock` on the recipe again"


@dataclass(frozen=True)
class LockedPackage:
    """One .deb and its bytes: `path` in its archive, and `snapshot`, the date of the suite that listed it there.

    `{snapshot base}/archive/{archive}/{snapshot}/{path}` is its address in a snapshot archive.
    """

    name: str
    version: str
    architecture: str
    archive: str
    suite: str
    path: str
    size: int
    sha256: str
    snapshot: str

    @property
    def key(self) -> str:
        """What groups refer to: `name=version:architecture`."""
        return f"{self.name}={self.version}:{self.architecture}"


@dataclass(frozen=True)
class LockedSource:
    """One file of the recipe's own: path relative to the recipe, whether it is executable, size and digest."""

    path: str
    executable: bool
    size: int
    sha256: str


@dataclass(frozen=True)
class Lock:
    """Every input by digest. `requests` are the package names the recipe asked for, `groups` what apt made of each."""

    image: str
    version: str
    recipe_sha256: str
    source_date_epoch: int
    archives: Mapping[str, Mapping[str, str]]
    packages: Mapping[str, LockedPackage]
    requests: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, LockedSource]

    def group(self, name: str) -> tuple[LockedPackage, ...]:
        """The packages of one group, sorted by name."""
        return tuple(self.packages[key] for key in self.groups[name])

    @property
    def total_size(self) -> int:
        """Bytes of all packages."""
        return sum(package.size for package in self.packages.values())


def encode_lock(lock: Lock) -> bytes:
    """The lock file's bytes: the same lock always gives the same bytes."""
    sections = _sections(lock)
    digests = {name: _section_digest(sections[name]) for name in _SECTIONS}
    return encode_readable({"schema": SCHEMA, **sections, "digests": digests})


def parse_lock(data: bytes, *, what: str) -> Lock:
    """Parse a lock file; DocumentError for a malformed one, and for an edited one naming the section."""
    document = parse_json(data, what=what)
    validate(document, schema_name="lock-v1", what=what)
    for name in _SECTIONS:
        found, wanted = _section_digest(document[name]), document["digests"][name]
        if found != wanted:
            raise DocumentError(
                f"{what}: section {name!r} was edited: its SHA-256 is {found}, recorded is {wanted}", hint=_RELOCK
            )
    lock = _lock(document)
    _check_references(lock, what)
    if encode_lock(lock) != data:
        raise DocumentError(f"{what}: not in the form that `tdx-builder lock` writes", hint=_RELOCK)
    return lock


def check_fresh(lock: Lock, recipe: Recipe, sources: Mapping[str, LockedSource], *, what: str) -> None:
    """DocumentError naming every way in which the lock does not belong to this recipe and these files.

    Not checked: whether the archive would still give the same packages (`package_differences` after resolving again).
    """
    differences = recipe_differences(lock, recipe, sources)
    if differences:
        raise stale_error(differences, what=what)


def stale_error(differences: Iterable[str], *, what: str) -> DocumentError:
    """The error for a lock that is not what locking again would give."""
    listed = "".join(f"\n  {difference}" for difference in differences)
    return DocumentError(f"{what} is stale:{listed}", hint=_RELOCK)


def recipe_differences(lock: Lock, recipe: Recipe, sources: Mapping[str, LockedSource]) -> list[str]:
    """Every way in which the lock does not belong to this recipe and these files."""
    differences = [*_request_differences(lock, recipe), *_source_differences(lock, sources)]
    if lock.source_date_epoch != recipe.source_date_epoch:
        differences.append(f"source_date_epoch is {lock.source_date_epoch}, the recipe says {recipe.source_date_epoch}")
    if lock.recipe_sha256 != recipe.digest:
        differences.append(f"it locks a recipe with SHA-256 {lock.recipe_sha256}, this one has {recipe.digest}")
    return differences


def package_differences(locked: Lock, resolved: Lock) -> list[str]:
    """What resolving again changed, package by package, with the groups concerned.

    Where and when a package was seen (suite, snapshot) does not count: a suite is signed again every day, and a package
    moves from one suite of its archive to another, with the same bytes at the same path.
    """
    found: dict[str, list[str]] = {}
    for group in sorted(locked.groups.keys() | resolved.groups.keys()):
        before, after = _by_name(locked, group), _by_name(resolved, group)
        for name in sorted(before.keys() | after.keys()):
            difference = _package_difference(before.get(name), after.get(name))
            if difference:
                found.setdefault(f"package {name}: {difference}", []).append(group)
    return [f"{difference} ({', '.join(groups)})" for difference, groups in sorted(found.items())]


def same_inputs(lock: Lock, other: Lock) -> bool:
    """Whether two locks pin the same inputs, and differ at most in where and when packages were seen."""
    return _without_sightings(lock) == _without_sightings(other)


def checked_source_path(path: str) -> str:
    """`path` if a lock can hold it as the name of a source; DocumentError otherwise."""
    pattern = load_schema("lock-v1")["properties"]["sources"]["propertyNames"]["pattern"]
    if not re.fullmatch(pattern, path):
        raise DocumentError(f"file {path!r}: its name cannot be locked", hint=f"names have to match {pattern}")
    return path


def _by_name(lock: Lock, group: str) -> dict[str, LockedPackage]:
    return {lock.packages[key].name: lock.packages[key] for key in lock.groups.get(group, ())}


def _package_difference(before: LockedPackage | None, after: LockedPackage | None) -> str:
    if before is None:
        return f"{after.version} is not locked" if after else ""
    if after is None:
        return f"{before.version} is locked and no longer needed"
    for field in ("version", "architecture", "archive", "path", "size", "sha256"):
        found, wanted = getattr(after, field), getattr(before, field)
        if found != wanted:
            return f"{field} is {found}, locked is {wanted}"
    return ""


def _without_sightings(lock: Lock) -> Lock:
    packages = {key: replace(package, suite="", snapshot="") for key, package in lock.packages.items()}
    archives = {archive: dict.fromkeys(suites, "") for archive, suites in lock.archives.items()}
    return replace(lock, packages=packages, archives=archives)


def _request_differences(lock: Lock, recipe: Recipe) -> list[str]:
    differences = []
    groups = recipe.package_groups()
    for name in sorted(groups.keys() | lock.requests.keys()):
        wanted, found = set(groups.get(name, ())), set(lock.requests.get(name, ()))
        differences += [f"{name} asks for {package!r}, which is not locked" for package in sorted(wanted - found)]
        differences += [f"{name} no longer asks for {package!r}" for package in sorted(found - wanted)]
    return differences


def _source_differences(lock: Lock, sources: Mapping[str, LockedSource]) -> list[str]:
    differences = [f"file {path} is not locked" for path in sorted(sources.keys() - lock.sources.keys())]
    for path, locked in sorted(lock.sources.items()):
        found = sources.get(path)
        if found is None:
            differences.append(f"file {path} is missing")
        elif found.sha256 != locked.sha256:
            differences.append(f"file {path} has SHA-256 {found.sha256}, locked is {locked.sha256}")
        elif found.size != locked.size:
            differences.append(f"file {path} has {found.size} bytes, locked are {locked.size}")
        elif found.executable != locked.executable:
            differences.append(f"file {path} is {'' if found.executable else 'not '}executable, locked is the opposite")
    return differences


def _sections(lock: Lock) -> dict[str, Any]:
    return {
        "recipe": {
            "image": lock.image,
            "version": lock.version,
            "sha256": lock.recipe_sha256,
            "source_date_epoch": lock.source_date_epoch,
        },
        "requests": {name: sorted(packages) for name, packages in lock.requests.items()},
        "archives": {name: dict(suites) for name, suites in lock.archives.items()},
        "packages": {key: asdict(package) for key, package in lock.packages.items()},
        "groups": {name: sorted(keys) for name, keys in lock.groups.items()},
        "sources": {
            path: {"executable": source.executable, "size": source.size, "sha256": source.sha256}
            for path, source in lock.sources.items()
        },
    }


def _lock(document: dict[str, Any]) -> Lock:
    recipe = document["recipe"]
    return Lock(
        image=recipe["image"],
        version=recipe["version"],
        recipe_sha256=recipe["sha256"],
        source_date_epoch=recipe["source_date_epoch"],
        archives=document["archives"],
        packages={key: LockedPackage(**entry) for key, entry in document["packages"].items()},
        requests={name: tuple(packages) for name, packages in document["requests"].items()},
        groups={name: tuple(keys) for name, keys in document["groups"].items()},
        sources={path: LockedSource(path=path, **entry) for path, entry in document["sources"].items()},
    )


def _check_references(lock: Lock, what: str) -> None:
    for key, package in lock.packages.items():
        if package.key != key:
            raise DocumentError(f"{what}: $.packages: entry {key!r} describes {package.key!r}", hint=_RELOCK)
        if lock.archives.get(package.archive, {}).get(package.suite) != package.snapshot:
            raise DocumentError(
                f"{what}: $.packages: {key!r} was seen in {package.archive} {package.suite} at {package.snapshot}, "
                "which $.archives does not have",
                hint=_RELOCK,
            )
    for name, keys in lock.groups.items():
        for key in keys:
            if key not in lock.packages:
                raise DocumentError(f"{what}: $.groups.{name}: {key!r} is not among the packages", hint=_RELOCK)
        if len(_by_name(lock, name)) != len(keys):
            raise DocumentError(f"{what}: $.groups.{name}: holds two versions of one package", hint=_RELOCK)
    if set(lock.groups) != set(lock.requests):
        raise DocumentError(f"{what}: groups and requests name different groups", hint=_RELOCK)


def _section_digest(section: Any) -> str:
    return sha256_hex(encode_canonical(section))
