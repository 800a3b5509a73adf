"""How a variation becomes arguments of bwrap: mounts, names, ids, environment, and what wraps the command.

Each axis is applied as in `determinism.md` 4.1; the ways in which one silently does nothing are those of 4.3.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builder.errors import DocumentError, MissingError
from builder.model.variation import Variation

# what every sandbox has: no network, no capabilities, nothing inherited, and it dies with us
ISOLATION = (
    "--unshare-all",
    "--unshare-user",
    "--die-with-parent",
    "--new-session",
    "--cap-drop",
    "ALL",
    "--clearenv",
)

# What of /proc is the host's own and not a process's: root owns it, and needs no capability to write it. bwrap covers
# some of it only where it may write the directory itself, which for /proc/sys not even root may.
_HOSTS_OWN = ("acpi", "bus", "driver", "fs", "irq", "mtrr", "pressure", "scsi", "sys", "sysrq-trigger", "tty")
PROC = ("--proc", "/proc", *(word for name in _HOSTS_OWN for word in ("--ro-bind-try", *2 * (f"/proc/{name}",))))

_LOCALES = "/run/locales"
_BYTECODE = "/run/bytecode"

# the variant for programs with threads, where Debian's package for amd64 has it
_FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
_SETARCH = "/usr/bin/setarch"
_TASKSET = "/usr/bin/taskset"
_CPU_LISTS = ("/sys/devices/system/cpu/online", "/sys/devices/system/cpu/possible")
_PRIVATE = ("/run", "/tmp", "/var/tmp")  # noqa: S108 - inside the sandbox


@dataclass(frozen=True)
class LegFiles:
    """Directories of the host that a leg is made of; `locales` and `bytecode` are those of a PreparedRoot."""

    root: Path
    locales: Path | None
    bytecode: Path | None
    build: Path
    inputs: Path
    programs: Path
    temporary: Path
    cpu_list: Path


def leg_arguments(files: LegFiles, variation: Variation, environment: Mapping[str, str]) -> list[str]:
    """Everything between `bwrap` and the command that is to run. `environment` wins over that of the variation."""
    return [
        *ISOLATION,
        *("--hostname", variation.host_name),
        *("--uid", str(variation.uid), "--gid", str(variation.gid)),
        *_mounts(files, variation),
        *_environment({**_leg_environment(files, variation), **environment}),
        *("--chdir", variation.build_path, "--"),
        *_wrapper(variation),
    ]


def check_root(root: Path, variation: Variation) -> None:
    """MissingError if the pinned root lacks what this variation needs, DocumentError if a path cannot be mounted."""
    needed = {}
    if variation.old_kernel_release or not variation.aslr:
        needed[_SETARCH] = "util-linux"
    if variation.single_cpu:
        needed[_TASKSET] = "util-linux"
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


def _mounts(files: LegFiles, variation: Variation) -> list[str]:
    build = variation.build_path
    arguments = ["--ro-bind", str(files.root), "/", *PROC, "--dev", "/dev"]
    for path in _private_directories(files.root, variation):
        arguments += ["--tmpfs", path]
    arguments += ["--bind", str(files.temporary), variation.tmpdir, "--bind", str(files.build), build]
    arguments += ["--ro-bind", str(files.inputs), f"{build}/in", "--ro-bind", str(files.programs), f"{build}/inside"]
    for source, place in ((files.locales, _LOCALES), (files.bytecode, _BYTECODE)):
        if source is not None:
            arguments += ["--ro-bind", str(source), place]
    if variation.single_cpu:  # X06: affinity alone leaves sysconf as it is
        for path in _CPU_LISTS:
            arguments += ["--ro-bind", str(files.cpu_list), path]
    return arguments


def _private_directories(root: Path, variation: Variation) -> Iterable[str]:
    """Where an empty file system of the leg's own is mounted, outer ones first."""
    directories = set(_PRIVATE)
    for path in (variation.build_path, variation.tmpdir):
        directories.add(_private_parent(root, path))
    if variation.single_cpu:
        directories.add("/sys")
    if _is_directory(root, variation.home):  # a home that is not in the root stays missing: that is a variation too
        directories.add(variation.home)
    return sorted(directories)


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


def _leg_environment(files: LegFiles, variation: Variation) -> dict[str, str]:
    environment = {
        "HOME": variation.home,
        "LC_ALL": variation.locale,
        "PATH": variation.path,
        "TMPDIR": variation.tmpdir,
        "TZ": variation.timezone,
        **variation.environment,
    }
    if files.locales is not None:
        environment["LOCPATH"] = _LOCALES
    if files.bytecode is not None:
        environment["PYTHONPYCACHEPREFIX"] = _BYTECODE
    if variation.time_offset_days:
        environment |= {
            "LD_PRELOAD": _FAKETIME,
            "FAKETIME": f"{variation.time_offset_days:+d}d",  # relative: an absolute one stops the clock
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",  # ND-H07: else times of files are shifted as well
        }
    return environment


def _environment(variables: Mapping[str, str]) -> list[str]:
    return [word for name in sorted(variables) for word in ("--setenv", name, variables[name])]


def _wrapper(variation: Variation) -> Sequence[str]:
    """Programs of the pinned root that set what bwrap cannot, then run the command."""
    words: list[str] = []
    if variation.old_kernel_release or not variation.aslr:
        words += [_SETARCH, "x86_64"]
        words += ["--uname-2.6"] if variation.old_kernel_release else []
        words += [] if variation.aslr else ["--addr-no-randomize"]
    if variation.single_cpu:
        words += [_TASKSET, "--cpu-list", str(min(os.sched_getaffinity(0)))]
    return words
