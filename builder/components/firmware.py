"""Firmware: out of a package, compiled from source, or prebuilt. It is measured into MRTD (`determinism.md` 1.3)."""

from builder.components.steps import (
    ComponentPlan,
    own_files,
    prebuilt_input,
    program_step,
    requested_packages,
    source_files,
)
from builder.errors import DocumentError
from builder.model.components import FirmwarePackage, FirmwarePrebuilt, FirmwareSource
from builder.model.lock import Lock
from builder.model.plan import ArtifactSource, Step
from builder.model.recipe import Recipe
from builder.model.source_package import parse_source_request, upstream_version

STEP = "firmware"
OUTPUT = "OVMF.fd"


def plan_firmware(recipe: Recipe, lock: Lock) -> ComponentPlan:
    """One step that makes the firmware in the recipe's form. DocumentError if the lock lacks what it needs."""
    match recipe.firmware:
        case FirmwarePackage() as spec:
            step = _package_step(spec, lock)
        case FirmwareSource() as spec:
            step = _source_step(spec, lock, epoch=recipe.source_date_epoch)
        case FirmwarePrebuilt() as spec:
            step = _prebuilt_step(spec, lock)
    return ComponentPlan((step,), (ArtifactSource("firmware", step.name, OUTPUT),))


def _package_step(spec: FirmwarePackage, lock: Lock) -> Step:
    """Takes the file out of the packages the recipe names, byte by byte."""
    packages = requested_packages(lock, "components.firmware")
    parameters = {"packages": packages.described, "file": spec.file, "output": OUTPUT}
    return program_step(STEP, "package_file", parameters=parameters, inputs=packages.inputs, outputs=(OUTPUT,))


def _source_step(spec: FirmwareSource, lock: Lock, *, epoch: int) -> Step:
    """Compiles edk2 with the recipe's patches, in the root that has the compiler."""
    _check_release(spec)
    tarballs = source_files(lock, "sources.firmware")
    patches = own_files(lock, spec.files)
    parameters = {
        "sources": tarballs.described,
        "files": patches.described,
        "platform": spec.platform,
        "defines": [{"name": name, "value": value} for name, value in spec.defines],
        "source_date_epoch": epoch,
    }
    inputs = (*tarballs.inputs, *patches.inputs)
    return program_step(STEP, "edk2", parameters=parameters, inputs=inputs, outputs=(OUTPUT,), root=spec.root)


def _prebuilt_step(spec: FirmwarePrebuilt, lock: Lock) -> Step:
    """Takes the file as it is; both legs have it from the same pin, so comparing them says nothing about it."""
    item = prebuilt_input(lock, "firmware", spec.prebuilt, target=f"in/{OUTPUT}")
    return Step(STEP, ("cp", f"in/{OUTPUT}", f"out/{OUTPUT}"), inputs=(item,), outputs=(OUTPUT,))


def _check_release(spec: FirmwareSource) -> None:
    """The release decides which events are predicted (`measurement.md` 5.1), so it has to be that of the source."""
    _, version = parse_source_request(spec.source, what="components.firmware")
    upstream = upstream_version(version)
    if upstream.replace(".", "") != spec.edk2:
        raise DocumentError(
            f"components.firmware.edk2 is {spec.edk2}, but its source is edk2 {upstream}",
            hint="edk2 2025.02 is written 202502",
        )
