"""Members of squashfs images, read by `unsquashfs` of a pinned root in a sandbox.

The image may be hostile, and nothing of it is unpacked into files: `unsquashfs -pf` writes one file with all metadata
and contents, which `builder.compare.formats.pseudo_file` reads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.model.variation import VARIATION_A, Variation
from builder.ports import Sandbox

_IMAGE = "in/image"
_MEMBERS = "members"


class SquashfsMembers:
    """A lister for `pipeline.explain`: runs in `sandbox` on the pinned root unpacked at `root`."""

    def __init__(self, sandbox: Sandbox, root: Path, *, variation: Variation = VARIATION_A) -> None:
        self._sandbox = sandbox
        self._root = root
        self._variation = variation

    @contextmanager
    def __call__(self, image: Path, scratch: Path) -> Iterator[Path]:
        """The pseudo file of `image`, there during the block; `scratch` must not exist yet and is gone afterwards.

        BuildFailedError if unsquashfs is not in the root, is older than 4.5, or refuses the image.
        """
        with self._sandbox.open(self._root, self._variation, scratch) as workspace:
            workspace.put(image, _IMAGE)
            workspace.run(("unsquashfs", "-quiet", "-no-progress", "-pf", f"out/{_MEMBERS}", _IMAGE), {}, _discard)
            yield workspace.get(_MEMBERS)


def _discard(data: bytes) -> None:
    pass
