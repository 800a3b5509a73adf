"""Inputs of a step that are no packages: orig tarballs, prebuilt files, files that lie over each other."""

from dataclasses import replace
from pathlib import Path

import pytest

from builder.components.steps import (
    layered_files,
    own_file,
    own_files,
    prebuilt_input,
    program_step,
    source_files,
)
from builder.errors import DocumentError
from builder.model.components import Prebuilt
from builder.model.digest import sha256_hex
from builder.model.lock import Lock, LockedSource
from builder.model.plan import PackageInput, SourceInput
from tests.fakes.source_recipe import KERNEL, KERNEL_URL, lock_source_recipe, make_source_recipe

DIGEST = sha256_hex(KERNEL)


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    return lock_source_recipe(make_source_recipe(tmp_path)).lock


def test_tarballs_of_a_source_are_inputs_with_the_main_one_first(lock: Lock) -> None:
    files = source_files(lock, "sources.firmware")

    assert files.described == [
        {"component": "", "input": "in/sources/edk2_2025.02.orig.tar.xz"},
        {"component": "brotli", "input": "in/sources/edk2_2025.02.orig-brotli.tar.xz"},
    ]
    main, brotli = lock.group("sources.firmware")
    assert files.inputs == (
        PackageInput(main.sha256, main.size, "in/sources/edk2_2025.02.orig.tar.xz"),
        PackageInput(brotli.sha256, brotli.size, "in/sources/edk2_2025.02.orig-brotli.tar.xz"),
    )


def test_prebuilt_file_from_an_address_is_an_input_by_its_digest(lock: Lock) -> None:
    prebuilt = Prebuilt(DIGEST, url=KERNEL_URL, size=len(KERNEL))

    assert prebuilt_input(lock, "kernel", prebuilt, target="in/vmlinuz") == PackageInput(
        DIGEST, len(KERNEL), "in/vmlinuz"
    )


def test_prebuilt_file_of_the_recipe_is_an_input_by_its_digest(lock: Lock) -> None:
    source = LockedSource("files/vmlinuz", executable=True, size=len(KERNEL), sha256=DIGEST)
    own = replace(lock, sources={**lock.sources, source.path: source})
    prebuilt = Prebuilt(DIGEST, path="files/vmlinuz")

    assert prebuilt_input(own, "kernel", prebuilt, target="in/vmlinuz") == SourceInput(
        "files/vmlinuz", DIGEST, False, "in/vmlinuz"
    )


@pytest.mark.parametrize(
    ("name", "prebuilt"),
    [
        ("kernel", Prebuilt("a" * 64, url=KERNEL_URL, size=1)),
        ("firmware", Prebuilt(DIGEST, url=KERNEL_URL, size=1)),
        ("kernel", Prebuilt(DIGEST, path="files/missing")),
        ("kernel", Prebuilt(DIGEST, path="files/compose.yaml")),
    ],
)
def test_prebuilt_file_that_the_lock_does_not_pin_is_no_input(lock: Lock, name: str, prebuilt: Prebuilt) -> None:
    with pytest.raises(DocumentError, match=rf"for the prebuilt {name}, the recipe says {prebuilt.sha256}"):
        prebuilt_input(lock, name, prebuilt, target="in/vmlinuz")


def test_file_that_the_recipe_names_is_an_input(lock: Lock) -> None:
    file = own_file(lock, "files/compose.yaml")

    assert (file.path, file.target, file.executable) == ("files/compose.yaml", "in/own/files/compose.yaml", False)
    assert file.sha256 == lock.sources["files/compose.yaml"].sha256
    with pytest.raises(DocumentError, match="no file files/other"):
        own_file(lock, "files/other")


def test_file_of_a_later_tree_takes_the_place_of_an_earlier_one(lock: Lock) -> None:
    files = layered_files(lock, ("files/guest_os", "files/dev"))

    assert [item["path"] for item in files.described] == ["etc/issue"]
    (item,) = files.inputs
    assert isinstance(item, SourceInput)
    assert (item.path, item.target) == ("files/dev/etc/issue", "in/files/etc/issue")
    assert layered_files(lock, ("files/guest_os",)) == own_files(lock, "files/guest_os")


def test_file_where_another_tree_has_a_directory_is_refused(lock: Lock) -> None:
    for path in ("files/dev/etc", "files/dev/etc/issue/x"):
        blocked = replace(lock, sources={**lock.sources, path: LockedSource(path, False, 1, "a" * 64)})
        with pytest.raises(DocumentError, match="is a file, and .* needs a directory there"):
            layered_files(blocked, ("files/guest_os", "files/dev"))


def test_tree_without_files_is_an_error_and_no_tree_is_none(lock: Lock) -> None:
    with pytest.raises(DocumentError, match="no file of the recipe lies in files/gone"):
        layered_files(lock, ("files/guest_os", "files/gone"))
    assert layered_files(lock, ()).inputs == ()


def test_step_runs_in_the_root_that_is_named() -> None:
    step = program_step("kernel", "kernel", parameters={}, inputs=(), outputs=("vmlinuz",), root="toolchain")
    assert step.root == "toolchain"
