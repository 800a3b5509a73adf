"""App image: an OCI image with one layer. Its digest is pinned in the guest's root, and so in RTMR[2]."""

from builder.components.steps import ComponentPlan, group_packages, own_files, program_step
from builder.model.lock import Lock
from builder.model.plan import ArtifactSource
from builder.model.recipe import Recipe

STEP = "app_image"
OUTPUT = "app.oci.tar"
DIGEST = "app.digest"


def plan_app_image(recipe: Recipe, lock: Lock) -> ComponentPlan:
    """One step that writes the image layout as a tar file, and the digest of its manifest."""
    packages = group_packages(lock, "components.app_image")
    files = own_files(lock, recipe.app_image.files)
    parameters = {
        "packages": packages.described,
        "programs": list(recipe.app_image.programs),
        "files": files.described,
        "entrypoint": list(recipe.app_image.entrypoint),
        "name": f"{recipe.image}:{recipe.version}",
        "source_date_epoch": recipe.source_date_epoch,
    }
    inputs = (*packages.inputs, *files.inputs)
    step = program_step(STEP, "app_image", parameters=parameters, inputs=inputs, outputs=(OUTPUT, DIGEST))
    return ComponentPlan((step,), (ArtifactSource("app_image", step.name, OUTPUT),))
