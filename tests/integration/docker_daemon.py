"""Real Docker daemons to test with: Debian's dockerd, started below a temporary directory, each on a socket of its own.

A test that needs one is skipped where none can be started, and the reason shown. Nothing of a daemon of this machine is
used or touched.
"""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
from docker import APIClient
from docker.errors import DockerException

from builder.backends.bubblewrap import Bubblewrap
from builder.backends.docker.engine import DockerEngine
from builder.backends.docker.host import find_host
from builder.backends.docker.owner import OWNER_LABEL
from builder.backends.process import Program, run, start
from builder.errors import BuilderError
from builder.ports import LogSink, Sandbox

ENGINES = ("bubblewrap", "docker")

_MOST_KEPT = "4g"
_STARTING_SECONDS = 60
_STOPPING_SECONDS = 60
_PROGRAMS = ("dockerd", "containerd", "runc", "docker-init")


@dataclass(frozen=True)
class RunningDaemon:
    """A daemon that answers at `url`; `program` is its process."""

    url: str
    program: Program


def engine_called(name: str, request: pytest.FixtureRequest) -> Sandbox:
    """An engine of its own: bubblewrap, or docker on the daemon of this test process."""
    if name == "bubblewrap":
        return Bubblewrap()
    daemon: RunningDaemon = request.getfixturevalue("local_daemon")
    return docker_engine(daemon.url)


def docker_engine(url: str, *, memory: int | None = None) -> DockerEngine:
    """A docker engine on the daemon at `url`; what containers may use of memory in bytes."""
    return DockerEngine(find_host(url, {}), memory=memory)


def client_of(daemon: RunningDaemon) -> APIClient:
    """Docker's own client, to look from outside."""
    return APIClient(daemon.url, version="auto")


def owned(daemon: RunningDaemon) -> set[str]:
    """Containers and volumes with an owner."""
    client = client_of(daemon)
    containers = client.containers(all=True, filters={"label": OWNER_LABEL})
    volumes = client.volumes(filters={"label": OWNER_LABEL})["Volumes"] or []
    return {container["Id"] for container in containers} | {volume["Name"] for volume in volumes}


@contextmanager
def docker_daemon(name: str) -> Iterator[RunningDaemon]:
    """A daemon of one's own, gone at the end of the block with all that it keeps."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"no docker daemon: {', '.join(missing)} not installed (apt install docker.io)")
    if os.getuid() != 0:
        pytest.skip("no docker daemon: only root can start dockerd")
    directory = Path(tempfile.mkdtemp(prefix=f"tdx-builder-{name}-"))  # a socket's path has at most 107 bytes
    try:
        _leave_top_control_group()
        _mount_memory(directory)
        with (directory / "log").open("wb") as log, start(_command(directory), log=_writer(log)) as program:
            url = f"unix://{directory}/docker.sock"
            _await(directory / "docker.sock", program)
            try:
                yield RunningDaemon(url, program)
            finally:
                _stop(program)
    finally:
        _clean_up(directory)


def _leave_top_control_group() -> None:
    """In a container with control groups of version 2, what runs stands in the group at the top, below which no daemon
    can then limit anything; Docker's own `hack/dind` moves it away in the same manner. Elsewhere nothing is done."""
    top = Path("/sys/fs/cgroup")
    if not (top / "cgroup.type").exists():  # the top of a machine has none, and version 1 neither
        return
    with suppress(OSError):
        (top / "init").mkdir(exist_ok=True)
        for process in (top / "cgroup.procs").read_text().split():
            with suppress(OSError):  # it has ended, or is one of the kernel
                (top / "init/cgroup.procs").write_text(process)


def _mount_memory(directory: Path) -> None:
    """What a daemon keeps is in memory: overlay2 works there even where /tmp is an overlay itself, as in a container,
    and it is gone at once."""
    try:
        run(["mount", "-t", "tmpfs", "-o", f"size={_MOST_KEPT},mode=0700", "tdx-builder", str(directory)])
    except BuilderError as error:
        pytest.skip(f"no docker daemon: {error.message.splitlines()[0]}")


def _command(directory: Path) -> list[str]:
    (directory / "daemon.json").write_text("{}")  # not that of this machine's daemon
    options = {
        "config-file": directory / "daemon.json",
        "data-root": directory / "data",
        "exec-root": directory / "exec",
        "pidfile": directory / "pid",
        "host": f"unix://{directory}/docker.sock",
        "bridge": "none",
        "iptables": "false",
    }
    return ["dockerd", *(f"--{name}={value}" for name, value in options.items())]


def _writer(log: IO[bytes]) -> LogSink:
    def write(data: bytes) -> None:
        log.write(data)
        log.flush()

    return write


def _await(socket: Path, program: Program) -> None:

    deadline = time.monotonic() + _STARTING_SECONDS
    while True:
        try:
            APIClient(f"unix://{socket}", version="auto", timeout=5).close()
            return
        except DockerException as error:
            if not program.running() or time.monotonic() > deadline:
                last = (program.end_of_output() or str(error)).splitlines()[-3:]
                pytest.skip(f"no docker daemon: dockerd does not start here: {' ... '.join(last)}")
        time.sleep(0.1)


def _stop(program: Program) -> None:
    if program.running():
        os.kill(program.pid, signal.SIGTERM)
        program.wait(_STOPPING_SECONDS)


def _clean_up(directory: Path) -> None:
    """End and unmount what a daemon that was killed has left, the innermost mount first, and remove its files."""
    for command_line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(directory).encode() in command_line.read_bytes():  # its containerd, and a shim for each container
                os.kill(int(command_line.parent.name), signal.SIGKILL)
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    below = (mount for mount in mounts if mount == str(directory) or mount.startswith(f"{directory}/"))
    for mount in sorted(below, reverse=True):
        run(["umount", "--lazy", mount])
    shutil.rmtree(directory)
