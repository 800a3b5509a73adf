"""Orig tarballs and prebuilt files in a lock: what they look like, and every way in which they must not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.encoding.canonical_json import encode_canonical, encode_readable
from builder.errors import DocumentError
from builder.model.digest import sha256_hex
from builder.model.lock import Lock, LockedFile, encode_lock, parse_lock
from builder.model.lock_differences import package_differences, recipe_differences, same_inputs
from builder.pipeline.lock import read_sources
from tests.fakes.fixed_resolver import tarball
from tests.fakes.source_recipe import (
    KERNEL,
    KERNEL_URL,
    PREBUILT_PATH,
    PREBUILT_URL,
    RECIPE,
    SOURCE,
    lock_source_recipe,
    make_source_recipe,
    parse_source_recipe,
    source_resolver,
)

MAIN = "edk2=2025.02-8+deb13u1:source"
BROTLI = "edk2=2025.02-8+deb13u1:source-brotli"
DEB = "gcc=1.0:amd64"
GROUP = "sources.firmware"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_source_recipe(tmp_path / "recipe")


@pytest.fixture
def lock(directory: Path) -> Lock:
    return lock_source_recipe(directory).lock


def resealed(document: dict[str, Any]) -> bytes:
    """The document with fitting section digests, as a careful forger writes it."""
    sections = sorted(document.keys() - {"schema", "digests"})
    document["digests"] = {name: sha256_hex(encode_canonical(document[name])) for name in sections}
    return encode_readable(document)


def test_source_is_a_group_of_its_own_tarballs(lock: Lock) -> None:
    assert lock.requests[GROUP] == (SOURCE,)
    assert lock.groups[GROUP] == (MAIN, BROTLI)
    assert [package.title for package in lock.group(GROUP)] == ["source edk2", "source edk2, component brotli"]
    assert lock.packages[BROTLI].file_name == "edk2_2025.02.orig-brotli.tar.xz"
    assert lock.packages[MAIN].snapshot == lock.archives["debian"]["trixie"] == "20260102T030405Z"


def test_prebuilt_file_is_pinned_with_its_address(lock: Lock) -> None:
    assert lock.files == {"kernel": LockedFile("kernel", KERNEL_URL, len(KERNEL), sha256_hex(KERNEL))}
    assert lock.total_size == sum(package.size for package in lock.packages.values()) + len(KERNEL)
    assert {item.sha256 for item in lock.downloads} >= {sha256_hex(KERNEL), lock.packages[MAIN].sha256}


def test_every_file_that_the_recipe_names_is_locked(lock: Lock) -> None:
    assert {"files/compose.yaml", "files/dev/etc/issue", "files/firmware/no-modules.patch"} <= lock.sources.keys()
    assert "files/kernel/base.config" not in lock.sources  # this recipe does not compile a kernel


def test_lock_is_read_back(lock: Lock) -> None:
    assert parse_lock(encode_lock(lock), what="lock.json") == lock


def test_lock_without_prebuilt_files_does_not_speak_of_them(lock: Lock) -> None:
    document = json.loads(encode_lock(replace(lock, files={})))
    assert "files" not in document
    assert "files" not in document["digests"]


def forged(lock: Lock, key: str, **fields: object) -> bytes:
    """The lock with another entry for a package, under the key that then is its own."""
    package = replace(lock.packages[key], **fields)  # type: ignore[arg-type]
    packages = {**{name: value for name, value in lock.packages.items() if name != key}, package.key: package}
    groups = {
        name: tuple(sorted(package.key if each == key else each for each in keys)) for name, keys in lock.groups.items()
    }
    return encode_lock(replace(lock, packages=packages, groups=groups))


@pytest.mark.parametrize(
    ("key", "fields", "message"),
    [
        (MAIN, {"path": "pool/main/e/edk2/edk2_2025.02-8_amd64.deb"}, "no place for it"),
        (MAIN, {"path": "elsewhere/edk2_2025.02.orig.tar.xz"}, "not below pool/"),
        (MAIN, {"path": "../pool/edk2_2025.02.orig.tar.xz"}, "does not match"),
        (MAIN, {"path": "pool/../edk2_2025.02.orig.tar.xz"}, "does not match"),
        (MAIN, {"path": "pool/edk2_2025.02.orig.tar.xz.asc"}, "does not match"),
        (MAIN, {"path": "pool/edk2_2025.02-8.debian.tar.xz"}, "does not match"),
        (MAIN, {"path": "pool/edk2_2025.05.orig.tar.xz"}, "is not named edk2_2025.02.orig"),
        (MAIN, {"path": "pool/linux_2025.02.orig.tar.xz"}, "is not named edk2_2025.02.orig"),
        (MAIN, {"version": "2025.02-9"}, "its packages are not the source edk2=2025.02-8"),
        (MAIN, {"size": 0}, "less than the minimum"),
        (MAIN, {"size": 1 << 33}, "greater than the maximum"),
        (MAIN, {"sha256": "a" * 63}, "does not match"),
        (MAIN, {"suite": "bookworm"}, "which $.archives does not have"),
        (MAIN, {"architecture": "amd64"}, "no place for it"),
        (DEB, {"architecture": "source"}, "no place for it"),
        (DEB, {"path": "pool/gcc_1.0.orig.tar.xz"}, "no place for it"),
        (
            DEB,
            {"architecture": "source", "path": "pool/gcc_1.0.orig.tar.xz"},
            r"$.groups.roots.toolchain: holds a source among packages",
        ),
    ],
)
def test_tarball_that_is_none_is_refused(lock: Lock, key: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(DocumentError, match=r"^lock\.json: ") as caught:
        parse_lock(forged(lock, key, **fields), what="lock.json")

    assert message in caught.value.message


@pytest.mark.parametrize(
    ("keys", "requests", "message"),
    [
        ((BROTLI,), (SOURCE,), "has no main tarball"),
        ((), (SOURCE,), "are not the source edk2=2025.02-8"),
        ((MAIN,), (), "are not the source"),
        ((MAIN,), (SOURCE, "linux=6.18-1"), "are not the source"),
        ((MAIN,), ("edk2",), "is not NAME=VERSION"),
        ((MAIN, DEB), (SOURCE,), "are not the source edk2=2025.02-8"),
    ],
)
def test_group_of_a_source_holds_its_tarballs_and_nothing_else(
    lock: Lock, keys: tuple[str, ...], requests: tuple[str, ...], message: str
) -> None:
    changed = replace(lock, groups={**lock.groups, GROUP: keys}, requests={**lock.requests, GROUP: requests})
    with pytest.raises(DocumentError, match=r"lock\.json: \$\.groups\.sources\.firmware: ") as caught:
        parse_lock(encode_lock(changed), what="lock.json")

    assert message in caught.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document["files"]["kernel"].update(url="file:///etc/passwd"), "does not match"),
        (lambda document: document["files"]["kernel"].update(size=0), "less than the minimum"),
        (lambda document: document["files"]["kernel"].pop("sha256"), "missing field 'sha256'"),
        (lambda document: document["files"].clear(), "$.files"),
    ],
)
def test_prebuilt_file_that_is_not_pinned_is_refused(lock: Lock, change: Any, message: str) -> None:
    document = json.loads(encode_lock(lock))
    change(document)
    with pytest.raises(DocumentError) as caught:
        parse_lock(resealed(document), what="lock.json")

    assert message in caught.value.message


def test_edited_prebuilt_file_is_named_by_its_section(lock: Lock) -> None:
    document = json.loads(encode_lock(lock))
    document["files"]["kernel"]["sha256"] = "a" * 64
    with pytest.raises(DocumentError, match="section 'files' was edited"):
        parse_lock(encode_readable(document), what="lock.json")


@pytest.mark.parametrize("missing", ["digest", "section"])
def test_prebuilt_files_without_their_digest_are_refused(lock: Lock, missing: str) -> None:
    document = json.loads(encode_lock(lock))
    del (document["digests"] if missing == "digest" else document)["files"]
    with pytest.raises(DocumentError, match=r"section 'files' was edited|not in the form"):
        parse_lock(encode_readable(document), what="lock.json")


def test_tarball_that_changed_is_named(directory: Path, lock: Lock) -> None:
    resolver = source_resolver()
    version = "2025.02-8+deb13u1"
    resolver.tarballs[SOURCE] = (tarball("edk2", version, sha256="c" * 64), tarball("edk2", version, "openssl"))
    resolved = lock_source_recipe(directory, resolver).lock

    assert package_differences(lock, resolved) == [
        f"source edk2, component brotli: {version} is locked and no longer needed ({GROUP})",
        f"source edk2, component openssl: {version} is not locked ({GROUP})",
        f"source edk2: sha256 is {'c' * 64}, locked is {lock.packages[MAIN].sha256} ({GROUP})",
    ]
    assert not same_inputs(lock, resolved)


def test_recipe_of_another_source_version_or_prebuilt_file_is_stale(directory: Path, lock: Lock) -> None:
    recipe = parse_source_recipe(RECIPE.replace("-8+deb13u1", "-9").replace("vmlinuz-6.12", "vmlinuz-6.13"))
    differences = recipe_differences(lock, recipe, read_sources(directory, recipe))

    assert f"{GROUP} asks for 'edk2=2025.02-9', which is not locked" in differences
    assert f"{GROUP} no longer asks for '{SOURCE}'" in differences
    assert any(line.startswith(f"prebuilt kernel is kernel from {KERNEL_URL}") for line in differences)


def test_prebuilt_file_that_the_recipe_no_longer_fetches_is_stale(directory: Path, lock: Lock) -> None:
    recipe = parse_source_recipe(RECIPE.replace(PREBUILT_URL, PREBUILT_PATH))
    sources = read_sources(directory, recipe)

    assert "prebuilt kernel is locked and no longer needed" in recipe_differences(lock, recipe, sources)
    prebuilt = recipe_differences(replace(lock, files={}), parse_source_recipe(), lock.sources)
    assert "prebuilt kernel is not locked" in prebuilt


def test_own_prebuilt_file_has_to_be_what_the_recipe_says_whatever_the_lock_has(directory: Path, lock: Lock) -> None:
    (directory / "files/vmlinuz").write_bytes(b"another kernel")
    recipe = parse_source_recipe(RECIPE.replace(PREBUILT_URL, PREBUILT_PATH))
    sources = read_sources(directory, recipe)
    differences = recipe_differences(replace(lock, sources=sources), recipe, sources)

    wanted = f"has SHA-256 {sha256_hex(b'another kernel')}, components.kernel.prebuilt says {sha256_hex(KERNEL)}"
    assert f"file files/vmlinuz {wanted}" in differences
