"""The locked inputs into the store and back, by way of a mirror, a snapshot archive or an input archive."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.backends.atomic_file import write_atomically
from builder.backends.http_fetcher import HttpFetcher, HttpSettings
from builder.backends.input_archive import open_archive, write_archive
from builder.backends.local_store import LocalStore
from builder.errors import DocumentError, FetchError, MissingError
from builder.model.location import Locations
from builder.model.lock import Lock, parse_lock
from builder.model.recipe import parse_recipe
from builder.pipeline.fetch import (
    ImportedInputs,
    export_inputs,
    fetch_inputs,
    import_inputs,
    require_inputs,
    restore_recipe,
)
from builder.pipeline.lock import lock_recipe, read_sources
from tests.fakes.fixed_resolver import FixedResolver, package
from tests.fakes.local_mirror import LocalMirror, local_mirror
from tests.fakes.recipe_directory import PACKAGES, make_recipe_directory
from tests.fakes.silent_progress import SilentProgress


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A locked recipe."""
    directory = make_recipe_directory(tmp_path / "recipe")
    lock_directory(directory, FixedResolver({name: package(name) for name in PACKAGES}))
    return directory


def lock_directory(directory: Path, resolver: FixedResolver) -> None:
    recipe = parse_recipe((directory / "recipe.yaml").read_bytes(), what="recipe.yaml")
    lock_recipe(directory, recipe, resolver=resolver, write=write_atomically)


def lock_of(directory: Path) -> Lock:
    return parse_lock((directory / "lock.json").read_bytes(), what="lock.json")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def mirror(directory: Path) -> Iterator[LocalMirror]:
    """A mirror, with a snapshot archive below `/snapshot`, that has every package."""
    with local_mirror() as running:
        for locked in lock_of(directory).packages.values():
            data = f"{locked.name} {locked.version}".encode()
            running.files[f"/debian/{locked.path}"] = data
            running.files[f"/snapshot/archive/debian/{locked.snapshot}/{locked.path}"] = data
        yield running


def fetch(lock: Lock, store: LocalStore, locations: Locations) -> int:
    fetcher = HttpFetcher(HttpSettings(sleep=lambda _: None))
    return fetch_inputs(lock, store=store, fetcher=fetcher, locations=locations, progress=SilentProgress())


def at(mirror: LocalMirror, *, snapshot: bool = False) -> Locations:
    return Locations({"debian": (f"{mirror.url}/debian",)}, f"{mirror.url}/snapshot" if snapshot else None)


def test_every_package_of_a_lock_comes_into_the_store(directory: Path, mirror: LocalMirror, store: LocalStore) -> None:
    lock = lock_of(directory)

    assert fetch(lock, store, at(mirror)) == len(PACKAGES)
    assert all(store.path(locked.sha256) is not None for locked in lock.packages.values())
    assert fetch(lock, store, at(mirror)) == 0


def test_package_that_left_the_mirror_comes_from_the_snapshot_archive(
    directory: Path, mirror: LocalMirror, store: LocalStore
) -> None:
    del mirror.files["/debian/pool/main/o/ovmf/ovmf_1.0_amd64.deb"]

    assert fetch(lock_of(directory), store, at(mirror, snapshot=True)) == len(PACKAGES)
    assert ("/snapshot/archive/debian/20250520T143011Z/pool/main/o/ovmf/ovmf_1.0_amd64.deb", "") in mirror.requests


def test_package_that_was_new_on_that_day_comes_from_the_snapshot_of_the_next(
    directory: Path, mirror: LocalMirror, store: LocalStore
) -> None:
    path = "pool/main/o/ovmf/ovmf_1.0_amd64.deb"
    del mirror.files[f"/debian/{path}"]
    data = mirror.files.pop(f"/snapshot/archive/debian/20250520T143011Z/{path}")
    mirror.files[f"/snapshot/archive/debian/20250521T143011Z/{path}"] = data

    assert fetch(lock_of(directory), store, at(mirror, snapshot=True)) == len(PACKAGES)


