"""How a variation becomes a container: the body of `POST /containers/create`, and the same for people to paste.

No bind mounts, no devices, no network, no capabilities: a leg has of its daemon's machine only an image, volumes of its
own, and memory. The root is read-only; so are the volumes with inputs and programs, even for a leg that runs as root.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.backends.docker.seccomp import seccomp_profile
from builder.backends.leg_environment import (
    HOSTS_OWN_PROC,
    TASKSET,
    PreparedPlaces,
    leg_environment,
    personality_wrapper,
    private_directories,
)
from builder.backends.prepared_root import TEMPORARY, WORK
from builder.model.variation import Variation

LOCALES = "/mnt/locales"
BYTECODE = "/mnt/bytecode"
SHELL = "/bin/sh"
# the volumes of a leg, by what they are mounted as; the order is that of mounting
VOLUMES = ("build", "in", "inside", "tmp", "sys")
READ_ONLY = ("in", "inside", "sys")
# where the container that only carries files has them
CARRIED = "/leg"

_PROCESSES = 8192
_PREFERRED = 4096
_TMPFS_SIZE = "4g"
# docker's own list, and what else of the machine a process of root could read without any capability
_MASKED = (
    *("/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/timer_list"),
    *("/proc/timer_stats", "/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup", "/proc/kallsyms"),
    *("/proc/modules", "/etc/resolv.conf"),
)


@dataclass(frozen=True)
class LegContainer:
    """What is the same for every container of a workspace. `volumes` are names by purpose (VOLUMES).

    `cpu` is the only processor of a leg with one; `memory` in bytes, None for no limit.
    """

    image: str
    root: Path
    places: PreparedPlaces
    volumes: Mapping[str, str]
    labels: Mapping[str, str]
    cpu: int | None
    memory: int | None


def step_container(
    leg: LegContainer, variation: Variation, argv: Sequence[str], environment: Mapping[str, str]
) -> dict[str, Any]:
    """The container of one command. `environment` wins over that of the variation."""
    variables = {**leg_environment(variation, leg.places), **environment}
    host = (
        _isolation(leg)
        | _namespaces(variation)
        | {
            "Mounts": _mounts(leg.volumes, variation),
            "Tmpfs": _tmpfs(leg.root, variation),
            "CpusetCpus": "" if leg.cpu is None else str(leg.cpu),
            # 1024 is what everybody has: a leg with all CPUs yields to one that has only one of them
            "CpuShares": 0 if leg.cpu is None else _PREFERRED,
        }
    )
    return {
        "Image": leg.image,
        "Labels": dict(leg.labels),
        "Hostname": variation.host_name,
        "Domainname": variation.host_name.partition(".")[2],
        "User": f"{variation.uid}:{variation.gid}",
        "WorkingDir": variation.build_path,
        # a name without a value takes a variable away: docker sets this one by itself (`determinism.md` 2.1)
        "Env": [f"{key}={value}" for key, value in sorted(variables.items())]
        + ([] if "HOSTNAME" in variables else ["HOSTNAME"]),
        # docker has no option for the umask, and takes nothing over from its client (V14)
        "Entrypoint": [SHELL, "-c", f'umask {variation.umask:04o} && exec "$@" 2>&1', "sh"],
        "Cmd": [*personality_wrapper(variation), *_affinity(leg), *argv],
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "HostConfig": host,
    }


def root_container(leg: LegContainer, argv: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """The container of a command of the root itself, as root; of the volumes that there are, `build` is at /mnt."""
    places = {"build": WORK, "tmp": TEMPORARY}
    writable = {purpose: places[purpose] for purpose in leg.volumes}
    return {
        "Image": leg.image,
        "Labels": dict(leg.labels),
        "User": "0:0",
        "Env": [*(f"{key}={value}" for key, value in sorted(environment.items())), "HOSTNAME"],
        "Entrypoint": [],
        "Cmd": list(argv),
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": _isolation(leg)
        | {"Mounts": [_volume(leg.volumes[purpose], place, read_only=False) for purpose, place in writable.items()]},
    }


def carrier_container(leg: LegContainer) -> dict[str, Any]:
    """A container that is never started: through it, files come into the volumes and out of them.

    Its root is not read-only, because docker would refuse to give a volume's top directory an owner.
    """
    mounts = [_volume(name, f"{CARRIED}/{purpose}", read_only=False) for purpose, name in leg.volumes.items()]
    return {
        "Image": leg.image,
        "Labels": dict(leg.labels),
        "Entrypoint": ["/nothing"],
        "Cmd": [],
        "HostConfig": {"NetworkMode": "none", "LogConfig": {"Type": "none", "Config": {}}, "Mounts": mounts},
    }


def pasteable(body: Mapping[str, Any], daemon: str) -> str:
    """A `docker run` for people, with what matters of a step's container; its files are gone when it is read."""
    host = body["HostConfig"]
    words = ["docker", "--host", daemon, "run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--init"]
    words += ["--security-opt=no-new-privileges", "--security-opt=seccomp=unconfined", f"--hostname={body['Hostname']}"]
    words += [f"--domainname={body['Domainname']}"] if body["Domainname"] else []
    words += [f"--user={body['User']}", f"--workdir={body['WorkingDir']}"]
    words += [f"--cpuset-cpus={host['CpusetCpus']}"] if host["CpusetCpus"] else []
    words += [f"--tmpfs={path}:{options}" for path, options in sorted(host["Tmpfs"].items())]
    words += [f"--mount=type=volume,dst={mount['Target']}" for mount in host["Mounts"]]
    words += [f"--env={variable}" for variable in body["Env"]]
    entry: list[str] = body["Entrypoint"]
    arguments = [body["Image"], *entry[1:], *body["Cmd"]]
    return f"{shlex.join([*words, f'--entrypoint={entry[0]}', *arguments])}  # its volumes were removed"


