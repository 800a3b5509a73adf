"""Compiles a Linux kernel from its source: `vmlinuz`, and `kernel.config`, which it was compiled with.

What makes it the same everywhere (`determinism.md` 3.1): user, host, time and number of the build are fixed, and so is
everything that the configuration says about names and keys, which is the business of its fragments. The configuration
is `make allnoconfig` on top of the fragments: what they do not name is off, unless something they name selects it.
Parameters: `sources` (one tarball), `config` and `patches` (objects with `path` and `input`; patches are applied in the
order of their paths), `required` (a path), `source_date_epoch`.
"""

import time
from pathlib import Path

from builder.errors import BuildFailedError, DocumentError
from builder.inside.command import cpus, run
from builder.inside.program import Parameters, read_input, run_program, write_output
from builder.inside.source_tree import apply_patches, unpack_source
from builder.normalize.kernel_config import (
    check_names,
    check_options,
    defined_options,
    encode_config,
    merge_fragments,
    parse_config,
    parse_requirements,
)

IMAGE = "vmlinuz"
CONFIG = "kernel.config"

_BUILT = "arch/x86/boot/bzImage"

# Most of the tarball, and never read when a guest of x86 is compiled. What is left out is not there to be compiled: a
# configuration that asks for it fails. The other architectures are left out as well.
_UNREAD = (
    "Documentation/",
    "drivers/accel/",
    "drivers/gpu/",
    "drivers/iio/",
    "drivers/infiniband/",
    "drivers/media/",
    "drivers/net/ethernet/",
    "drivers/net/wireless/",
    "drivers/scsi/",
    "drivers/staging/",
    "drivers/usb/",
    "rust/",
    "samples/",
    "sound/",
    "tools/perf/",
    "tools/testing/",
)
_ALWAYS_READ = ("Kconfig", "Makefile", "Kbuild")  # by Kconfig and make, whatever is switched on, and wherever it lies


def build_kernel(parameters: Parameters) -> None:
    """Write `vmlinuz` and `kernel.config`. Nothing is compiled before the configuration is known to be as wanted."""
    fragments = _fragments(parameters)
    required = _required(parameters)
    tree = Path("linux").absolute()
    epoch = parameters.integer("source_date_epoch")
    unpack_source(_tarball(parameters), tree, epoch=epoch, skip=is_unread)
    apply_patches(tree, _patches(parameters))
    check_names((*fragments.items(), *required), _known_options(tree))
    config = _configure(tree, fragments, epoch=epoch)
    _check(config, fragments, required)
    _make(tree, "bzImage", environment=build_variables(epoch))
    if read_input(str(tree / ".config")) != config:
        raise BuildFailedError("make has changed the kernel's configuration after it was checked")
    write_output(IMAGE, (read_input(str(tree / _BUILT)),))
    write_output(CONFIG, (config,))


def is_unread(path: str) -> bool:
    """Whether the file at this path of the source tree is left out."""
    if path.rpartition("/")[2].startswith(_ALWAYS_READ):
        return False
    return path.startswith(_UNREAD) or _of_other_architecture(path)


def _of_other_architecture(path: str) -> bool:
    first, *rest = path.split("/")
    return first == "arch" and len(rest) > 1 and rest[0] != "x86"


def build_variables(epoch: int) -> dict[str, str]:
    """What the kernel would otherwise take from the machine and say in /proc/version.

    The time has to name its zone: `date -d` of the leg reads it, for the files of the built-in initramfs.
    """
    return {
        "KBUILD_BUILD_TIMESTAMP": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(epoch)),
        "KBUILD_BUILD_USER": "tdx-builder",
        "KBUILD_BUILD_HOST": "tdx-builder",
        "KBUILD_BUILD_VERSION": "1",
    }


def _fragments(parameters: Parameters) -> dict[str, str]:
    files = {file.text("path"): read_input(file.text("input")) for file in parameters.objects("config")}
    return merge_fragments({path: parse_config(content, what=path) for path, content in files.items()})


def _required(parameters: Parameters) -> tuple[tuple[str, str], ...]:
    path = parameters.text("required")
    return parse_requirements(read_input(path), what=path)


def _configure(tree: Path, fragments: dict[str, str], *, epoch: int) -> bytes:
    """Have Kconfig make `.config` of the fragments."""
    seed = tree.parent / "fragments.config"
    seed.write_bytes(encode_config(fragments))
    _make(tree, "allnoconfig", environment={**build_variables(epoch), "KCONFIG_ALLCONFIG": str(seed)})
    return read_input(str(tree / ".config"))


def _check(config: bytes, fragments: dict[str, str], required: tuple[tuple[str, str], ...]) -> None:
    final = parse_config(config, what=CONFIG)
    check_options(final, tuple(fragments.items()), what="a fragment")
    check_options(final, required, what="the list of required options")


def _make(tree: Path, target: str, *, environment: dict[str, str]) -> None:
    run(("make", f"-j{cpus()}", "ARCH=x86_64", target), cwd=tree, environment=environment)


def _known_options(tree: Path) -> set[str]:
    files = (path for path in tree.rglob("Kconfig*") if not _of_other_architecture(str(path.relative_to(tree))))
    return {option for path in files if path.is_file() for option in defined_options(path.read_text("utf-8"))}


def _tarball(parameters: Parameters) -> Path:
    tarballs = [source.text("input") for source in parameters.objects("sources")]
    if len(tarballs) != 1:
        raise DocumentError(f"kernel: {len(tarballs)} tarballs, wanted one that has all of Linux: {tarballs}")
    return Path(tarballs[0])


def _patches(parameters: Parameters) -> list[Path]:
    files = {file.text("path"): Path(file.text("input")) for file in parameters.objects("patches")}
    others = sorted(path for path in files if not path.endswith(".patch"))
    if others:
        raise DocumentError(f"kernel: {others[0]} is not a patch", hint="patches of a kernel end in .patch")
    return [files[path] for path in sorted(files)]


if __name__ == "__main__":
    run_program(build_kernel)
