"""Labels on everything a leg makes on a daemon, and the removal of what a killed run has left there.

A label says which process made a thing. It is removed only when that process is certainly gone: it ran in the present
boot and process namespace of this machine, and no process with its id and start time is there any more. What another
machine, another container or an earlier boot made is left alone, because nothing here can tell whether it still runs.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from builder.backends.docker.daemon import Daemon, api_errors, connected
from builder.errors import BuilderError, BuildFailedError

if TYPE_CHECKING:
    from docker.api import APIClient

_REMOVAL_SECONDS = 30

OWNER_LABEL = "org.tdx-builder.owner"
ROOT_LABEL = "org.tdx-builder.root"
_START_TIME = 19  # fields of /proc/PID/stat after the name of the program: the 22nd of all (proc(5))


def own_label() -> str:
    """The value of OWNER_LABEL of this process."""
    return f"{_machine()}/{os.getpid()}/{_start_time(os.getpid())}"


def is_gone(owner: str) -> bool:
    """Whether the process that this label names is certainly gone; False if that cannot be told here."""
    place, _, process = owner.rpartition("/")[0].rpartition("/")
    if place != _machine() or not process.isdigit():
        return False
    return _start_time(int(process)) != owner.rpartition("/")[2]


def remove_remains(daemon: Daemon) -> None:
    """Remove containers and volumes whose owner is gone, as far as that works: another run may do the same now."""
    with connected(daemon) as client, api_errors(daemon, "list what earlier runs left behind"):
        containers, volumes = list(_abandoned_containers(client)), list(_abandoned_volumes(client))
    with suppress(BuilderError):
        remove_all(daemon, containers, volumes)


def remove_all(daemon: Daemon, containers: Iterable[str], volumes: Iterable[str]) -> None:
    """Kill and remove containers, then volumes; it is no error if one is gone already. The first failure ends it."""
    from docker.errors import NotFound

    with connected(daemon, timeout=_REMOVAL_SECONDS) as client, api_errors(daemon, "remove what a leg has left"):
        for name in containers:
            with suppress(NotFound):
                client.remove_container(name, force=True, v=True)
        for name in volumes:
            with suppress(NotFound):
                client.remove_volume(name, force=True)


def _abandoned_containers(client: "APIClient") -> Iterator[str]:
    for container in client.containers(all=True, filters={"label": OWNER_LABEL}):
        if is_gone(container["Labels"].get(OWNER_LABEL, "")):
            yield container["Id"]


def _abandoned_volumes(client: "APIClient") -> Iterator[str]:
    for volume in client.volumes(filters={"label": OWNER_LABEL}).get("Volumes") or []:
        if is_gone((volume["Labels"] or {}).get(OWNER_LABEL, "")):
            yield volume["Name"]


def _machine() -> str:
    """The present boot of this machine, and the namespace in which process ids count."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    return f"{boot}/{namespace}"


def _start_time(pid: int) -> str:
    """When a process started, in clock ticks since the boot; nothing if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    except OSError as error:  # a process that may not be looked at is one that is there
        raise BuildFailedError(f"cannot tell whether process {pid} still runs: {error}") from error
    return text.rpartition(")")[2].split()[_START_TIME]
