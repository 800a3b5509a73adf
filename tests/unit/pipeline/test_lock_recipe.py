"""Locking a recipe, and saying why a lock does not hold any more."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.backends.atomic_file import write_atomically
from builder.errors import DocumentError, FetchError
from builder.model.digest import sha256_hex
from builder.model.lock import Lock, parse_lock
from builder.model.lock_differences import check_fresh
from builder.model.recipe import Recipe, parse_recipe
from builder.pipeline.lock import LockOutcome, check_lock, lock_recipe, read_sources
from tests.fakes.fixed_resolver import DATES, FixedResolver, package
from tests.fakes.recipe_directory import PACKAGES, make_recipe_directory


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_recipe_directory(tmp_path / "recipe")


@pytest.fixture
def resolver() -> FixedResolver:
    archive = {name: package(name) for name in (*PACKAGES, "zlib1g")}
    return FixedResolver(archive, depends={"kmod": ("zlib1g",), "squashfs-tools": ("zlib1g",), "ovmf": ()})


def recipe_of(directory: Path) -> Recipe:
    return parse_recipe((directory / "recipe.yaml").read_bytes(), what="recipe.yaml")


def lock(directory: Path, resolver: FixedResolver) -> LockOutcome:
    return lock_recipe(directory, recipe_of(directory), resolver=resolver, write=write_atomically)


def check(directory: Path, resolver: FixedResolver) -> Lock:
    return check_lock(directory, recipe_of(directory), resolver=resolver)


def lock_bytes(directory: Path) -> bytes:
    return (directory / "lock.json").read_bytes()


def test_lock_pins_every_package_with_its_place_in_the_snapshot_archive(
    directory: Path, resolver: FixedResolver
) -> None:
    resolver.archive["ovmf"] = package("ovmf", "2022.11-6", suite="bookworm-backports")
    outcome = lock(directory, resolver)

    (ovmf,) = outcome.lock.group("components.firmware")
    assert (ovmf.name, ovmf.version, ovmf.architecture) == ("ovmf", "2022.11-6", "amd64")
    assert (ovmf.archive, ovmf.suite, ovmf.snapshot) == ("debian", "bookworm-backports", "20250521T020202Z")
    assert ovmf.path == "pool/main/o/ovmf/ovmf_2022.11-6_amd64.deb"
    assert (ovmf.size, ovmf.sha256) == (14, sha256_hex(b"ovmf 2022.11-6"))
    assert outcome.lock.archives == {"debian": DATES}


def test_lock_pins_the_recipe_its_time_and_its_files(directory: Path, resolver: FixedResolver) -> None:
    locked = lock(directory, resolver).lock

    assert (locked.image, locked.version, locked.source_date_epoch) == ("sample", "1.2.3", 1700000000)
    assert locked.recipe_sha256 == sha256_hex((directory / "recipe.yaml").read_bytes())
    assert {path: (source.executable, source.size) for path, source in locked.sources.items()} == {
        "files/app/config": (False, 12),
        "files/initrd/init": (True, 10),
    }
    assert locked.sources["files/initrd/init"].sha256 == sha256_hex(b"#!/bin/sh\n")


def test_package_of_two_groups_is_pinned_once(directory: Path, resolver: FixedResolver) -> None:
    resolver.depends = {"kmod": ("zlib1g",), "busybox-static": ("zlib1g",)}
    locked = lock(directory, resolver).lock

    assert "zlib1g=1.0:amd64" in locked.groups["roots.tools"]
    assert "zlib1g=1.0:amd64" in locked.groups["components.initrd"]
    assert [key for key in locked.packages if key.startswith("zlib1g")] == ["zlib1g=1.0:amd64"]


def test_group_that_asks_for_nothing_is_empty(directory: Path, resolver: FixedResolver) -> None:
    assert lock(directory, resolver).lock.groups["components.app_image"] == ()


def test_file_is_what_was_returned(directory: Path, resolver: FixedResolver) -> None:
    outcome = lock(directory, resolver)

    assert outcome.written
    assert parse_lock(lock_bytes(directory), what="lock.json") == outcome.lock


def test_same_recipe_and_archive_give_the_same_bytes(tmp_path: Path, resolver: FixedResolver) -> None:
    one = make_recipe_directory(tmp_path / "one")
    two = make_recipe_directory(tmp_path / "elsewhere" / "two")
    lock(one, resolver)
    resolver.archive = dict(reversed(resolver.archive.items()))
    lock(two, resolver)

    assert lock_bytes(one) == lock_bytes(two)


def test_lock_is_kept_when_only_the_suites_were_signed_again(directory: Path, resolver: FixedResolver) -> None:
    lock(directory, resolver)
    before = lock_bytes(directory)
    resolver.dates = dict.fromkeys(DATES, "20260101T000000Z")
    outcome = lock(directory, resolver)

    assert not outcome.written
    assert outcome.changes == ()
    assert outcome.lock.archives == {"debian": DATES}
    assert lock_bytes(directory) == before


def test_lock_is_kept_when_a_package_moved_to_another_suite(directory: Path, resolver: FixedResolver) -> None:
    lock(directory, resolver)
    before = lock_bytes(directory)
    resolver.archive["kmod"] = replace(resolver.archive["kmod"], suite="bookworm-backports")
    lock(directory, resolver)

    assert lock_bytes(directory) == before


def test_new_version_is_locked_and_named(directory: Path, resolver: FixedResolver) -> None:
    lock(directory, resolver)
    resolver.archive["zlib1g"] = package("zlib1g", "1.1")
    outcome = lock(directory, resolver)

    assert outcome.written
    assert outcome.changes == ("package zlib1g: version is 1.1, locked is 1.0 (roots.tools)",)
    assert "zlib1g=1.1:amd64" in outcome.lock.packages


def test_changed_comment_of_a_recipe_changes_the_lock(directory: Path, resolver: FixedResolver) -> None:
    lock(directory, resolver)
    before = lock_bytes(directory)
    with (directory / "recipe.yaml").open("a") as file:
        file.write("# a remark\n")
    outcome = lock(directory, resolver)

    assert outcome.written
    assert len(outcome.changes) == 1
    assert "it locks a recipe with SHA-256" in outcome.changes[0]
    assert lock_bytes(directory) != before


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"schema": "tdx-builder/lock/v9"}'])
def test_lock_that_cannot_be_read_is_replaced(directory: Path, resolver: FixedResolver, content: bytes) -> None:
    (directory / "lock.json").write_bytes(content)

    assert lock(directory, resolver).written
    check(directory, resolver)


def test_failed_resolution_leaves_the_lock_of_before(directory: Path, resolver: FixedResolver) -> None:
    lock(directory, resolver)
    before = lock_bytes(directory)
    del resolver.archive["ovmf"]
    with pytest.raises(DocumentError, match="no package 'ovmf'"):
        lock(directory, resolver)

    assert lock_bytes(directory) == before


def test_package_whose_pin_does_not_fit_the_format_is_never_written(directory: Path, resolver: FixedResolver) -> None:
    resolver.archive["ovmf"] = replace(resolver.archive["ovmf"], path="../../../etc/passwd.deb")
    with pytest.raises(DocumentError, match=r"\.path: .*does not match"):
        lock(directory, resolver)

    assert not (directory / "lock.json").exists()


def test_lock_that_holds_is_confirmed(directory: Path, resolver: FixedResolver) -> None:
    locked = lock(directory, resolver).lock
    resolver.dates = dict.fromkeys(DATES, "20260101T000000Z")

    assert check(directory, resolver) == locked


def test_check_changes_nothing(directory: Path, resolver: FixedResolver) -> None:
    lock(directory, resolver)
    before = lock_bytes(directory)
    resolver.archive["kmod"] = package("kmod", "2.0")
    with pytest.raises(DocumentError):
        check(directory, resolver)

    assert lock_bytes(directory) == before


def test_check_names_every_package_that_differs(directory: Path, resolver: FixedResolver) -> None:
    lock(directory, resolver)
    resolver.archive["kmod"] = package("kmod", "2.0")
    resolver.archive["ovmf"] = package("ovmf", sha256=sha256_hex(b"rebuilt"))
    resolver.archive["libc6"] = package("libc6", size=99)
    resolver.archive["new"] = package("new")
    resolver.depends = {"kmod": ("new",), "busybox-static": ("new",)}
    with pytest.raises(DocumentError) as caught:
        check(directory, resolver)

    lines = caught.value.message.splitlines()
    assert lines[0].endswith("lock.json is stale:")
    assert [line.strip() for line in lines[1:]] == [
        "package kmod: version is 2.0, locked is 1.0 (roots.tools)",
        f"package libc6: size is 99, locked is {len('libc6 1.0')} (components.guest_os)",
        "package new: 1.0 is not locked (components.initrd, roots.tools)",
        f"package ovmf: sha256 is {sha256_hex(b'rebuilt')}, locked is {sha256_hex(b'ovmf 1.0')} (components.firmware)",
        "package zlib1g: 1.0 is locked and no longer needed (roots.tools)",
    ]
    assert "tdx-builder lock" in str(caught.value.hint)


@pytest.mark.parametrize("field", ["architecture", "archive", "path"])
def test_check_sees_every_field_of_a_pin(directory: Path, resolver: FixedResolver, field: str) -> None:
    lock(directory, resolver)
    other = {"architecture": "all", "archive": "other", "path": "pool/main/o/other.deb"}[field]
    resolver.archive["ovmf"] = package("ovmf", **{field: other})
    with pytest.raises(DocumentError, match=f"package ovmf: {field} is {other}, locked is|no longer needed"):
        check(directory, resolver)


def test_check_without_a_lock_is_an_error(directory: Path, resolver: FixedResolver) -> None:
    with pytest.raises(DocumentError, match="lock.json: cannot be read"):
        check(directory, resolver)


def test_check_passes_on_that_the_archive_cannot_be_reached(directory: Path, resolver: FixedResolver) -> None:
    class Unreachable(FixedResolver):
        def resolve(self, groups: object) -> None:  # type: ignore[override]
            raise FetchError(f"no network for {groups}")

    lock(directory, resolver)
    with pytest.raises(FetchError):
        check(directory, Unreachable({}))


def stale_message(directory: Path) -> str:
    locked = parse_lock(lock_bytes(directory), what="lock.json")
    recipe = recipe_of(directory)
    with pytest.raises(DocumentError) as caught:
        check_fresh(locked, recipe, read_sources(directory, recipe), what="lock.json")
    return caught.value.message


def test_fresh_lock_is_accepted(directory: Path, resolver: FixedResolver) -> None:
    locked = lock(directory, resolver).lock

    check_fresh(locked, recipe_of(directory), read_sources(directory, recipe_of(directory)), what="lock.json")


def test_lock_with_another_size_of_a_file_is_refused(directory: Path, resolver: FixedResolver) -> None:
    locked = lock(directory, resolver).lock
    sources = read_sources(directory, recipe_of(directory))
    edited = {path: replace(source, size=2**53 - 1) for path, source in locked.sources.items()}

    with pytest.raises(DocumentError, match="bytes, locked are 9007199254740991"):
        check_fresh(replace(locked, sources=edited), recipe_of(directory), sources, what="lock.json")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image": "other"}, "image is other, the recipe says sample"),
        ({"version": "9.9.9"}, "version is 9.9.9, the recipe says 1.2.3"),
        ({"archives": {"debian": {**DATES, "sid": "20250520T143011Z"}}}, "suite sid of debian is locked, and not in"),
        ({"archives": {"debian": {"bookworm": DATES["bookworm"]}}}, "suite bookworm-backports of debian is not locked"),
        ({"archives": {"other": DATES}}, "suite bookworm of other is locked, and not in the recipe"),
    ],
)
def test_a_lock_that_says_something_else_than_its_recipe_is_refused(
    directory: Path, resolver: FixedResolver, changed: dict[str, Any], message: str
) -> None:
    """Each with fitting digests, and the recipe's own: who can edit a lock can seal it again."""
    locked = lock(directory, resolver).lock
    recipe = recipe_of(directory)
    with pytest.raises(DocumentError, match=message):
        check_fresh(replace(locked, **changed), recipe, read_sources(directory, recipe), what="lock.json")


