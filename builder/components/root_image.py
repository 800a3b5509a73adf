"""Root image: a tar file becomes a read-only file system with a dm-verity tree behind it.

The root hash is on the measured command line, so every byte of the root is bound to RTMR[2] (`determinism.md` 1.3).
Both file systems are made from the tar file itself and not from a tree on disk: owners and modes come through a leg
that has one user, and no listing or link count of the leg's own disk can get in (`determinism.md` 3.6, S7).
"""

from builder.errors import DocumentError
from builder.model.plan import OutputInput, Step
from builder.normalize.guid import derived_guid

STEP = "root_image"
TREE = "root.tar"
IMAGE = "rootfs.img"
ROOT_HASH = "root.hash"
ROOT_SIZE = "root.size"

# tar2sqfs and not mksquashfs: with a tar file as input, mksquashfs before 4.6 gives the top directory the owner of the
# process and the time of the clock, whatever -root-uid says. The result does not depend on the number of jobs.
SQUASHFS_OPTIONS = (
    "--quiet",
    "--no-skip",  # a member it cannot read is an error
    "--no-xattr",
    # stated, because the defaults of another version may differ; level 19 takes 2.6 times as long for 0.7 % less
    "--compressor zstd --comp-extra level=15 --block-size 131072",
)
# Needs erofs-utils 1.8 or newer: --tar came with 1.7, compressing what it reads with 1.8.
EROFS_OPTIONS = (
    "--quiet",
    "--tar=f",  # data and all, not an index beside the tar file
    "-x-1",  # no extended attributes
    "-zlz4hc,level=12 -C65536",  # what every kernel reads that was built with EROFS_FS_ZIP
    "--workers=1",  # several cut large files into pieces of their own
)
VERITY_OPTIONS = (
    "--salt=-",  # the default is random, and so would be the root hash (ND-E02)
    "--no-superblock",  # it holds a random UUID, and nobody measures it (ND-E03)
    "--hash=sha256",
    "--data-block-size=4096",
    "--hash-block-size=4096",
)


def root_image_step(tree: OutputInput, *, filesystem: str, epoch: int) -> Step:
    """The step that makes `rootfs.img`, `root.hash` and `root.size` of `tree`, a tar file placed at `in/root.tar`.

    The tar file has a member `./` for the top directory. `filesystem` is `squashfs` or `erofs`; `epoch` the time of the
    file system itself (seconds since 1970).
    """
    if filesystem not in _MAKERS:
        raise DocumentError(f"root image: file system {filesystem!r}, wanted {' or '.join(_MAKERS)}")
    return Step(
        name=STEP,
        argv=("sh", "-euc", _script(_MAKERS[filesystem](epoch))),
        inputs=(tree,),
        outputs=(IMAGE, ROOT_HASH, ROOT_SIZE),
    )


def _squashfs(epoch: int) -> str:
    options = " ".join(SQUASHFS_OPTIONS)
    return f"tar2sqfs {options} --defaults uid=0,gid=0,mode=0755,mtime={epoch} out/{IMAGE} <in/{TREE}"


def _erofs(epoch: int) -> str:
    """-U: the default is random (ND-E06). The content needs no name of its own: the root hash is its name."""
    return f"mkfs.erofs {' '.join(EROFS_OPTIONS)} -T{epoch} -U {derived_guid('root image')} out/{IMAGE} in/{TREE}"


_MAKERS = {"squashfs": _squashfs, "erofs": _erofs}


def _script(make_image: str) -> str:
    image = f"out/{IMAGE}"
    return f"""\
{make_image}
size=$(stat -c %s {image})
veritysetup format {" ".join(VERITY_OPTIONS)} --hash-offset=$size --root-hash-file=out/{ROOT_HASH} {image} {image}
echo $size >out/{ROOT_SIZE}
"""
