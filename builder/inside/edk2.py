"""Builds firmware from edk2's source, for a TD: `OVMF.fd`, with the same bytes wherever it is built.

What makes it so (`determinism.md` 3.12): target RELEASE (`GenFw --zero`, no paths in asserts), no link time
optimisation, a prefix map, stack cookies that follow from the source instead of being drawn for each build, and
Python's hash seed fixed, because the cookie of a module is picked by a hash.
Parameters: `sources` (one tarball), `files` (patches, applied in the order of their paths), `platform`, `defines`,
`source_date_epoch`.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from builder.errors import DocumentError
from builder.inside.command import cpus, run
from builder.inside.program import Parameters, read_input, run_program, write_output
from builder.inside.source_tree import apply_patches, unpack_source
from builder.inside.tdx_firmware import check_tdx_firmware

OUTPUT = "OVMF.fd"
TOOLCHAIN = "GCCNOLTO"  # objects of link time optimisation hold random names

# Only what a firmware volume is made with. One of the others needs the source of brotli, which tarballs leave out.
_BASE_TOOLS = ("GenFfs", "GenFv", "GenFw", "GenSec", "LzmaCompress", "VfrCompile")
_CONFIGURATION = ("target", "tools_def", "build_rule")
# No debug information, which is stripped anyway; and a warning that gcc 12 gives where it cannot look across files.
_OWN_FLAGS = "-g0 -Wno-error=maybe-uninitialized"
_FLAGS = re.compile(r"^DEFINE GCC_ALL_CC_FLAGS +=.*$", re.MULTILINE)
# GenFw leaves room in each image for the path of its input, and `--zero` clears the path but not the room: the input is
# named from its own directory, so that the room is the same for every build path.
_GENFW = '"$(GENFW)" -e $(MODULE_TYPE) -o ${dst} ${src} $(GENFW_FLAGS)'
_GENFW_FROM_INSIDE = 'cd $(DEBUG_DIR) && "$(GENFW)" -e $(MODULE_TYPE) -o ${dst} $(MODULE_NAME).dll $(GENFW_FLAGS)'
_OUTPUT_DIRECTORY = re.compile(r"^\s*OUTPUT_DIRECTORY\s*=\s*([A-Za-z0-9_/-]+)\s*$", re.MULTILINE)
_COOKIES = 100  # as many as edk2 draws
# Python's time.sleep waits for a point in time of the monotonic clock. libfaketime 0.9.10 moves that back by the days
# that a leg is ahead, although the leg leaves this clock alone, and the kernel refuses what is negative.
_SLEEP = """\
import select, time
def sleep(seconds):
    select.select((), (), (), seconds)