def test_stale_lock_is_refused_naming_the_file_that_changed(directory: Path, resolver: FixedResolver) -> None:
    lock(directory, resolver)
    (directory / "files" / "app" / "config").write_bytes(b"answer = 43")

    assert f"file files/app/config has SHA-256 {sha256_hex(b'answer = 43')}, locked is" in stale_message(directory)


def test_stale_lock_is_refused_naming_the_file_that_is_new_or_gone(directory: Path, resolver: FixedResolver) -> None:
    lock(directory, resolver)
    (directory / "files" / "app" / "config").rename(directory / "files" / "app" / "settings")

    message = stale_message(directory)
    assert "file files/app/settings is not locked" in message
    assert "file files/app/config is missing" in message


def test_stale_lock_is_refused_naming_the_file_that_became_executable(directory: Path, resolver: FixedResolver) -> None:
    lock(directory, resolver)
    (directory / "files" / "app" / "config").chmod(0o744)

    assert "file files/app/config is executable, locked is the opposite" in stale_message(directory)


def test_stale_lock_is_refused_naming_the_packages_asked_for(directory: Path, resolver: FixedResolver) -> None:
    lock(directory, resolver)
    recipe = directory / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("squashfs-tools, kmod", "squashfs-tools, zstd"))

    message = stale_message(directory)
    assert "roots.tools asks for 'zstd', which is not locked" in message
    assert "roots.tools no longer asks for 'kmod'" in message
    assert "it locks a recipe with SHA-256" in message


