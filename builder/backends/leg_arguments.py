"""How a variation becomes arguments of bwrap: mounts, names, ids, environment, and what wraps the command.

Each axis is applied as in `determinism.md` 4.1; the ways in which one silently does nothing are those of 4.3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.backends.leg_environment import (
    CPU_LISTS,
    HOSTS_OWN_PROC,
    TASKSET,
    PreparedPlaces,
    leg_environment,
    personality_wrapper,
    private_directories,
)
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

# bwrap covers some of what is the host's only where it may write the directory itself, which for /proc/sys not even
# root may
PROC = ("--proc", "/proc", *(word for name in HOSTS_OWN_PROC for word in ("--ro-bind-try", *2 * (f"/proc/{name}",))))

_LOCALES = "/run/locales"
_BYTECODE = "/run/bytecode"


@dataclass(frozen=True)
class LegFiles:
    """What of the host a leg is made of: directories, `locales` and `bytecode` those of a PreparedRoot, and the CPU
    of a leg that has only one."""

    root: Path
    locales: Path | None
    bytecode: Path | None
    build: Path
    inputs: Path
    programs: Path
    temporary: Path
    cpu_list: Path
    cpu: int


def leg_arguments(files: LegFiles, variation: Variation, environment: Mapping[str, str]) -> list[str]:
    """Everything between `bwrap` and the command that is to run. `environment` wins over that of the variation."""
    return [
        *ISOLATION,
        *("--hostname", variation.host_name),
        *("--uid", str(variation.uid), "--gid", str(variation.gid)),
        *_capabilities(variation),
        *_mounts(files, variation),
        *_environment({**leg_environment(variation, _prepared_places(files)), **environment}),
        *("--chdir", variation.build_path, "--"),
        *_wrapper(variation, files.cpu),
    ]


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
        for path in CPU_LISTS:
            arguments += ["--ro-bind", str(files.cpu_list), path]
    return arguments


def _private_directories(root: Path, variation: Variation) -> list[str]:
    """Where an empty file system of the leg's own is mounted, outer ones first."""
    return sorted(private_directories(root, variation) | ({"/sys"} if variation.single_cpu else set()))


def _prepared_places(files: LegFiles) -> PreparedPlaces:
    return PreparedPlaces(
        locales=None if files.locales is None else _LOCALES, bytecode=None if files.bytecode is None else _BYTECODE
    )


def _environment(variables: Mapping[str, str]) -> list[str]:
    return [word for name in sorted(variables) for word in ("--setenv", name, variables[name])]


def _capabilities(variation: Variation) -> Sequence[str]:
    """user_namespaces(7): who maps the id of its parent's root needs this capability there, from Linux 5.12 on."""
    return ("--cap-add", "CAP_SETFCAP") if variation.user_namespaces and variation.uid == 0 else ()


def _wrapper(variation: Variation, cpu: int) -> Sequence[str]:
    """Programs of the pinned root that set what bwrap cannot, then run the command."""
    words = personality_wrapper(variation)
    if variation.single_cpu:
        words += [TASKSET, "--cpu-list", str(cpu)]
    return words
