"""Firmware: a file taken out of a package, byte by byte. It is measured into MRTD (`determinism.md` 1.3)."""

from builder.components.steps import ComponentPlan, program_step, requested_packages
from builder.model.lock import Lock
from builder.model.plan import ArtifactSource
from builder.model.recipe import Recipe

OUTPUT = "OVMF.fd"


def plan_firmware(recipe: Recipe, lock: Lock) -> ComponentPlan:
    """One step that takes the file out of the packages the recipe names."""
    packages = requested_packages(lock, "components.firmware")
    parameters = {"packages": packages.described, "file": recipe.firmware.file, "output": OUTPUT}
    step = program_step("firmware", "package_file", parameters=parameters, inputs=packages.inputs, outputs=(OUTPUT,))
    return ComponentPlan((step,), (ArtifactSource("firmware", step.name, OUTPUT),))