def test_stale_lock_is_refused_naming_the_epoch(directory: Path, resolver: FixedResolver) -> None:
    lock(directory, resolver)
    recipe = directory / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("1700000000", "1800000000"))

    assert "source_date_epoch is 1700000000, the recipe says 1800000000" in stale_message(directory)


def test_group_and_other_bits_of_a_mode_do_not_count(directory: Path, resolver: FixedResolver) -> None:
    lock(directory, resolver)
    (directory / "files" / "app" / "config").chmod(0o677)
    (directory / "files" / "initrd" / "init").chmod(0o700)

    assert not lock(directory, resolver).written


def test_empty_directories_are_no_inputs(directory: Path, resolver: FixedResolver) -> None:
    lock(directory, resolver)
    (directory / "files" / "app" / "empty" / "deep").mkdir(parents=True)

    assert not lock(directory, resolver).written


def test_link_cannot_be_locked(directory: Path) -> None:
    (directory / "files" / "app" / "link").symlink_to("/etc/passwd")
    with pytest.raises(DocumentError, match="files/app/link: neither a regular file nor a directory"):
        read_sources(directory, recipe_of(directory))


def test_link_to_a_directory_is_not_followed(directory: Path) -> None:
    (directory / "files" / "app" / "link").symlink_to("/etc")
    with pytest.raises(DocumentError, match="files/app/link"):
        read_sources(directory, recipe_of(directory))


