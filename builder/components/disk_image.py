"""Disk image: a GPT disk whose firmware starts a UKI, with the root image as second partition.

A TD that boots from it is given nothing else: kernel, initrd and command line are in the UKI, whose digest is in
RTMR[1], as is the partition table's; the sections of the UKI are in RTMR[2] (`measurement.md` 6.5).
"""

from builder.components import guest_os, initrd, kernel, root_image
from builder.components.steps import ComponentPlan, program_step, requested_packages
from builder.model.components import DiskImageSpec
from builder.model.lock import Lock
from builder.model.plan import ArtifactSource, OutputInput, Step
from builder.model.recipe import Recipe

COMPONENT = "disk_image"
UKI_STEP = "uki"
UKI = "uki.efi"
STEP = "disk_image"
DISK = "disk.img"


def plan_disk_image(recipe: Recipe, lock: Lock) -> ComponentPlan:
    """The UKI, then the disk; nothing for a recipe without a disk image."""
    if recipe.disk_image is None:
        return ComponentPlan((), ())
    steps = (_uki_step(recipe, recipe.disk_image, lock), _disk_step(recipe))
    artifacts = (ArtifactSource(COMPONENT, UKI_STEP, UKI), ArtifactSource(COMPONENT, STEP, DISK))
    return ComponentPlan(steps, artifacts)


def _uki_step(recipe: Recipe, spec: DiskImageSpec, lock: Lock) -> Step:
    packages = requested_packages(lock, "components.disk_image")
    built = {
        "kernel": OutputInput(kernel.STEP, kernel.OUTPUT, "in/kernel"),
        "initrd": OutputInput(initrd.STEP, initrd.OUTPUT, "in/initrd"),
        "command_line": OutputInput(guest_os.COMMAND_LINE, guest_os.COMMAND_LINE, "in/command_line"),
    }
    parameters = {
        "packages": packages.described,
        "stub": spec.stub,
        "os_release": _os_release(recipe),
        **{name: item.target for name, item in built.items()},
    }
    inputs = (*packages.inputs, *built.values())
    return program_step(UKI_STEP, "uki", parameters=parameters, inputs=inputs, outputs=(UKI,))


def _os_release(recipe: Recipe) -> str:
    """os-release(5) of the image, not of the distribution it is made of: boot menus show it."""
    name, version = recipe.image, recipe.release_version
    return f'ID={name}\nVERSION_ID={version}\nPRETTY_NAME="{name} {version}"\n'


def _disk_step(recipe: Recipe) -> Step:
    uki = OutputInput(UKI_STEP, UKI, f"in/{UKI}")
    root = OutputInput(root_image.STEP, root_image.IMAGE, f"in/{root_image.IMAGE}")
    parameters = {
        "uki": uki.target,
        "root_image": root.target,
        "source_date_epoch": recipe.source_date_epoch,
    }
    return program_step(STEP, "disk_image", parameters=parameters, inputs=(uki, root), outputs=(DISK,))
