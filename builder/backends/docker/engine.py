"""The second engine: legs in Docker, on the local daemon or a remote one.

A leg has no network, no capability, the pinned root as a read-only image, and volumes of its own; nothing of the
daemon's machine is mounted, so that the daemon may be anywhere. Files go in and come out as archives, through a
container that is never started. Each command runs in a fresh container, which ends with all that the command started.
What a leg really saw is read from inside (`builder/inside/probe.py`), not concluded from what is set here.

Not limited are the disk that a step fills in its volumes, and the time it takes.
"""

import shlex
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from builder.backends.cpu_turns import CpuTurns
from builder.backends.docker.container import RunningContainers, create_container, run_container
from builder.backends.docker.daemon import Daemon, api_errors, connected, open_daemon
from builder.backends.docker.files import CarriedFile, put_files, read_tree, tree_files
from builder.backends.docker.host import DockerHost
from builder.backends.docker.layer import Image, Layer
from builder.backends.docker.options import (
    BYTECODE,
    LOCALES,
    SHELL,
    VOLUMES,
    LegContainer,
    carrier_container,
    root_container,
)
from builder.backends.docker.owner import OWNER_LABEL, own_label, remove_all, remove_remains
from builder.backends.docker.root import leg_image, load_image, root_image, root_layer
from builder.backends.docker.workspace import DockerWorkspace, LegPlace
from builder.backends.leg_environment import PreparedPlaces, check_root, require_in_root
from builder.backends.prepared_root import PreparedRoot, prepare_root
from builder.backends.scratch import scratch_directory
from builder.errors import BuilderError, BuildFailedError
from builder.model.variation import Variation

_CPUS_ALLOWED = "Cpus_allowed_list:"
_STATUS_OF_SELF = ("-c", 'while read -r line; do echo "$line"; done < /proc/self/status')


