"""Guest OS: a squashfs with a dm-verity tree behind it, and the command line that names its root hash.

The root hash is on the measured command line, so every byte of the root is bound to RTMR[2] (`determinism.md` 1.3).
"""

from builder.components import app_image
from builder.components.steps import ComponentPlan, group_packages, own_files, program_step
from builder.model.lock import Lock
from builder.model.plan import ArtifactSource, OutputInput, Step
from builder.model.recipe import Recipe

TREE_STEP = "root_tree"
IMAGE_STEP = "root_image"
TREE = "root.tar"
IMAGE = "rootfs.img"
ROOT_HASH = "root.hash"
ROOT_SIZE = "root.size"
COMMAND_LINE = "cmdline"

# tar2sqfs and not mksquashfs: with a tar file as input, mksquashfs before 4.6 gives the top directory the owner of the
# process and the time of the clock, whatever -root-uid says. The result does not depend on the number of jobs.
SQUASHFS_OPTIONS = (
    "--quiet",
    "--no-skip",  # a member it cannot read is an error
    "--no-xattr",
    "--compressor zstd --comp-extra level=19 --block-size 131072",  # the defaults of another version may differ
)
VERITY_OPTIONS = (
    "--salt=-",  # the default is random, and so would be the root hash (ND-E02)
    "--no-superblock",  # it holds a random UUID, and nobody measures it (ND-E03)
    "--hash=sha256",
    "--data-block-size=4096",
    "--hash-block-size=4096",
)


def plan_guest_os(recipe: Recipe, lock: Lock) -> ComponentPlan:
    """Three steps: the tree as tar, the image with its hash tree, the command line."""
    steps = (_tree_step(recipe, lock), _image_step(recipe), _command_line_step(recipe))
    artifacts = (
        ArtifactSource("guest_os", IMAGE_STEP, IMAGE),
        ArtifactSource("guest_os", COMMAND_LINE, COMMAND_LINE),
    )
    return ComponentPlan(steps, artifacts)


def _tree_step(recipe: Recipe, lock: Lock) -> Step:
    packages = group_packages(lock, "components.guest_os")
    files = own_files(lock, recipe.guest_os.files)
    app = tuple(OutputInput(app_image.STEP, name, f"in/{name}") for name in (app_image.OUTPUT, app_image.DIGEST))
    parameters = {
        "packages": packages.described,
        "exclude": list(recipe.guest_os.exclude),
        "files": files.described,
        "app_image": f"in/{app_image.OUTPUT}",
        "app_digest": f"in/{app_image.DIGEST}",
        "source_date_epoch": recipe.source_date_epoch,
    }
    inputs = (*packages.inputs, *files.inputs, *app)
    return program_step(TREE_STEP, "root_tree", parameters=parameters, inputs=inputs, outputs=(TREE,))


def _image_step(recipe: Recipe) -> Step:
    return Step(
        name=IMAGE_STEP,
        argv=("sh", "-euc", _image_script(recipe.source_date_epoch)),
        inputs=(OutputInput(TREE_STEP, TREE, f"in/{TREE}"),),
        outputs=(IMAGE, ROOT_HASH, ROOT_SIZE),
    )


def _image_script(epoch: int) -> str:
    """The top directory has no member in the tar file, so it gets the defaults."""
    image = f"out/{IMAGE}"
    return f"""\
tar2sqfs {" ".join(SQUASHFS_OPTIONS)} --defaults uid=0,gid=0,mode=0755,mtime={epoch} {image} <in/{TREE}
size=$(stat -c %s {image})
veritysetup format {" ".join(VERITY_OPTIONS)} --hash-offset=$size --root-hash-file=out/{ROOT_HASH} {image} {image}
echo $size >out/{ROOT_SIZE}
"""


def _command_line_step(recipe: Recipe) -> Step:
    names = (IMAGE, ROOT_HASH, ROOT_SIZE)
    parameters = {
        "image": f"in/{IMAGE}",
        "root_hash": f"in/{ROOT_HASH}",
        "root_size": f"in/{ROOT_SIZE}",
        "command_line": recipe.command_line,
    }
    inputs = tuple(OutputInput(IMAGE_STEP, name, f"in/{name}") for name in names)
    return program_step(COMMAND_LINE, "command_line", parameters=parameters, inputs=inputs, outputs=(COMMAND_LINE,))
