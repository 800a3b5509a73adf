"""Initrd: programs, modules of the component `kernel`, and the recipe's files. Measured into RTMR[2]."""

from builder.components.steps import (
    ComponentPlan,
    StepFiles,
    group_packages,
    own_files,
    program_step,
    requested_packages,
)
from builder.model.components import KernelPackage
from builder.model.lock import Lock
from builder.model.plan import ArtifactSource
from builder.model.recipe import Recipe

STEP = "initrd"
OUTPUT = "initrd.img"


def plan_initrd(recipe: Recipe, lock: Lock) -> ComponentPlan:
    """One step that writes a cpio archive, not compressed."""
    packages = group_packages(lock, "components.initrd")
    packaged = isinstance(recipe.kernel, KernelPackage)
    kernel = requested_packages(lock, "components.kernel", "kernel") if packaged else StepFiles((), [])
    files = own_files(lock, recipe.initrd.files)
    parameters = {
        "packages": packages.described,
        "kernel_packages": kernel.described,
        "programs": list(recipe.initrd.programs),
        "modules": list(recipe.initrd.modules),
        "files": files.described,
        "source_date_epoch": recipe.source_date_epoch,
    }
    inputs = (*packages.inputs, *kernel.inputs, *files.inputs)
    step = program_step(STEP, "initrd", parameters=parameters, inputs=inputs, outputs=(OUTPUT,))
    return ComponentPlan((step,), (ArtifactSource("initrd", step.name, OUTPUT),))
