"""What makes a lock stale: every difference to its recipe, to the recipe's files, and to what apt gives now. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from builder.errors import DocumentError
from builder.model.lock import RELOCK, Lock, LockedFile, LockedPackage, LockedSource
from builder.model.recipe import Recipe


def prebuilt_files(recipe: Recipe) -> dict[str, LockedFile]:
    """The prebuilt files of a recipe that have to be fetched, as a lock holds them."""
    return {
        name: LockedFile(name, prebuilt.url, prebuilt.size, prebuilt.sha256)
        for name, prebuilt in recipe.prebuilt_files().items()
        if prebuilt.url is not None and prebuilt.size is not None
    }


def prebuilt_differences(recipe: Recipe, sources: Mapping[str, LockedSource]) -> list[str]:
    """The recipe's own files that are not what the recipe itself pins: prebuilt ones."""
    differences = []
    for name, prebuilt in recipe.prebuilt_files().items():
        found = None if prebuilt.path is None else sources.get(prebuilt.path)
        if prebuilt.path is not None and (found is None or found.sha256 != prebuilt.sha256):
            has = f"has SHA-256 {found.sha256}" if found else "is missing"
            differences.append(f"file {prebuilt.path} {has}, components.{name}.prebuilt says {prebuilt.sha256}")
    return differences


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
    return DocumentError(f"{what} is stale:{listed}", hint=RELOCK)


def recipe_differences(lock: Lock, recipe: Recipe, sources: Mapping[str, LockedSource]) -> list[str]:
    """Every way in which the lock does not belong to this recipe and these files."""
    differences = [
        *_archive_differences(lock, recipe),
        *_request_differences(lock, recipe),
        *_source_differences(lock, sources),
        *prebuilt_differences(recipe, sources),
        *_file_differences(lock, recipe),
    ]
    for field in ("image", "version", "source_date_epoch"):
        found, wanted = getattr(lock, field), getattr(recipe, field)
        if found != wanted:
            differences.append(f"{field} is {found}, the recipe says {wanted}")
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
        before, after = _by_title(locked, group), _by_title(resolved, group)
        for title in sorted(before.keys() | after.keys()):
            difference = _package_difference(before.get(title), after.get(title))
            if difference:
                found.setdefault(f"{title}: {difference}", []).append(group)
    return [f"{difference} ({', '.join(groups)})" for difference, groups in sorted(found.items())]


def same_inputs(lock: Lock, other: Lock) -> bool:
    """Whether two locks pin the same inputs, and differ at most in where and when packages were seen."""
    return _without_sightings(lock) == _without_sightings(other)


def _by_title(lock: Lock, group: str) -> dict[str, LockedPackage]:
    return {lock.packages[key].title: lock.packages[key] for key in lock.groups.get(group, ())}


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


def _archive_differences(lock: Lock, recipe: Recipe) -> list[str]:
    """Else a lock could say of a package that it was seen where the recipe lets nothing come from."""
    wanted = {(archive.name, suite) for archive in recipe.archives for suite in archive.every_suite}
    found = {(archive, suite) for archive, suites in lock.archives.items() for suite in suites}
    return [
        *(f"suite {suite} of {archive} is not locked" for archive, suite in sorted(wanted - found)),
        *(f"suite {suite} of {archive} is locked, and not in the recipe" for archive, suite in sorted(found - wanted)),
    ]


def _request_differences(lock: Lock, recipe: Recipe) -> list[str]:
    differences = []
    groups = recipe.package_groups()
    for name in sorted(groups.keys() | lock.requests.keys()):
        wanted = set(groups[name].requests) if name in groups else set()
        found = set(lock.requests.get(name, ()))
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


def _file_differences(lock: Lock, recipe: Recipe) -> list[str]:
    differences = []
    wanted = prebuilt_files(recipe)
    for name in sorted(wanted.keys() | lock.files.keys()):
        if name not in lock.files:
            differences.append(f"prebuilt {name} is not locked")
        elif name not in wanted:
            differences.append(f"prebuilt {name} is locked and no longer needed")
        elif lock.files[name] != wanted[name]:
            differences.append(f"prebuilt {name} is {lock.files[name].key}, the recipe has another pin or address")
    return differences
