"""`fetch` and `export-inputs`: the locked inputs into the store, from the network or from an input archive, and back.

An input archive holds lock.json, recipe.yaml, `sources/SHA256` (the recipe's own files), `packages/SHA256` (with the
orig tarballs) and `files/SHA256` (prebuilt), in this order and sorted by digest: everything a release is rebuilt from
without a network, and the same bytes for the same lock.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from builder.errors import DocumentError, FetchError, MissingError
from builder.model import lock as lock_file
from builder.model import recipe as recipe_file
from builder.model.digest import sha256_hex
from builder.model.location import Locations
from builder.model.lock import Lock, LockedSource, encode_lock, parse_lock
from builder.model.lock_differences import package_differences
from builder.ports import ArchiveMember, ArtifactStore, Fetcher, InputReader, InputWriter, Progress, RemoteFile

_LOCK_LIMIT = 1 << 26
_RECIPE_LIMIT = 1 << 20
_OFFLINE_HINT = "fetch without --offline, or import an archive that has them with `fetch --from ARCHIVE`"


@dataclass(frozen=True)
class ImportedInputs:
    """What an input archive said it is: its lock, and the recipe's bytes, whose digest is the one locked."""

    lock: Lock
    recipe: bytes


def fetch_inputs(
    lock: Lock, *, store: ArtifactStore, fetcher: Fetcher, locations: Locations, progress: Progress
) -> int:
    """Fetch the packages, sources and prebuilt files that the store lacks; gives their number.

    FetchError names every one that cannot be had.
    """
    files = [
        RemoteFile(name=package.key, size=package.size, sha256=package.sha256, urls=locations.urls(package))
        for package in lock.packages.values()
    ]
    files += [RemoteFile(each.key, each.size, each.sha256, (each.url,)) for each in lock.files.values()]
    try:
        return fetcher.fetch(files, store, progress)
    except FetchError as error:
        notes = "".join(f"\n  {note}" for note in locations.notes)
        raise FetchError(error.message + notes, hint=error.hint or locations.hint) from error


def require_inputs(lock: Lock, store: ArtifactStore) -> None:
    """For --offline: FetchError naming every package, source and prebuilt file that the store lacks."""
    missing = [item for item in lock.downloads if store.path(item.sha256) is None]
    if missing:
        listed = "".join(f"\n  {item.key} sha256:{item.sha256}" for item in missing)
        raise FetchError(f"{len(missing)} inputs are not in the store:{listed}", hint=_OFFLINE_HINT)


def export_inputs(directory: Path, lock: Lock, *, store: ArtifactStore, archive: Path, write: InputWriter) -> int:
    """Write the inputs of the recipe in `directory`, whose fresh lock is `lock`, to `archive`; gives its members.

    FetchError for packages that the store lacks, and for files that changed since they were locked.
    """
    require_inputs(lock, store)
    _store_sources(directory, lock, store)
    members = [*_documents(directory, lock), *(_stored(member, store) for member in _objects(lock))]
    write(archive, members)
    return len(members)


def import_inputs(reader: InputReader, *, store: ArtifactStore, wanted: Lock | None = None) -> ImportedInputs:
    """Put the sources and packages of an input archive into the store, checking every digest.

    DocumentError if it is not an input archive, or not that of the lock `wanted`; FetchError if bytes in it are not
    what its own lock pins. What was imported before such an error is whole and stays.
    """
    lock = parse_lock(reader.document(lock_file.FILE_NAME, limit=_LOCK_LIMIT), what=lock_file.FILE_NAME)
    if wanted is not None and encode_lock(lock) != encode_lock(wanted):
        raise _other_lock(lock, wanted)
    recipe = reader.document(recipe_file.FILE_NAME, limit=_RECIPE_LIMIT)
    if sha256_hex(recipe) != lock.recipe_sha256:
        raise FetchError(f"recipe.yaml has SHA-256 {sha256_hex(recipe)}, locked is {lock.recipe_sha256}")
    for member in _objects(lock):
        _import(member, reader, store)
    reader.finish()
    return ImportedInputs(lock, recipe)


