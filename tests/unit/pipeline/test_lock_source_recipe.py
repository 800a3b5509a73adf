"""Locking a recipe with sources, prebuilt files and flavours, and saying why such a lock does not hold any more."""

from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import DocumentError
from builder.model.digest import sha256_hex
from builder.model.lock import parse_lock
from builder.pipeline.inputs import load_locked_recipe, load_recipe
from builder.pipeline.lock import check_lock, read_sources
from tests.fakes.fixed_resolver import package, tarball
from tests.fakes.source_recipe import (
    FILES,
    KERNEL,
    PREBUILT_PATH,
    PREBUILT_URL,
    SOURCE,
    lock_source_recipe,
    make_source_recipe,
    source_resolver,
)

VERSION = "2025.02-8+deb13u1"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_source_recipe(tmp_path / "recipe")


def change_recipe(directory: Path, old: str, new: str) -> None:
    path = directory / "recipe.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_same_recipe_and_archive_give_the_same_bytes(tmp_path: Path) -> None:
    locks = []
    for name in ("one", "two"):
        directory = make_source_recipe(tmp_path / name)
        lock_source_recipe(directory)
        locks.append((directory / "lock.json").read_bytes())

    assert locks[0] == locks[1]
    parse_lock(locks[0], what="lock.json")


def test_lock_that_holds_is_kept_and_confirmed(directory: Path) -> None:
    first = lock_source_recipe(directory)
    resolver = source_resolver()
    resolver.dates = dict.fromkeys(resolver.dates, "20270101T000000Z")

    assert not lock_source_recipe(directory, resolver).written
    assert check_lock(directory, load_recipe(directory), resolver=resolver) == first.lock


def test_one_lock_is_fresh_for_every_flavour(directory: Path) -> None:
    lock_source_recipe(directory)
    prod, dev = load_locked_recipe(directory), load_locked_recipe(directory, flavour="dev")

    assert prod.lock == dev.lock
    assert [locked.name for locked in dev.lock.group(dev.recipe.guest_os_group)] == ["openssh-server", "systemd"]
    assert [locked.name for locked in prod.lock.group(prod.recipe.guest_os_group)] == ["systemd"]


def test_unknown_flavour_is_refused_before_its_lock_is_read(directory: Path) -> None:
    with pytest.raises(DocumentError, match="no flavour 'debug'"):
        load_locked_recipe(directory, flavour="debug")


def test_check_names_a_source_that_differs(directory: Path) -> None:
    lock_source_recipe(directory)
    resolver = source_resolver()
    resolver.tarballs[SOURCE] = (tarball("edk2", VERSION, sha256="c" * 64), tarball("edk2", VERSION, "brotli"))
    with pytest.raises(DocumentError, match=rf"source edk2: sha256 is {'c' * 64}, locked is .* \(sources\.firmware\)"):
        check_lock(directory, load_recipe(directory), resolver=resolver)


def test_two_tarballs_of_one_component_are_never_written(directory: Path) -> None:
    resolver = source_resolver()
    other = tarball("edk2", VERSION, path="pool/main/e/edk2/edk2_2025.02.orig.tar.gz")
    resolver.tarballs[SOURCE] = (tarball("edk2", VERSION), other)
    with pytest.raises(DocumentError, match=r"sources\.firmware: edk2=.*:source was resolved to 2 files"):
        lock_source_recipe(directory, resolver)

    assert not (directory / "lock.json").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"path": "../../etc/passwd.orig.tar.xz"},
        {"path": "edk2_2025.02.orig.tar.xz"},
        {"path": "pool/e/edk2_2025.05.orig.tar.xz"},
        {"sha256": ""},
        {"sha256": "a" * 63},
        {"size": 1 << 40},
        {"size": -1},
        {"name": "edk3"},
        {"version": "2025.02-9"},
        {"architecture": "amd64"},
    ],
)
def test_tarball_that_is_no_pin_of_this_source_is_never_written(directory: Path, fields: dict[str, object]) -> None:
    resolver = source_resolver()
    resolver.tarballs[SOURCE] = (replace(tarball("edk2", VERSION), **fields),)  # type: ignore[arg-type]
    with pytest.raises(DocumentError):
        lock_source_recipe(directory, resolver)

    assert not (directory / "lock.json").exists()


def test_own_prebuilt_file_is_locked_like_every_other_one(directory: Path) -> None:
    change_recipe(directory, PREBUILT_URL, PREBUILT_PATH)
    lock = lock_source_recipe(directory).lock

    assert lock.files == {}
    assert (lock.sources["files/vmlinuz"].sha256, lock.sources["files/vmlinuz"].size) == (
        sha256_hex(KERNEL),
        len(KERNEL),
    )


def test_own_prebuilt_file_of_another_digest_is_never_locked(directory: Path) -> None:
    change_recipe(directory, PREBUILT_URL, PREBUILT_PATH)
    lock_source_recipe(directory)
    (directory / "files/vmlinuz").write_bytes(KERNEL + b"!")
    before = (directory / "lock.json").read_bytes()

    with pytest.raises(DocumentError, match=r"files/vmlinuz has SHA-256 .*, components\.kernel\.prebuilt says"):
        lock_source_recipe(directory)
    with pytest.raises(DocumentError, match=r"files/vmlinuz has SHA-256"):
        check_lock(directory, load_recipe(directory), resolver=source_resolver())
    with pytest.raises(DocumentError, match="is stale"):
        load_locked_recipe(directory)
    assert (directory / "lock.json").read_bytes() == before


@pytest.mark.parametrize("name", ["files/compose.yaml", "files/dev", "files/firmware"])
def test_file_or_tree_that_is_missing_is_named(directory: Path, name: str) -> None:
    (directory / name).rename(directory / "moved")
    with pytest.raises(DocumentError, match=f"{name}: cannot be read: No such file"):
        read_sources(directory, load_recipe(directory))


def test_file_that_is_a_directory_or_a_link_is_refused(directory: Path) -> None:
    path = directory / "files/compose.yaml"
    path.unlink()
    path.symlink_to(directory / "recipe.yaml")
    with pytest.raises(DocumentError, match=r"compose\.yaml: wanted a regular file"):
        read_sources(directory, load_recipe(directory))

    path.unlink()
    path.mkdir()
    with pytest.raises(DocumentError, match=r"compose\.yaml: wanted a regular file"):
        read_sources(directory, load_recipe(directory))


def test_file_is_not_reached_through_a_link(directory: Path) -> None:
    (directory / "files").rename(directory / "elsewhere")
    (directory / "files").symlink_to("elsewhere")
    with pytest.raises(DocumentError, match=r"files: wanted a directory"):
        read_sources(directory, load_recipe(directory))


def test_every_flavours_files_are_locked(directory: Path) -> None:
    sources = read_sources(directory, load_recipe(directory))

    expected = {name for name in FILES if not name.startswith("files/kernel/")}
    assert sources.keys() == expected


def test_new_package_of_a_flavour_is_a_difference_of_its_group_alone(directory: Path) -> None:
    lock_source_recipe(directory)
    resolver = source_resolver()
    resolver.archive["openssh-server"] = package("openssh-server", "2.0")
    with pytest.raises(DocumentError, match=r"openssh-server: version is 2\.0, locked is 1\.0 \(flavours\.dev\)"):
        check_lock(directory, load_recipe(directory), resolver=resolver)