def _isolation(leg: LegContainer) -> dict[str, Any]:
    limits = {} if leg.memory is None else {"Memory": leg.memory, "MemorySwap": leg.memory}
    return {
        **limits,
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp_profile(user_namespaces=False)}"],
        "Privileged": False,
        "Init": True,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "PidsLimit": _PROCESSES,
        # a core dump would be handed to a program of the daemon's machine
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "MaskedPaths": list(_MASKED),
        "ReadonlyPaths": [f"/proc/{name}" for name in HOSTS_OWN_PROC],
        "LogConfig": {"Type": "none", "Config": {}},  # we read it as it comes; the daemon keeps nothing
        "RestartPolicy": {"Name": "no"},
    }


def _affinity(leg: LegContainer) -> list[str]:
    """One CPU even where a daemon passes a cpuset over with a warning, as rootless ones do."""
    return [] if leg.cpu is None else [TASKSET, "--cpu-list", str(leg.cpu)]


def _namespaces(variation: Variation) -> dict[str, Any]:
    """What is different where programs may start user namespaces of their own; CAP_SETFCAP as in user_namespaces(7):
    who maps the id of its parent's root has to have it there, from Linux 5.12 on."""
    if not variation.user_namespaces:
        return {}
    return {
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp_profile(user_namespaces=True)}"],
        "CapAdd": ["SETFCAP"] if variation.uid == 0 else [],
    }


def _mounts(volumes: Mapping[str, str], variation: Variation) -> list[dict[str, Any]]:
    build = variation.build_path
    targets = {"build": build, "in": f"{build}/in", "inside": f"{build}/inside", "tmp": variation.tmpdir, "sys": "/sys"}
    return [_volume(volumes[purpose], targets[purpose], read_only=purpose in READ_ONLY) for purpose in VOLUMES]


def _volume(name: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {
        "Type": "volume",
        "Source": name,
        "Target": target,
        "ReadOnly": read_only,
        "VolumeOptions": {"NoCopy": True},  # else what the image has there would be copied into it
    }


def _tmpfs(root: Path, variation: Variation) -> dict[str, str]:
    directories = private_directories(root, variation) - {variation.tmpdir, variation.build_path}
    options = f"rw,exec,nosuid,nodev,size={_TMPFS_SIZE},mode=0755,uid={variation.uid},gid={variation.gid}"
    return dict.fromkeys(sorted(directories), options)