time.sleep = sleep
"""
_SIZES = {"FD_SIZE_1MB": 1 << 20, "FD_SIZE_2MB": 2 << 20, "FD_SIZE_4MB": 4 << 20}
_EMULATOR = "EmulatorPkg/"  # firmware as a program of the host; it has a link that leaves the tree


def build_firmware(parameters: Parameters) -> None:
    """Write `OVMF.fd`, checked to be what the parameters ask for (`tdx_firmware`)."""
    epoch = parameters.integer("source_date_epoch")
    defines = dict(_defines(parameters))
    size = _size(defines)
    tarball = _tarball(parameters)
    tree = Path("edk2").absolute()
    unpack_source(tarball, tree, epoch=epoch, skip=lambda path: path.startswith(_EMULATOR))
    apply_patches(tree, _patches(parameters))
    directory = _build_directory(tree, parameters.text("platform"))
    _make_base_tools(tree)
    _configure(tree)
    _write_stack_cookies(directory, seed=hashlib.sha256(read_input(str(tarball))).digest())
    _build(tree, parameters.text("platform"), defines)
    firmware = read_input(str(directory / "FV" / OUTPUT))
    modules = read_input(str(directory / "FV" / "Guid.xref")).decode("utf-8", "replace")
    check_tdx_firmware(firmware, size=size, modules=modules, wanted=_wanted_modules(defines))
    write_output(OUTPUT, (firmware,))


def _tarball(parameters: Parameters) -> Path:
    tarballs = [source.text("input") for source in parameters.objects("sources")]
    if len(tarballs) != 1:
        raise DocumentError(f"firmware: {len(tarballs)} tarballs, wanted one that has all of edk2: {tarballs}")
    return Path(tarballs[0])


def _defines(parameters: Parameters) -> Iterator[tuple[str, str]]:
    for define in parameters.objects("defines"):
        yield define.text("name"), define.text("value")


def _patches(parameters: Parameters) -> list[Path]:
    files = {file.text("path"): Path(file.text("input")) for file in parameters.objects("files")}
    others = sorted(path for path in files if not path.endswith(".patch"))
    if others:
        raise DocumentError(
            f"firmware: {others[0]} is not a patch", hint="files of a firmware from source end in .patch"
        )
    return [files[path] for path in sorted(files)]


def _make_base_tools(tree: Path) -> None:
    """The tools of edk2 that are programs of the host. They leave no bytes of their own in the firmware."""
    # no maintainer script has made /usr/bin/cc and /usr/bin/c++
    settings = ("CC=gcc", "CXX=g++", f"APPLICATIONS={' '.join(_BASE_TOOLS)}", "EXTRA_OPTFLAGS=-O1 -g0 -w")
    run(("make", "-C", "BaseTools/Source/C", "-s", f"-j{cpus()}", *settings), cwd=tree)


def _configure(tree: Path) -> None:
    """Make Conf/ as edksetup.sh does, changed so that the build path stays out of every file."""
    templates = {
        name: (tree / f"BaseTools/Conf/{name}.template").read_text(encoding="utf-8") for name in _CONFIGURATION
    }
    templates["tools_def"] = _with_flags(templates["tools_def"], f"-ffile-prefix-map={tree}=edk2 {_OWN_FLAGS}")
    templates["build_rule"] = _with_short_names(templates["build_rule"])
    for name, text in templates.items():
        (tree / f"Conf/{name}.txt").write_text(text, encoding="utf-8")


def _with_flags(text: str, flags: str) -> str:
    """tools_def with `flags` added to those of every C file."""
    found = _FLAGS.findall(text)
    if len(found) != 1:
        raise DocumentError(f"tools_def.template defines GCC_ALL_CC_FLAGS {len(found)} times, wanted once")
    return text.replace(found[0], f"{found[0]} {flags}")


def _with_short_names(text: str) -> str:
    """build_rule with GenFw called so that no image depends on the length of the build path."""
    if _GENFW not in text:
        raise DocumentError(f"build_rule.template has no rule {_GENFW}")
    return text.replace(_GENFW, _GENFW_FROM_INSIDE)


def _write_stack_cookies(directory: Path, *, seed: bytes) -> None:
    """The cookies that edk2 would draw at random (tianocore/edk2#11433), unless the files are there.

    That they can be known is no loss: they are constants of a file that is published anyway.
    """
    directory.mkdir(parents=True)
    for bits in (32, 64):
        cookies = [_cookie(seed, f"{bits}/{number}", bits) for number in range(_COOKIES)]
        (directory / f"StackCookieValues{bits}.json").write_text(json.dumps(cookies), encoding="ascii")


def _cookie(seed: bytes, name: str, bits: int) -> int:
    return int.from_bytes(hashlib.sha256(seed + name.encode("ascii")).digest()[: bits // 8], "little")


def _build(tree: Path, platform: str, defines: dict[str, str]) -> None:
    tools = tree / "BaseTools"
    environment = {
        "WORKSPACE": str(tree),
        "EDK_TOOLS_PATH": str(tools),
        "CONF_PATH": str(tree / "Conf"),
        "PATH": f"{tools}/BinWrappers/PosixLike:{tools}/Source/C/bin:{os.environ['PATH']}",
        "PYTHONPATH": f"{_python_start(tree)}:{tools}/Source/Python",
        "PYTHON_COMMAND": "python3",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "",  # hundreds of calls of Python tools: compile each of their modules once
        "PYTHONPYCACHEPREFIX": str(tree / "bytecode"),
        "LC_ALL": "C.UTF-8",  # the tools read the messages of the compiler, and sort
        "MAKEFLAGS": "",
    }
    macros = [word for name, value in defines.items() for word in ("-D", f"{name}={value}")]
    options = ("-s", "-a", "X64", "-b", "RELEASE", "-t", TOOLCHAIN, "-n", str(cpus()), "-p", platform)
    run(("python3", "BaseTools/Source/Python/build/build.py", *options, *macros), cwd=tree, environment=environment)


def _python_start(tree: Path) -> Path:
    """A directory with what every Python program runs first, see the module `site`."""
    directory = tree / "python-start"
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(_SLEEP, encoding="ascii")
    return directory


def _build_directory(tree: Path, platform: str) -> Path:
    """Where edk2 builds this platform: OUTPUT_DIRECTORY of its description, and target and toolchain."""
    found: list[str] = _OUTPUT_DIRECTORY.findall(read_input(str(tree / platform)).decode("utf-8", "replace"))
    if len(found) != 1:
        raise DocumentError(f"{platform} states {len(found)} plain OUTPUT_DIRECTORY, wanted one")
    return tree / found[0] / f"RELEASE_{TOOLCHAIN}"


def _size(defines: dict[str, str]) -> int:
    sizes = [size for name, size in _SIZES.items() if name in defines]
    if len(sizes) != 1:
        raise DocumentError(f"firmware: {len(sizes)} of {', '.join(_SIZES)} are defined, wanted one")
    return sizes[0]


def _wanted_modules(defines: dict[str, str]) -> tuple[str, ...]:
    """The drivers that these defines promise, by name: the one that measures in a TD, and with a TPM."""
    wanted = {"CC_MEASUREMENT_ENABLE": "TdTcg2Dxe", "TPM2_ENABLE": "Tcg2Dxe"}
    # edk2 takes 1 and true for TRUE as well: whatever is not one of its ways to say no is a promise
    return tuple(module for define, module in wanted.items() if defines.get(define, "0").upper() not in ("FALSE", "0"))


if __name__ == "__main__":
    run_program(build_firmware)
