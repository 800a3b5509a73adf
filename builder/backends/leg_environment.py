"""What a variation means in every engine: what it needs of the pinned root, the environment of a leg, its own
directories, what wraps its command, and where inputs and outputs may lie.

Each axis is applied as in `determinism.md` 4.1; the ways in which one silently does nothing are those of 4.3.
"""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builder.errors import DocumentError, MissingError
from builder.model.variation import Variation

# What of /proc is the host's own and not a process's: root owns it, and needs no capability to write it.
HOSTS_OWN_PROC = ("acpi", "bus", "driver", "fs", "irq", "mtrr", "pressure", "scsi", "sys", "sysrq-trigger", "tty")
# what says how many processors there are to whoever does not ask for the affinity (X06)
CPU_LISTS = ("/sys/devices/system/cpu/online", "/sys/devices/system/cpu/possible")

# the variant for programs with threads, where Debian's package for amd64 has it
_FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
_SETARCH = "/usr/bin/setarch"
TASKSET = "/usr/bin/taskset"
_PRIVATE = ("/run", "/tmp", "/var/tmp")  # noqa: S108 - inside the sandbox


@dataclass(frozen=True)
class PreparedPlaces:
    """Where a leg finds compiled locales and Python's bytecode; None where it needs none."""

    locales: str | None
    bytecode: str | None


def check_root(root: Path, variation: Variation) -> None:
    """MissingError if the pinned root lacks what this variation needs, DocumentError if a path cannot be mounted."""
    needed = {}
    if variation.old_kernel_release or not variation.aslr:
        needed[_SETARCH] = "util-linux"
    if variation.single_cpu:
        needed[TASKSET] = "util-linux"
    if variation.time_offset_days:
        needed[_FAKETIME] = "libfaketime"
    for path, package in needed.items():
        require_in_root(root, path, package=package)
    for path in (variation.build_path, variation.tmpdir):
        _private_parent(root, path)


def require_in_root(root: Path, path: str, *, package: str) -> None:
    """MissingError naming `package` if the pinned root has no `path` (absolute, inside)."""
    if not os.path.lexists(f"{root}{path}"):
        raise MissingError(f"the pinned root {root} has no {path}", hint=f"add {package} to its packages in the recipe")


def leg_environment(variation: Variation, places: PreparedPlaces) -> dict[str, str]:
    """All variables of a leg besides those of the step."""
    environment = {
        "HOME": variation.home,
        "LC_ALL": variation.locale,
        "PATH": variation.path,
        "TMPDIR": variation.tmpdir,
        "TZ": variation.timezone,
        **variation.environment,
    }
    if places.locales is not None:
        environment["LOCPATH"] = places.locales
    if places.bytecode is not None:
        environment["PYTHONPYCACHEPREFIX"] = places.bytecode
    if variation.time_offset_days:
        environment |= {
            "LD_PRELOAD": _FAKETIME,
            "FAKETIME": f"{variation.time_offset_days:+d}d",  # relative: an absolute one stops the clock
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",  # ND-H07: else times of files are shifted as well
        }
    return environment


def personality_wrapper(variation: Variation) -> list[str]:
    """The program of the pinned root that sets kernel release and ASLR for what it runs; nothing if both are left."""
    if not variation.old_kernel_release and variation.aslr:
        return []
    words = [_SETARCH, "x86_64"]
    words += ["--uname-2.6"] if variation.old_kernel_release else []
    return words + ([] if variation.aslr else ["--addr-no-randomize"])


def private_directories(root: Path, variation: Variation) -> set[str]:
    """Where an empty file system of the leg's own is mounted."""
    directories = set(_PRIVATE)
    for path in (variation.build_path, variation.tmpdir):
        directories.add(_private_parent(root, path))
    if _is_directory(root, variation.home):  # a home that is not in the root stays missing: that is a variation too
        directories.add(variation.home)
    return directories


def input_path(target: str) -> str:
    """`target` relative to `in/`; DocumentError if it is not a place for an input (`in/NAME`, `in/DIRECTORY/NAME`)."""
    first, *parts = target.split("/")
    if first != "in" or not parts or any(part in ("", ".", "..") for part in parts):
        raise DocumentError(f"{target!r} is not a place for an input of a step: wanted in/NAME")
    return "/".join(parts)


def check_output_name(name: str) -> None:
    """DocumentError unless `name` is that of a file directly in `out/`."""
    if "/" in name or name in ("", ".", ".."):
        raise DocumentError(f"{name!r} is not the name of a file in out/")


def step_failure(what: str, how: str, *, command: str, output: str) -> str:
    """The message of a failed step: what ended how, the command to paste, and the end of its output."""
    indented = "".join(f"\n    {line}" for line in output.splitlines())
    return f"{what} ended with {how}\n  command: {command}\n  end of its output:{indented or ' nothing'}"


def _private_parent(root: Path, path: str) -> str:
    """The deepest directory of the root on the way to `path`; it must be empty, because it is mounted over."""
    parent = PurePosixPath(path)
    while not _is_directory(root, str(parent)):
        parent = parent.parent
    if any((root / parent.relative_to("/")).iterdir()):
        raise DocumentError(f"{path}: the pinned root {root} has no empty directory on the way to it, only {parent}")
    return str(parent)


def _is_directory(root: Path, path: str) -> bool:
    place = root / path.lstrip("/")
    return place.is_dir() and not place.is_symlink()