class DockerEngine:
    """The engine, a Sandbox of `builder.ports`. Safe to use from several threads."""

    engine = "docker"

    def __init__(self, host: DockerHost, *, memory: int | None = None) -> None:
        """`memory` limits each container, in bytes. Nothing is asked of the daemon yet."""
        self._host = host
        self._memory = memory
        self._mutex = threading.Lock()
        self._daemon: Daemon | None = None
        self._layers: dict[Path, Layer] = {}
        self._images: dict[tuple[Path, str, str, str, str], Image] = {}
        self._cpus: tuple[int, ...] = ()
        self._turns: CpuTurns | None = None
        self._running = RunningContainers()

    @property
    def engine_version(self) -> str:
        """Version and storage driver of the daemon: `20.10.24 overlay2`. MissingError if it is not to be had."""
        daemon = self.daemon()
        return f"{daemon.version} {daemon.storage}"

    def daemon(self) -> Daemon:
        """The daemon, asked once who it is; then what killed runs have left on it is removed."""
        with self._mutex:
            if self._daemon is None:
                daemon = open_daemon(self._host)
                remove_remains(daemon)
                self._daemon = daemon
            return self._daemon

    def not_varied(self, variation: Variation) -> Mapping[str, str]:
        """Axes of this variation that cannot be applied on this daemon, with the reason."""
        reasons = {"fileordering": "docker has no means to list a volume in another order without FUSE on its machine"}
        count = len(self._cpus) or self.daemon().cpus
        if variation.single_cpu and count == 1:
            reasons["num_cpus"] = "the daemon's machine has only one CPU to give"
        return reasons

    @contextmanager
    def open(self, root: Path, variation: Variation, scratch: Path) -> Iterator["DockerWorkspace"]:
        """A workspace on the pinned root at `root`; `scratch` must not exist yet and is gone afterwards.

        MissingError if there is no daemon, if it has another image under the root's name, or if the root lacks a
        program that the variation needs.
        """
        self._running.check()
        check_root(root, variation)
        require_in_root(root, SHELL, package="dash")
        daemon = self.daemon()
        prepared, image = self._image(daemon, root, variation)
        places = PreparedPlaces(
            locales=LOCALES if prepared.locales else None, bytecode=BYTECODE if prepared.bytecode else None
        )
        with (
            self._cpu(daemon, image, root) if variation.single_cpu else nullcontext() as cpu,
            scratch_directory(scratch),
            self._leg(daemon, image, root, VOLUMES) as (leg, carrier),
        ):
            yield DockerWorkspace(
                LegPlace(daemon, carrier, scratch, prepared.programs),
                replace(leg, places=places, cpu=cpu),
                variation,
                self._running,
            )

    def cancel(self) -> None:
        """Kill what runs in any workspace of this engine; nothing is started in one from now on.

        For other threads, on Ctrl-C for example; each `run` then ends with BuildFailedError.
        """
        self._running.cancel()

    def _image(self, daemon: Daemon, root: Path, variation: Variation) -> tuple[PreparedRoot, str]:
        """What stands beside the root, made in the root itself, and the id of the image with both."""
        with self._mutex:  # two legs that begin together need the same things
            if root not in self._layers:
                self._layers[root] = root_layer(root)
            layer = self._layers[root]

            def run(work: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
                bare = load_image(daemon, root_image(layer), self._running.check)
                self._run_in_root(daemon, bare, root, _RootCommand(work, command, environment))

            prepared = prepare_root(root, variation.locale, run)
            key = (root, variation.locale, variation.build_path, variation.tmpdir, variation.home)
            if key not in self._images:
                self._images[key] = leg_image(layer, prepared, variation)
            image = self._images[key]
        return prepared, load_image(daemon, image, self._running.check)

    def _run_in_root(self, daemon: Daemon, image: str, root: Path, command: "_RootCommand") -> None:
        """Run a command of the root on what `work` holds, and have what it made in `work`."""
        log = bytearray()
        with self._leg(daemon, image, root, ("build", "tmp")) as (leg, carrier):
            put_files(daemon, carrier, [CarriedFile("build", 0o755, None), *tree_files(command.work, "build")])
            body = root_container(leg, command.argv, command.environment)
            ended = run_container(daemon, body, log.extend, self._running)
            if ended.status != 0:
                raise BuildFailedError(
                    f"{shlex.join(command.argv)} in the pinned root {root} ended with {ended.how}: {ended.output}"
                )
            read_tree(daemon, carrier, "build", command.work)

    def _cpu(self, daemon: Daemon, image: str, root: Path) -> AbstractContextManager[int]:
        """One of the processors of the daemon's containers, as one of them states them: they need not start at 0."""
        with self._mutex:
            if self._turns is None:
                leg = LegContainer(image, root, PreparedPlaces(None, None), {}, _labels(), None, self._memory)
                body = root_container(leg, (SHELL, *_STATUS_OF_SELF), {})
                status = bytearray()
                run_container(daemon, body, status.extend, self._running)
                self._cpus = _parse_cpus(status.decode("ascii", "replace"))
                self._turns = CpuTurns(self._cpus)
            return self._turns.turn()

    @contextmanager
    def _leg(
        self, daemon: Daemon, image: str, root: Path, purposes: Sequence[str]
    ) -> Iterator[tuple[LegContainer, str]]:
        """Volumes, and the container through which they are filled and read; all are removed at the end."""
        carrier = f"tdx-builder-{uuid4().hex}"
        volumes = {purpose: f"{carrier}-{purpose}" for purpose in purposes}
        leg = LegContainer(image, root, PreparedPlaces(None, None), volumes, _labels(), None, self._memory)
        try:
            with connected(daemon) as client, api_errors(daemon, "create the volumes of a leg"):
                for name in volumes.values():
                    client.create_volume(name, driver="local", labels=dict(leg.labels))
                create_container(daemon, client, carrier_container(leg), name=carrier)
            yield leg, carrier
        finally:
            with suppress(BuilderError):  # a daemon that is gone now: a later run finds what is left by its labels
                remove_all(daemon, [carrier], volumes.values())


@dataclass(frozen=True)
class _RootCommand:
    """A command for a RootRunner, with its directory of this host."""

    work: Path
    argv: Sequence[str]
    environment: Mapping[str, str]


def _labels() -> dict[str, str]:
    return {OWNER_LABEL: own_label()}


def _parse_cpus(status: str) -> tuple[int, ...]:
    """The processors in the `Cpus_allowed_list` of a /proc/PID/status: `0-3,8`."""
    for line in status.splitlines():
        if line.startswith(_CPUS_ALLOWED):
            with suppress(ValueError):
                ranges = [part.partition("-") for part in line.removeprefix(_CPUS_ALLOWED).strip().split(",")]
                return tuple(cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1))
    raise BuildFailedError(f"a container does not say which processors it may use: {status[:200]!r}")
