"""`lock`: resolve a recipe's packages and hash its own files into lock.json; `lock --check`: say whether that holds."""

import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from builder.errors import DocumentError
from builder.model.lock import (
    FILE_NAME,
    Lock,
    LockedPackage,
    LockedSource,
    checked_source_path,
    encode_lock,
    parse_lock,
)
from builder.model.lock_differences import (
    package_differences,
    prebuilt_differences,
    prebuilt_files,
    recipe_differences,
    same_inputs,
    stale_error,
)
from builder.model.recipe import Recipe
from builder.pipeline.files import hash_file, read_document
from builder.ports import ResolvedPackage, Resolver

AtomicWriter = Callable[[Path, bytes], None]


@dataclass(frozen=True)
class LockOutcome:
    """The lock that is in the file now, and what changed against the one before; none if its bytes were kept."""

    lock: Lock
    written: bool
    changes: tuple[str, ...]


def lock_recipe(directory: Path, recipe: Recipe, *, resolver: Resolver, write: AtomicWriter) -> LockOutcome:
    """Lock the recipe in `directory` and write lock.json there, whole or not at all.

    The bytes of a lock that pins the same inputs are kept: suites are signed again every day, and the older lock names
    snapshots that have the same packages. A lock that cannot be read is replaced. DocumentError for sources that cannot
    be locked and names that apt cannot satisfy, FetchError if the archive cannot be reached.
    """
    path = directory / FILE_NAME
    sources = _checked_sources(directory, recipe)
    lock = _resolved_lock(recipe, sources, resolver)
    former = _former_lock(path)
    if former is not None and same_inputs(former, lock):
        return LockOutcome(former, written=False, changes=())
    changes = [] if former is None else _differences(former, lock, recipe=recipe, sources=sources)
    data = encode_lock(lock)
    parse_lock(data, what=f"new {path}")  # never write what would be refused
    write(path, data)
    return LockOutcome(lock, written=True, changes=tuple(changes))


def check_lock(directory: Path, recipe: Recipe, *, resolver: Resolver) -> Lock:
    """The lock of `directory`, if locking again would pin the same inputs; DocumentError names each difference."""
    path = directory / FILE_NAME
    lock = parse_lock(read_document(path), what=str(path))
    sources = _checked_sources(directory, recipe)
    resolved = _resolved_lock(recipe, sources, resolver)
    if not same_inputs(lock, resolved):
        differences = _differences(lock, resolved, recipe=recipe, sources=sources)
        raise stale_error(differences or ["its archives or suites are others"], what=str(path))
    return lock


def read_sources(directory: Path, recipe: Recipe) -> dict[str, LockedSource]:
    """The files below the recipe's file trees, and those that it names one by one, by path relative to `directory`.

    DocumentError for a tree or file that is not there, anything but regular files and directories (links cannot be
    locked), and a name that a lock cannot hold. Of a mode only the owner's executable bit counts; empty directories do
    not.
    """
    paths = {path for tree in recipe.file_trees() for path in _files_below(_tree(directory, tree))}
    paths |= {_single_file(directory, name) for name in recipe.single_files()}
    sources = {}
    for path in sorted(paths):
        name = checked_source_path(path.relative_to(directory).as_posix())
        sources[name] = _source(path, name)
    return sources


def _checked_sources(directory: Path, recipe: Recipe) -> dict[str, LockedSource]:
    """The same, with the prebuilt ones of the digest that the recipe says."""
    sources = read_sources(directory, recipe)
    for difference in prebuilt_differences(recipe, sources):
        raise DocumentError(f"{directory}: {difference}", hint="a prebuilt file is pinned by the recipe itself")
    return sources


def _resolved_lock(recipe: Recipe, sources: Mapping[str, LockedSource], resolver: Resolver) -> Lock:
    requests = recipe.package_groups()
    resolution = resolver.resolve(requests)
    dates = resolution.suite_dates
    groups = {name: [_locked(package, dates) for package in resolution.groups[name]] for name in requests}
    for name, packages in groups.items():
        _check_distinct(name, packages)
    return Lock(
        image=recipe.image,
        version=recipe.version,
        recipe_sha256=recipe.digest,
        source_date_epoch=recipe.source_date_epoch,
        archives={archive.name: {suite: dates[suite] for suite in archive.every_suite} for archive in recipe.archives},
        packages={package.key: package for packages in groups.values() for package in packages},
        requests={name: tuple(sorted(group.requests)) for name, group in requests.items()},
        groups={name: tuple(sorted(package.key for package in packages)) for name, packages in groups.items()},
        sources=dict(sources),
        files=prebuilt_files(recipe),
    )


def _check_distinct(group: str, packages: Sequence[LockedPackage]) -> None:
    """Two packages with one key would be one entry of the lock, and one of them not pinned."""
    keys = [package.key for package in packages]
    for key in keys:
        if keys.count(key) > 1:
            raise DocumentError(f"{group}: {key} was resolved to {keys.count(key)} files, wanted one")


def _locked(package: ResolvedPackage, dates: Mapping[str, str]) -> LockedPackage:
    return LockedPackage(**asdict(package), snapshot=dates[package.suite])


def _differences(lock: Lock, resolved: Lock, *, recipe: Recipe, sources: Mapping[str, LockedSource]) -> list[str]:
    return [*recipe_differences(lock, recipe, sources), *package_differences(lock, resolved)]


def _former_lock(path: Path) -> Lock | None:
    try:
        return parse_lock(path.read_bytes(), what=str(path))
    except (OSError, DocumentError):
        return None


def _tree(directory: Path, tree: str) -> Path:
    """The directory of a file tree, reached without a link."""
    path = directory
    for part in Path(tree).parts:
        path /= part
        if not stat.S_ISDIR(_mode(path)):
            raise DocumentError(f"{path}: wanted a directory with files of the recipe", hint="a link does not do")
    return path


def _single_file(directory: Path, name: str) -> Path:
    """A regular file of the recipe, reached without a link."""
    parent, _, last = name.rpartition("/")
    path = _tree(directory, parent) / last
    if not stat.S_ISREG(_mode(path)):
        raise DocumentError(f"{path}: wanted a regular file of the recipe", hint="a link does not do")
    return path


def _files_below(directory: Path) -> Iterator[Path]:
    for path in _entries(directory):
        mode = _mode(path)
        if stat.S_ISDIR(mode):
            yield from _files_below(path)
        elif stat.S_ISREG(mode):
            yield path
        else:
            raise DocumentError(f"{path}: neither a regular file nor a directory, so it cannot be locked")


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError as error:
        raise DocumentError(f"{directory}: cannot be read: {error.strerror}") from error


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read: {error.strerror}", hint="the recipe names its tree") from error


def _source(path: Path, name: str) -> LockedSource:
    try:
        sha256, size = hash_file(path)
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read: {error.strerror}") from error
    return LockedSource(path=name, executable=bool(_mode(path) & stat.S_IXUSR), size=size, sha256=sha256)
