"""The quickstart made of Debian 13's packages, as the mirror of this host has them today, with other choices in it."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from builder.errors import DocumentError, FetchError, MissingError
from builder.model.lock import LockedPackage
from tests.integration.conftest import RECIPE
from tests.integration.debian import _resolved

SUITE = "trixie"
KERNEL = "linux-image-cloud-amd64"
VMM = "qemu-system-x86"

_TOOLS = "    - coreutils\n"
_VMM_LINES = (
    "    - qemu-system-common/bookworm-backports\n    - qemu-system-data/bookworm-backports\n"
    "    - qemu-system-x86/bookworm-backports\n    - seabios/bookworm-backports\n"
)


def trixie_recipe(directory: Path, *, changes: Mapping[str, str], tools: Sequence[str]) -> Path:
    """A copy of the quickstart at `directory`, not locked: every name of the suite replaced, `tools` added to the root
    that builds, and each text of `changes` by another. A text that is not there exactly once is an error."""
    found = _packages()
    kernel = next(name for name in found if name.startswith("linux-image-6"))
    release = kernel.removeprefix("linux-image-")
    vmm = found[VMM].version.partition(":")[2].partition("+")[0].partition("-")[0]
    shutil.copytree(RECIPE, directory)
    (directory / "lock.json").unlink()
    text = (directory / "recipe.yaml").read_text()
    own = {
        "suites: [bookworm, bookworm-backports]": f"suites: [{SUITE}]",
        _VMM_LINES: "".join(f"    - {name}\n" for name in (VMM, "qemu-system-data", "seabios")),
        _TOOLS: _TOOLS + "".join(f"    - {name}\n" for name in tools),
        "edk2: 202211": "edk2: 202502",
        "[linux-image-6.12.95+deb12-cloud-amd64/bookworm-backports]": f"[{kernel}]",
        "boot/vmlinuz-6.12.95+deb12-cloud-amd64": f"boot/vmlinuz-{release}",
        "version: 10.0.2": f"version: {vmm}",
        "vcpus: [1, 2, 4, 8]": "vcpus: [1]",
        "memory: [1G, 2G, 4G, 16G]": "memory: [1G]",
    }
    for old, new in {**own, **changes}.items():
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in the recipe"
        text = text.replace(old, new)
    (directory / "recipe.yaml").write_text(text)
    return directory


def change_file(path: Path, old: str, new: str) -> None:
    """Replace a text of a file of the recipe that is there exactly once."""
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {path}"
    path.write_text(text.replace(old, new))


def _packages() -> dict[str, LockedPackage]:
    try:
        return {package.name: package for package in _resolved([SUITE], [KERNEL, VMM])}
    except (FetchError, MissingError, DocumentError) as error:
        pytest.skip(f"the archive of this host does not give {KERNEL} and {VMM} of {SUITE}: {error.message}")
