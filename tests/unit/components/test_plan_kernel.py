"""The kernel in its three forms: what its step gets, and what of it is published."""

import json
from dataclasses import replace
from typing import Any

import pytest

from builder.components.kernel import plan_kernel
from builder.components.steps import ComponentPlan
from builder.errors import DocumentError
from builder.model.lock import Lock, LockedFile, LockedPackage
from builder.model.plan import PackageInput, SourceInput, Step, TextInput
from builder.model.recipe import Recipe
from tests.fakes.recipes import GROUPS, RECIPE, SOURCES, sample_lock, sample_recipe

PACKAGE = b"{packages: [linux-image=6.12.95-1], file: boot/vmlinuz}"
FRAGMENTS = ("files/kernel/b.config", "files/kernel/a.config")
PATCHES = ("files/kernel/patches/0002.patch", "files/kernel/patches/0001.patch")
REQUIRED = "files/kernel/required.config"
SOURCE = (
    b"{source: linux=6.18.15-1, root: toolchain, config: [files/kernel/b.config, files/kernel/a.config],"
    b" required: files/kernel/required.config, patches: files/kernel/patches}"
)
TARBALL = LockedPackage(
    "linux", "6.18.15-1", "source", "debian", "bookworm", "pool/l/linux_6.18.15.orig.tar.xz", 9, "d" * 64, ""
)


def recipe_with(kernel: bytes) -> Recipe:
    text = RECIPE.replace(PACKAGE, kernel)
    if b"toolchain" in kernel:
        text = text.replace(b"  tools:", b"  toolchain: [gcc]\n  tools:")
    text = text.replace(b"components: [main]", b"components: [main], source_suites: [trixie]")
    return sample_recipe(text)


def lock_for(recipe: Recipe, *files: str) -> Lock:
    lock = sample_lock(GROUPS, (*SOURCES, *files), recipe)
    return replace(
        lock,
        packages={**lock.packages, TARBALL.key: TARBALL},
        groups={**lock.groups, "sources.kernel": (TARBALL.key,)},
    )


def plan_from_source(*files: str, kernel: bytes = SOURCE) -> ComponentPlan:
    recipe = recipe_with(kernel)
    return plan_kernel(recipe, lock_for(recipe, *files))


def parameters_of(step: Step) -> dict[str, Any]:
    (text,) = [item.text for item in step.inputs if isinstance(item, TextInput)]
    parameters: dict[str, Any] = json.loads(text)
    return parameters


def published(plan: ComponentPlan) -> list[tuple[str, str]]:
    return [(artifact.component, artifact.output) for artifact in plan.artifacts]


def test_a_kernel_from_source_is_published_with_its_configuration() -> None:
    plan = plan_from_source(*FRAGMENTS, *PATCHES, REQUIRED)
    assert published(plan) == [("kernel", "vmlinuz"), ("kernel_config", "kernel.config")]
    (step,) = plan.steps
    assert step.root == "toolchain"
    assert step.argv == ("python3", "inside/linux_kernel.py", "in/parameters.json")


def test_a_kernel_from_source_gets_the_tarball_and_its_own_files_and_nothing_else() -> None:
    (step,) = plan_from_source(*FRAGMENTS, *PATCHES, REQUIRED).steps
    assert {item.path for item in step.inputs if isinstance(item, SourceInput)} == {*FRAGMENTS, *PATCHES, REQUIRED}
    assert [item for item in step.inputs if isinstance(item, PackageInput)] == [
        PackageInput("d" * 64, 9, "in/sources/linux_6.18.15.orig.tar.xz")
    ]


def test_a_kernel_from_source_is_told_where_its_inputs_are() -> None:
    (step,) = plan_from_source(*FRAGMENTS, *PATCHES, REQUIRED).steps
    parameters = parameters_of(step)
    assert [fragment["path"] for fragment in parameters["config"]] == list(FRAGMENTS)
    assert [patch["path"] for patch in parameters["patches"]] == ["0001.patch", "0002.patch"]
    assert parameters["source_date_epoch"] == 1767225600
    named = [parameters["required"]]
    named += [each["input"] for name in ("sources", "config", "patches") for each in parameters[name]]
    assert sorted(named) == sorted(item.target for item in step.inputs if not isinstance(item, TextInput))


def test_a_kernel_from_source_needs_no_patches() -> None:
    kernel = SOURCE.replace(b", patches: files/kernel/patches", b"")
    (step,) = plan_from_source(*FRAGMENTS, *PATCHES, REQUIRED, kernel=kernel).steps
    assert parameters_of(step)["patches"] == []
    assert not [item for item in step.inputs if isinstance(item, SourceInput) and item.path in PATCHES]


@pytest.mark.parametrize("missing", [*FRAGMENTS, REQUIRED, "files/kernel/patches"])
def test_a_kernel_without_a_file_that_it_names_is_refused(missing: str) -> None:
    files = [path for path in (*FRAGMENTS, *PATCHES, REQUIRED) if not path.startswith(missing)]
    with pytest.raises(DocumentError, match=missing):
        plan_from_source(*files)


def test_a_kernel_out_of_a_package_has_no_configuration_to_publish() -> None:
    plan = plan_kernel(sample_recipe(), sample_lock())
    assert published(plan) == [("kernel", "vmlinuz")]
    (step,) = plan.steps
    assert step.root == "tools"
    assert parameters_of(step)["file"] == "boot/vmlinuz"


def test_a_prebuilt_kernel_is_the_pinned_file_and_nothing_else() -> None:
    recipe = recipe_with(b"{prebuilt: {url: 'https://example.invalid/vmlinuz', sha256: %s, size: 7}}" % (b"e" * 64))
    locked = LockedFile("kernel", "https://example.invalid/vmlinuz", 7, "e" * 64)
    plan = plan_kernel(recipe, replace(lock_for(recipe), files={"kernel": locked}))
    assert published(plan) == [("kernel", "vmlinuz")]
    (step,) = plan.steps
    assert step.inputs == (PackageInput("e" * 64, 7, "in/vmlinuz"),)


def test_a_prebuilt_kernel_that_the_lock_pins_otherwise_is_refused() -> None:
    recipe = recipe_with(b"{prebuilt: {path: files/vmlinuz, sha256: %s}}" % (b"e" * 64))
    with pytest.raises(DocumentError, match="for the prebuilt kernel, the recipe says eeee"):
        plan_kernel(recipe, lock_for(recipe, "files/vmlinuz"))
    with pytest.raises(DocumentError, match="has nothing for the prebuilt kernel"):
        plan_kernel(recipe, lock_for(recipe))
