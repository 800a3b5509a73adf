"""The whole plan: the components in the order in which one needs the other."""

from builder.components.app_image import plan_app_image
from builder.components.disk_image import plan_disk_image
from builder.components.firmware import plan_firmware
from builder.components.guest_os import plan_guest_os
from builder.components.initrd import plan_initrd
from builder.components.kernel import plan_kernel
from builder.model.lock import Lock
from builder.model.plan import BuildPlan
from builder.model.recipe import Recipe

# the guest OS pins the digest of the app image, and the disk image holds all but these two
_PLANNERS = (plan_firmware, plan_kernel, plan_initrd, plan_app_image, plan_guest_os, plan_disk_image)


def plan_build(recipe: Recipe, lock: Lock) -> BuildPlan:
    """The plan of both legs, from a lock that is fresh (`check_fresh`). DocumentError if it lacks what is needed."""
    plans = [plan(recipe, lock) for plan in _PLANNERS]
    return BuildPlan(
        image=recipe.image,
        version=recipe.release_version,
        source_date_epoch=recipe.source_date_epoch,
        steps=tuple(step for plan in plans for step in plan.steps),
        artifacts=tuple(artifact for plan in plans for artifact in plan.artifacts),
    )
