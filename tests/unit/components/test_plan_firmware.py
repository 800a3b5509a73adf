"""The firmware in its three forms: what its step gets, and that it is the release whose events are predicted."""

import json
from dataclasses import replace
from typing import Any

import pytest

from builder.components.firmware import plan_firmware
from builder.components.steps import ComponentPlan
from builder.errors import DocumentError
from builder.model.lock import Lock, LockedFile, LockedPackage
from builder.model.plan import PackageInput, SourceInput, Step, TextInput
from builder.model.recipe import Recipe
from tests.fakes.recipes import GROUPS, RECIPE, SOURCES, sample_lock, sample_recipe

PACKAGE = b"{packages: [ovmf], file: usr/share/ovmf/OVMF.fd, edk2: 202211}"
SOURCE = (
    b"{source: edk2=2025.02-8+deb13u1, root: toolchain, files: files/firmware, platform: OvmfPkg/OvmfPkgX64.dsc,"
    b" defines: {TPM2_ENABLE: TRUE, FD_SIZE_4MB: TRUE}, edk2: 202502}"
)
PATCHES = ("files/firmware/0002-b.patch", "files/firmware/0001-a.patch")
PREBUILT_PATH = b"{prebuilt: {path: files/OVMF.fd, sha256: %s}, edk2: 202502}"
PREBUILT_URL = b"{prebuilt: {url: https://example.invalid/OVMF.fd, size: 9, sha256: %s}, edk2: 202502}"
TARBALL = LockedPackage(
    "edk2", "2025.02-8+deb13u1", "source", "debian", "trixie", "pool/e/edk2_2025.02.orig.tar.xz", 9, "d" * 64, ""
)


def recipe_with(firmware: bytes) -> Recipe:
    text = RECIPE.replace(PACKAGE, firmware)
    assert text != RECIPE or firmware == PACKAGE
    if b"toolchain" in firmware:
        text = text.replace(b"  tools:", b"  toolchain: [gcc]\n  tools:")
    return sample_recipe(text.replace(b"components: [main]", b"components: [main], source_suites: [trixie]"))


def lock_for(recipe: Recipe, *files: str) -> Lock:
    lock = sample_lock(GROUPS, (*SOURCES, *files), recipe)
    packages = {**lock.packages, TARBALL.key: TARBALL}
    return replace(lock, packages=packages, groups={**lock.groups, "sources.firmware": (TARBALL.key,)})


def plan_from_source(*files: str, firmware: bytes = SOURCE) -> ComponentPlan:
    recipe = recipe_with(firmware)
    return plan_firmware(recipe, lock_for(recipe, *files))


def parameters_of(step: Step) -> dict[str, Any]:
    (text,) = [item.text for item in step.inputs if isinstance(item, TextInput)]
    parameters: dict[str, Any] = json.loads(text)
    return parameters


def published(plan: ComponentPlan) -> list[tuple[str, str]]:
    return [(artifact.component, artifact.output) for artifact in plan.artifacts]


def test_firmware_from_source_is_compiled_in_the_root_that_the_recipe_names() -> None:
    plan = plan_from_source(*PATCHES)
    assert published(plan) == [("firmware", "OVMF.fd")]
    (step,) = plan.steps
    assert (step.root, step.argv) == ("toolchain", ("python3", "inside/edk2.py", "in/parameters.json"))


def test_firmware_from_source_gets_the_tarball_and_the_patches_and_nothing_else() -> None:
    (step,) = plan_from_source(*PATCHES).steps
    assert {item.path for item in step.inputs if isinstance(item, SourceInput)} == set(PATCHES)
    assert [item for item in step.inputs if isinstance(item, PackageInput)] == [
        PackageInput("d" * 64, 9, "in/sources/edk2_2025.02.orig.tar.xz")
    ]


def test_firmware_from_source_is_told_what_the_recipe_says() -> None:
    (step,) = plan_from_source(*PATCHES).steps
    parameters = parameters_of(step)
    assert parameters["platform"] == "OvmfPkg/OvmfPkgX64.dsc"
    assert {each["name"]: each["value"] for each in parameters["defines"]} == {
        "FD_SIZE_4MB": "TRUE",
        "TPM2_ENABLE": "TRUE",
    }
    assert parameters["source_date_epoch"] == 1767225600
    named = [each["input"] for name in ("sources", "files") for each in parameters[name]]
    assert sorted(named) == sorted(item.target for item in step.inputs if not isinstance(item, TextInput))


def test_the_order_of_defines_does_not_matter() -> None:
    turned = SOURCE.replace(b"TPM2_ENABLE: TRUE, FD_SIZE_4MB: TRUE", b"FD_SIZE_4MB: TRUE, TPM2_ENABLE: TRUE")
    assert turned != SOURCE
    assert plan_from_source(*PATCHES, firmware=turned) == plan_from_source(*PATCHES)


@pytest.mark.parametrize("release", [b"202411", b"202505", b"202511"])
def test_another_release_than_that_of_the_source_is_refused(release: bytes) -> None:
    firmware = SOURCE.replace(b"202502", release)
    wanted = f"edk2 is {release.decode()}, but its source is edk2 2025.02"
    with pytest.raises(DocumentError, match=wanted):
        plan_from_source(*PATCHES, firmware=firmware)


def test_firmware_whose_files_are_not_locked_is_refused() -> None:
    with pytest.raises(DocumentError, match="no file of the recipe lies in files/firmware"):
        plan_from_source()


def test_firmware_out_of_a_package_is_taken_in_the_root_of_tools() -> None:
    plan = plan_firmware(sample_recipe(), sample_lock())
    assert published(plan) == [("firmware", "OVMF.fd")]
    (step,) = plan.steps
    assert (step.root, step.argv[1]) == ("tools", "inside/package_file.py")
    assert parameters_of(step)["file"] == "usr/share/ovmf/OVMF.fd"


def prebuilt_plan(form: bytes, *, sha256: str, locked: str) -> ComponentPlan:
    recipe = recipe_with(form % sha256.encode())
    lock = lock_for(recipe, "files/OVMF.fd")
    source = replace(lock.sources["files/OVMF.fd"], sha256=locked)
    file = LockedFile("firmware", "https://example.invalid/OVMF.fd", 9, locked)
    return plan_firmware(
        recipe, replace(lock, sources={**lock.sources, "files/OVMF.fd": source}, files={"firmware": file})
    )


@pytest.mark.parametrize("form", [PREBUILT_PATH, PREBUILT_URL])
def test_prebuilt_firmware_is_the_pinned_file(form: bytes) -> None:
    plan = prebuilt_plan(form, sha256="e" * 64, locked="e" * 64)
    assert published(plan) == [("firmware", "OVMF.fd")]
    (step,) = plan.steps
    (item,) = step.inputs
    assert isinstance(item, SourceInput | PackageInput)
    assert (item.sha256, item.target) == ("e" * 64, "in/OVMF.fd")
    assert step.argv == ("cp", "in/OVMF.fd", "out/OVMF.fd")


@pytest.mark.parametrize("form", [PREBUILT_PATH, PREBUILT_URL])
def test_prebuilt_firmware_with_other_bytes_than_the_recipe_says_is_refused(form: bytes) -> None:
    with pytest.raises(DocumentError, match=f"has SHA-256 {'f' * 64} for the prebuilt firmware"):
        prebuilt_plan(form, sha256="e" * 64, locked="f" * 64)