def restore_recipe(imported: ImportedInputs, directory: Path, *, store: ArtifactStore) -> None:
    """Make `directory`, which must not exist, the recipe directory that was exported, from an import's store.

    lock.json is written last, so that what an interruption leaves is not taken for a whole recipe.
    """
    recipe = recipe_file.parse_recipe(imported.recipe, what=recipe_file.FILE_NAME)
    try:
        directory.mkdir(parents=True)
        for tree in recipe.file_trees():  # one without files is not in the archive, and still wanted
            (directory / tree).mkdir(parents=True, exist_ok=True)
        for source in imported.lock.sources.values():
            _restore(source, directory, store)
        (directory / recipe_file.FILE_NAME).write_bytes(imported.recipe)
        (directory / lock_file.FILE_NAME).write_bytes(encode_lock(imported.lock))
    except FileExistsError as error:
        raise DocumentError(f"{directory}: exists already", hint="name a directory that does not exist yet") from error
    except OSError as error:
        raise MissingError(f"{error.filename or directory}: cannot be written: {error.strerror}") from error


def _restore(source: LockedSource, directory: Path, store: ArtifactStore) -> None:
    stored = store.path(source.sha256)
    if stored is None:
        raise FetchError(f"{source.path}: sha256:{source.sha256} is not in the store")
    path = directory / source.path
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(stored, path)
    path.chmod(0o755 if source.executable else 0o644)


def _import(member: ArchiveMember, reader: InputReader, store: ArtifactStore) -> None:
    if store.path(member.sha256) is not None:
        reader.object(member)
        return
    with store.partial(member.sha256) as path:
        reader.object(replace(member, path=path))


def _documents(directory: Path, lock: Lock) -> list[ArchiveMember]:
    data = encode_lock(lock)
    recipe = directory / recipe_file.FILE_NAME
    return [
        ArchiveMember(lock_file.FILE_NAME, len(data), sha256_hex(data), directory / lock_file.FILE_NAME),
        ArchiveMember(recipe_file.FILE_NAME, _size(recipe), lock.recipe_sha256, recipe),
    ]


def _objects(lock: Lock) -> list[ArchiveMember]:
    """Own files, packages with orig tarballs, and prebuilt files, sorted by digest within each; two files with the
    same bytes are one member."""
    sources = {(f"sources/{source.sha256}", source.size, source.sha256) for source in lock.sources.values()}
    packages = {(f"packages/{package.sha256}", package.size, package.sha256) for package in lock.packages.values()}
    files = {(f"files/{file.sha256}", file.size, file.sha256) for file in lock.files.values()}
    return [
        ArchiveMember(name, size, sha256, None)
        for members in (sources, packages, files)
        for name, size, sha256 in sorted(members)
    ]


def _stored(member: ArchiveMember, store: ArtifactStore) -> ArchiveMember:
    path = store.path(member.sha256)
    if path is None:
        raise FetchError(f"{member.name} is not in the store", hint=_OFFLINE_HINT)
    return replace(member, path=path)


def _store_sources(directory: Path, lock: Lock, store: ArtifactStore) -> None:
    for source in lock.sources.values():
        found, _ = store.add_file(directory / source.path)
        if found != source.sha256:
            raise FetchError(f"{directory / source.path}: SHA-256 is {found}, locked is {source.sha256}")


def _other_lock(found: Lock, wanted: Lock) -> DocumentError:
    differences = package_differences(wanted, found)
    listed = "".join(f"\n  {difference}" for difference in differences)
    return DocumentError(
        f"the input archive is of {found.image} {found.version}, whose lock is not the one of this recipe:{listed}",
        hint="import it without a recipe, or with the recipe it was exported from",
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read: {error.strerror}") from error
