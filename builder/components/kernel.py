"""Kernel: a file taken out of a package, byte by byte. It is measured into RTMR[1] (`measurement.md` 6)."""

from builder.components.steps import ComponentPlan, program_step, requested_packages
from builder.model.lock import Lock
from builder.model.plan import ArtifactSource
from builder.model.recipe import Recipe

OUTPUT = "vmlinuz"


def plan_kernel(recipe: Recipe, lock: Lock) -> ComponentPlan:
    """One step that takes the file out of the packages the recipe names."""
    packages = requested_packages(lock, "components.kernel")
    parameters = {"packages": packages.described, "file": recipe.kernel.file, "output": OUTPUT}
    step = program_step("kernel", "package_file", parameters=parameters, inputs=packages.inputs, outputs=(OUTPUT,))
    return ComponentPlan((step,), (ArtifactSource("kernel", step.name, OUTPUT),))