def test_file_tree_reached_over_a_link_is_refused(directory: Path) -> None:
    (directory / "files").rename(directory / "real")
    (directory / "files").symlink_to("real")
    with pytest.raises(DocumentError, match="files: wanted a directory"):
        read_sources(directory, recipe_of(directory))


def test_pipe_cannot_be_locked(directory: Path) -> None:
    os.mkfifo(directory / "files" / "app" / "pipe")
    with pytest.raises(DocumentError, match="files/app/pipe"):
        read_sources(directory, recipe_of(directory))


def test_file_tree_that_is_not_there_is_named(directory: Path) -> None:
    (directory / "files" / "guest_os").rmdir()
    with pytest.raises(DocumentError, match="files/guest_os: cannot be read: No such file"):
        read_sources(directory, recipe_of(directory))


@pytest.mark.parametrize("name", ["with space", "umläut", "backup~", "a..b", "semi;colon", "new\nline"])
def test_name_that_a_lock_cannot_hold_is_refused(directory: Path, name: str) -> None:
    (directory / "files" / "app" / name).write_text("")
    with pytest.raises(DocumentError, match="its name cannot be locked"):
        read_sources(directory, recipe_of(directory))


def test_hidden_files_are_inputs_too(directory: Path) -> None:
    (directory / "files" / "app" / ".profile").write_text("")

    assert "files/app/.profile" in read_sources(directory, recipe_of(directory))
