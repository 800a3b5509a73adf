"""App image: an OCI image with one layer, and with a compose file the app's description, which says how it is run.

The image's digest and the description are in the guest's root, and so bound to RTMR[2].
"""

from builder.components.steps import ComponentPlan, group_packages, own_file, own_files, program_step
from builder.model.lock import Lock
from builder.model.plan import ArtifactSource
from builder.model.recipe import Recipe

STEP = "app_image"
OUTPUT = "app.oci.tar"
DIGEST = "app.digest"
DESCRIPTION = "app-compose.json"


def outputs(recipe: Recipe) -> tuple[str, ...]:
    """The outputs of the step."""
    return (OUTPUT, DIGEST) if recipe.app_image.compose is None else (OUTPUT, DIGEST, DESCRIPTION)


def plan_app_image(recipe: Recipe, lock: Lock) -> ComponentPlan:
    """One step that writes the image layout as a tar file, the digest of its manifest, and the description if any."""
    packages = group_packages(lock, "components.app_image")
    files = own_files(lock, recipe.app_image.files)
    compose = () if recipe.app_image.compose is None else (own_file(lock, recipe.app_image.compose),)
    parameters = {
        "packages": packages.described,
        "programs": list(recipe.app_image.programs),
        "files": files.described,
        "entrypoint": list(recipe.app_image.entrypoint),
        "image": recipe.image,
        "version": recipe.version,
        "compose": [item.target for item in compose],
        "source_date_epoch": recipe.source_date_epoch,
    }
    inputs = (*packages.inputs, *files.inputs, *compose)
    step = program_step(STEP, "app_image", parameters=parameters, inputs=inputs, outputs=outputs(recipe))
    published = (name for name in outputs(recipe) if name != DIGEST)
    return ComponentPlan((step,), tuple(ArtifactSource("app_image", step.name, name) for name in published))