def test_failure_without_a_snapshot_archive_says_how_to_name_one(
    directory: Path, mirror: LocalMirror, store: LocalStore
) -> None:
    del mirror.files["/debian/pool/main/o/ovmf/ovmf_1.0_amd64.deb"]
    with pytest.raises(FetchError, match="1 of 7 files") as caught:
        fetch(lock_of(directory), store, at(mirror))

    assert "ovmf=1.0:amd64" in caught.value.message
    assert "--snapshot URL" in str(caught.value.hint)
    assert "TDX_BUILDER_SNAPSHOT" in str(caught.value.hint)


def test_failure_shows_why_no_mirror_is_known(directory: Path, store: LocalStore) -> None:
    with pytest.raises(FetchError, match="no address to fetch it from") as caught:
        fetch(lock_of(directory), store, Locations(notes=("apt's source file:/srv is not reached over http",)))

    assert "file:/srv" in caught.value.message


def test_mirror_with_other_bytes_is_never_believed(directory: Path, mirror: LocalMirror, store: LocalStore) -> None:
    mirror.files["/debian/pool/main/o/ovmf/ovmf_1.0_amd64.deb"] = b"ovmf 1.O"
    with pytest.raises(FetchError, match="SHA-256 is"):
        fetch(lock_of(directory), store, at(mirror))


def test_offline_names_every_package_that_is_missing(directory: Path, mirror: LocalMirror, store: LocalStore) -> None:
    lock = lock_of(directory)
    with pytest.raises(FetchError, match="7 inputs are not in the store") as caught:
        require_inputs(lock, store)
    assert all(key in caught.value.message for key in lock.packages)
    assert "fetch --from ARCHIVE" in str(caught.value.hint)

    fetch(lock, store, at(mirror))
    require_inputs(lock, store)


@pytest.fixture
def archive(directory: Path, mirror: LocalMirror, store: LocalStore, tmp_path: Path) -> Path:
    """An exported input archive."""
    fetch(lock_of(directory), store, at(mirror))
    export_inputs(directory, lock_of(directory), store=store, archive=tmp_path / "in.tar", write=write_archive)
    return tmp_path / "in.tar"


def import_from(archive: Path, store: LocalStore, wanted: Lock | None = None) -> ImportedInputs:
    with open_archive(archive) as reader:
        return import_inputs(reader, store=store, wanted=wanted)


def test_release_is_rebuilt_elsewhere_from_an_input_archive_alone(
    directory: Path, archive: Path, tmp_path: Path
) -> None:
    elsewhere = LocalStore(tmp_path / "elsewhere")
    imported = import_from(archive, elsewhere)
    restore_recipe(imported, tmp_path / "restored", store=elsewhere)

    require_inputs(imported.lock, elsewhere)
    restored, recipe = tmp_path / "restored", parse_recipe(imported.recipe, what="recipe.yaml")
    assert lock_of(restored) == lock_of(directory)
    assert (restored / "recipe.yaml").read_bytes() == (directory / "recipe.yaml").read_bytes()
    assert read_sources(restored, recipe) == read_sources(directory, recipe)
    assert stat.S_IMODE((restored / "files" / "initrd" / "init").stat().st_mode) == 0o755


def test_same_lock_gives_the_same_archive_on_every_machine(
    directory: Path, archive: Path, store: LocalStore, tmp_path: Path
) -> None:
    elsewhere = LocalStore(tmp_path / "elsewhere")
    restore_recipe(import_from(archive, elsewhere), tmp_path / "restored", store=elsewhere)
    lock = lock_of(tmp_path / "restored")
    export_inputs(tmp_path / "restored", lock, store=elsewhere, archive=tmp_path / "again.tar", write=write_archive)

    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()


