"""Orig tarballs and prebuilt files into the store and back, like every other input."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.backends.http_fetcher import HttpFetcher, HttpSettings
from builder.backends.input_archive import open_archive, write_archive
from builder.backends.local_store import LocalStore
from builder.errors import FetchError, MissingError
from builder.model.digest import sha256_hex
from builder.model.location import Locations
from builder.model.lock import Lock, parse_lock
from builder.model.source_package import ARCHITECTURE as SOURCE
from builder.pipeline.fetch import export_inputs, fetch_inputs, import_inputs, require_inputs, restore_recipe
from builder.pipeline.inputs import BuildInputs, load_locked_recipe
from builder.pipeline.lock import read_sources
from tests.fakes.local_mirror import LocalMirror, local_mirror
from tests.fakes.silent_progress import SilentProgress
from tests.fakes.source_recipe import KERNEL, KERNEL_URL, RECIPE, lock_source_recipe, make_source_recipe

MAIN = "edk2=2025.02-8+deb13u1:source"
TARBALL = "pool/main/e/edk2/edk2_2025.02.orig.tar.xz"


@pytest.fixture
def mirror() -> Iterator[LocalMirror]:
    with local_mirror() as running:
        yield running


@pytest.fixture
def directory(tmp_path: Path, mirror: LocalMirror) -> Path:
    """A locked recipe, whose prebuilt kernel lies on the mirror, as every package and tarball of it does."""
    text = RECIPE.replace(KERNEL_URL, f"{mirror.url}/kernels/vmlinuz")
    directory = make_source_recipe(tmp_path / "recipe", text)
    for locked in lock_source_recipe(directory).lock.packages.values():
        words = [locked.name, locked.version, *([locked.component] if locked.architecture == SOURCE else [])]
        mirror.files[f"/debian/{locked.path}"] = " ".join(words).encode()
    mirror.files["/kernels/vmlinuz"] = KERNEL
    return directory


@pytest.fixture
def lock(directory: Path) -> Lock:
    return parse_lock((directory / "lock.json").read_bytes(), what="lock.json")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def fetch(lock: Lock, store: LocalStore, mirror: LocalMirror, *, snapshot: bool = False) -> int:
    locations = Locations({"debian": (f"{mirror.url}/debian",)}, f"{mirror.url}/snapshot" if snapshot else None)
    fetcher = HttpFetcher(HttpSettings(sleep=lambda _: None))
    return fetch_inputs(lock, store=store, fetcher=fetcher, locations=locations, progress=SilentProgress())


def test_tarballs_and_prebuilt_files_come_into_the_store(lock: Lock, store: LocalStore, mirror: LocalMirror) -> None:
    assert fetch(lock, store, mirror) == len(lock.downloads) == len(lock.packages) + 1
    assert all(store.path(item.sha256) is not None for item in lock.downloads)
    require_inputs(lock, store)
    assert fetch(lock, store, mirror) == 0


def test_tarball_that_left_the_mirror_comes_from_the_snapshot_archive(
    lock: Lock, store: LocalStore, mirror: LocalMirror
) -> None:
    mirror.files[f"/snapshot/archive/debian/20260102T030405Z/{TARBALL}"] = mirror.files.pop(f"/debian/{TARBALL}")

    fetch(lock, store, mirror, snapshot=True)
    assert store.path(lock.packages[MAIN].sha256) is not None


@pytest.mark.parametrize("body", [KERNEL[:-1] + b"!", KERNEL + b"!", KERNEL[:-1], b""])
def test_download_of_other_bytes_is_never_a_prebuilt_file(
    lock: Lock, store: LocalStore, mirror: LocalMirror, body: bytes
) -> None:
    mirror.files["/kernels/vmlinuz"] = body
    with pytest.raises(FetchError, match=r"kernel from http://127.0.0.1:[0-9]+/kernels/vmlinuz: "):
        fetch(lock, store, mirror)

    assert store.path(sha256_hex(KERNEL)) is None


def test_tarball_of_other_bytes_is_never_believed(lock: Lock, store: LocalStore, mirror: LocalMirror) -> None:
    mirror.files[f"/debian/{TARBALL}"] = b"edk2 2025.02-8+deb13u1!"
    with pytest.raises(FetchError, match="SHA-256 is"):
        fetch(lock, store, mirror)

    assert store.path(lock.packages[MAIN].sha256) is None


def test_offline_names_tarballs_and_prebuilt_files_too(lock: Lock, store: LocalStore) -> None:
    with pytest.raises(FetchError, match="inputs are not in the store") as caught:
        require_inputs(lock, store)

    assert MAIN in caught.value.message
    assert lock.files["kernel"].key in caught.value.message


def test_missing_tarball_is_named_to_a_build(directory: Path, store: LocalStore, tmp_path: Path) -> None:
    inputs = BuildInputs(load_locked_recipe(directory), store, tmp_path / "texts")
    for item, name in ((inputs.lock.packages[MAIN], MAIN), (inputs.lock.files["kernel"], "kernel from")):
        with pytest.raises(MissingError, match=name.replace("+", r"\+")):
            inputs.object(item.sha256)


def test_release_is_rebuilt_elsewhere_from_an_input_archive_alone(
    directory: Path, lock: Lock, store: LocalStore, mirror: LocalMirror, tmp_path: Path
) -> None:
    fetch(lock, store, mirror)
    archive, elsewhere = tmp_path / "in.tar", LocalStore(tmp_path / "elsewhere")
    export_inputs(directory, lock, store=store, archive=archive, write=write_archive)
    with open_archive(archive) as reader:
        imported = import_inputs(reader, store=elsewhere, wanted=lock)
    restore_recipe(imported, tmp_path / "restored", store=elsewhere)
    restored = load_locked_recipe(tmp_path / "restored", flavour="dev")

    require_inputs(restored.lock, elsewhere)
    assert restored.lock == lock
    assert read_sources(restored.path, restored.recipe).keys() == lock.sources.keys()
    again = tmp_path / "again.tar"
    export_inputs(restored.path, restored.lock, store=elsewhere, archive=again, write=write_archive)
    assert again.read_bytes() == archive.read_bytes()


def test_prebuilt_file_that_was_changed_in_an_input_archive_is_refused(
    directory: Path, lock: Lock, store: LocalStore, mirror: LocalMirror, tmp_path: Path
) -> None:
    fetch(lock, store, mirror)
    archive, elsewhere = tmp_path / "in.tar", LocalStore(tmp_path / "elsewhere")
    export_inputs(directory, lock, store=store, archive=archive, write=write_archive)
    archive.write_bytes(archive.read_bytes().replace(KERNEL, KERNEL[:-1] + b"!"))
    with open_archive(archive) as reader, pytest.raises(FetchError, match=r"files/[0-9a-f]{64}"):
        import_inputs(reader, store=elsewhere)

    assert elsewhere.path(sha256_hex(KERNEL)) is None
