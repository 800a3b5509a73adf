"""Kernel: out of a package, compiled from source, or prebuilt. It is measured into RTMR[1] (`measurement.md` 6)."""

from builder.components.steps import (
    ComponentPlan,
    StepFiles,
    own_file,
    own_files,
    prebuilt_input,
    program_step,
    requested_packages,
    source_files,
)
from builder.model.components import KernelPackage, KernelPrebuilt, KernelSource
from builder.model.lock import Lock
from builder.model.plan import ArtifactSource, Step
from builder.model.recipe import Recipe

STEP = "kernel"
OUTPUT = "vmlinuz"
CONFIG = "kernel.config"

_COMPONENTS = {OUTPUT: "kernel", CONFIG: "kernel_config"}


def plan_kernel(recipe: Recipe, lock: Lock) -> ComponentPlan:
    """One step that makes the kernel in the recipe's form; one that is compiled is published with its configuration.

    DocumentError if the lock lacks what it needs.
    """
    step = _step(recipe, lock)
    return ComponentPlan((step,), tuple(ArtifactSource(_COMPONENTS[name], step.name, name) for name in step.outputs))


def _step(recipe: Recipe, lock: Lock) -> Step:
    match recipe.kernel:
        case KernelPackage() as spec:
            return _package_step(spec, lock)
        case KernelSource() as spec:
            return _source_step(spec, lock, epoch=recipe.source_date_epoch)
        case KernelPrebuilt() as spec:
            return _prebuilt_step(spec, lock)


def _package_step(spec: KernelPackage, lock: Lock) -> Step:
    """Takes the file out of the packages the recipe names, byte by byte."""
    packages = requested_packages(lock, "components.kernel")
    parameters = {"packages": packages.described, "file": spec.file, "output": OUTPUT}
    return program_step(STEP, "package_file", parameters=parameters, inputs=packages.inputs, outputs=(OUTPUT,))


def _source_step(spec: KernelSource, lock: Lock, *, epoch: int) -> Step:
    """Compiles Linux with the recipe's fragments and patches, in the root that has the compiler."""
    tarballs = source_files(lock, "sources.kernel")
    fragments = [own_file(lock, path) for path in spec.config]
    required = own_file(lock, spec.required)
    patches = own_files(lock, spec.patches) if spec.patches is not None else StepFiles((), [])
    parameters = {
        "sources": tarballs.described,
        "config": [{"path": each.path, "input": each.target} for each in fragments],
        "required": required.target,
        "patches": patches.described,
        "source_date_epoch": epoch,
    }
    inputs = (*tarballs.inputs, *fragments, required, *patches.inputs)
    outputs = (OUTPUT, CONFIG)
    return program_step(STEP, "linux_kernel", parameters=parameters, inputs=inputs, outputs=outputs, root=spec.root)


def _prebuilt_step(spec: KernelPrebuilt, lock: Lock) -> Step:
    """Takes the file as it is; both legs have it from the same pin, so comparing them says nothing about it."""
    item = prebuilt_input(lock, "kernel", spec.prebuilt, target=f"in/{OUTPUT}")
    return Step(STEP, ("cp", f"in/{OUTPUT}", f"out/{OUTPUT}"), inputs=(item,), outputs=(OUTPUT,))
