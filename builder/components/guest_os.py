"""Guest OS: its tree as a tar file, the root image made of that, and the command line that names its root hash."""

from builder.components import app_image, mkosi, root_image
from builder.components.steps import ComponentPlan, StepFiles, layered_files, packages_except, program_step
from builder.model.lock import Lock
from builder.model.plan import ArtifactSource, OutputInput, Step
from builder.model.recipe import Recipe

TREE_STEP = "root_tree"
COMMAND_LINE = "cmdline"


def plan_guest_os(recipe: Recipe, lock: Lock) -> ComponentPlan:
    """The steps: with mkosi what it installs, the tree as tar, the image with its hash tree, the command line."""
    tree = OutputInput(TREE_STEP, root_image.TREE, f"in/{root_image.TREE}")
    filesystem, epoch = recipe.guest_os.filesystem, recipe.source_date_epoch
    image = root_image.root_image_step(tree, filesystem=filesystem, epoch=epoch)
    installed = () if recipe.guest_os.mkosi is None else (mkosi.mkosi_step(recipe, lock),)
    steps = (*installed, _tree_step(recipe, lock), image, _command_line_step(recipe))
    artifacts = (
        ArtifactSource("guest_os", root_image.STEP, root_image.IMAGE),
        ArtifactSource("guest_os", COMMAND_LINE, COMMAND_LINE),
    )
    return ComponentPlan(steps, artifacts)


def _tree_step(recipe: Recipe, lock: Lock) -> Step:
    packages, installed = _base(recipe, lock)
    files = layered_files(lock, recipe.guest_os_trees)
    app = tuple(OutputInput(app_image.STEP, name, f"in/{name}") for name in app_image.outputs(recipe))
    parameters = {
        "packages": packages.described,
        "installed": installed.described,
        "exclude": list(recipe.guest_os.exclude),
        "files": files.described,
        "links": [{"path": path, "target": target} for path, target in recipe.guest_os.links],
        "app_image": f"in/{app_image.OUTPUT}",
        "app_digest": f"in/{app_image.DIGEST}",
        "app_compose": [item.target for item in app if item.name == app_image.DESCRIPTION],
        "source_date_epoch": recipe.source_date_epoch,
    }
    inputs = (*packages.inputs, *installed.inputs, *files.inputs, *app)
    return program_step(TREE_STEP, "root_tree", parameters=parameters, inputs=inputs, outputs=(root_image.TREE,))


def _base(recipe: Recipe, lock: Lock) -> tuple[StepFiles, StepFiles]:
    """Packages to unpack, or the tree that mkosi installed them to; the other is empty."""
    nothing = StepFiles((), [])
    if recipe.guest_os.mkosi is None:
        return packages_except(lock, recipe.guest_os_group, recipe.guest_os.without), nothing
    tree = OutputInput(mkosi.STEP, mkosi.OUTPUT, f"in/{mkosi.OUTPUT}")
    return nothing, StepFiles((tree,), [tree.target])


def _command_line_step(recipe: Recipe) -> Step:
    names = (root_image.IMAGE, root_image.ROOT_HASH, root_image.ROOT_SIZE)
    parameters = {
        "image": f"in/{root_image.IMAGE}",
        "root_hash": f"in/{root_image.ROOT_HASH}",
        "root_size": f"in/{root_image.ROOT_SIZE}",
        "command_line": recipe.command_line,
    }
    inputs = tuple(OutputInput(root_image.STEP, name, f"in/{name}") for name in names)
    return program_step(COMMAND_LINE, "command_line", parameters=parameters, inputs=inputs, outputs=(COMMAND_LINE,))