def test_import_checks_bytes_that_the_store_has_already(archive: Path, store: LocalStore) -> None:
    data = archive.read_bytes()
    archive.write_bytes(data.replace(b"ovmf 1.0", b"ovmf 1.O", 1))
    with pytest.raises(FetchError, match="packages/[0-9a-f]{64} has SHA-256"):
        import_from(archive, store)


def test_wrong_bytes_of_an_archive_never_come_into_the_store(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    archive.write_bytes(data.replace(b"ovmf 1.0", b"ovmf 1.O", 1))
    elsewhere = LocalStore(tmp_path / "elsewhere")
    with pytest.raises(FetchError):
        import_from(archive, elsewhere)

    assert all(
        path.read_bytes() != b"ovmf 1.O" for path in (tmp_path / "elsewhere" / "objects").rglob("*") if path.is_file()
    )


def test_archive_of_another_recipe_is_refused_naming_the_packages(
    archive: Path, directory: Path, store: LocalStore
) -> None:
    newer = {name: package(name, "2.0" if name == "ovmf" else "1.0") for name in PACKAGES}
    lock_directory(directory, FixedResolver(newer))
    with pytest.raises(DocumentError, match="not the one of this recipe") as caught:
        import_from(archive, store, wanted=lock_of(directory))

    assert "package ovmf: version is 1.0, locked is 2.0" in caught.value.message


def test_archive_of_the_recipe_at_hand_is_accepted(archive: Path, directory: Path, store: LocalStore) -> None:
    assert import_from(archive, store, wanted=lock_of(directory)).lock == lock_of(directory)


def test_recipe_that_is_not_the_locked_one_is_refused(archive: Path, store: LocalStore) -> None:
    data = archive.read_bytes()
    archive.write_bytes(data.replace(b"image: sample", b"image: simple", 1))
    with pytest.raises(FetchError, match=r"recipe\.yaml has SHA-256"):
        import_from(archive, store)


def test_archive_with_an_edited_lock_is_refused(archive: Path, store: LocalStore) -> None:
    data = archive.read_bytes()
    archive.write_bytes(data.replace(b'"size": 8', b'"size": 9', 1))
    with pytest.raises(DocumentError, match="section 'packages' was edited"):
        import_from(archive, store)


def test_interrupted_import_is_completed_by_the_next(archive: Path, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    elsewhere = LocalStore(tmp_path / "elsewhere")
    archive.write_bytes(whole[: len(whole) - 2000])
    with pytest.raises(DocumentError):
        import_from(archive, elsewhere)
    archive.write_bytes(whole)

    require_inputs(import_from(archive, elsewhere).lock, elsewhere)


def test_export_without_every_package_is_refused(directory: Path, store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="7 inputs are not in the store"):
        export_inputs(directory, lock_of(directory), store=store, archive=tmp_path / "x.tar", write=write_archive)

    assert not (tmp_path / "x.tar").exists()


@pytest.mark.parametrize("name", ["files/app/config", "recipe.yaml", "lock.json"])
def test_export_of_files_that_changed_since_is_refused(
    directory: Path, mirror: LocalMirror, store: LocalStore, tmp_path: Path, name: str
) -> None:
    lock = lock_of(directory)
    fetch(lock, store, at(mirror))
    with (directory / name).open("a") as file:
        file.write(" ")
    with pytest.raises(FetchError, match=f"{name}: "):
        export_inputs(directory, lock, store=store, archive=tmp_path / "x.tar", write=write_archive)

    assert not (tmp_path / "x.tar").exists()


def test_recipe_is_not_restored_over_another(archive: Path, store: LocalStore, directory: Path) -> None:
    with pytest.raises(DocumentError, match="recipe: exists already"):
        restore_recipe(import_from(archive, store), directory, store=store)


def test_recipe_that_cannot_be_written_names_the_path(archive: Path, store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingError, match=f"{tmp_path}/file"):
        restore_recipe(import_from(archive, store), tmp_path / "file" / "restored", store=store)
