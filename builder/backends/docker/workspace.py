"""One step's sandbox in Docker: volumes, the container that carries files, and a fresh container for each command."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.backends.docker.container import Ended, RunningContainers, run_container
from builder.backends.docker.daemon import Daemon
from builder.backends.docker.files import (
    CarriedFile,
    is_directory,
    leg_directories,
    put_files,
    read_file,
    tree_files,
)
from builder.backends.docker.options import LegContainer, pasteable, step_container
from builder.backends.leg_environment import CPU_LISTS, check_output_name, input_path, step_failure
from builder.errors import BuildFailedError, DocumentError
from builder.model.variation import Variation
from builder.pipeline.run_step import MOST_OUTPUT
from builder.ports import LogSink


@dataclass(frozen=True)
class LegPlace:
    """Where a workspace is: the daemon, the container that carries its files, and two directories of this host.

    `scratch` holds outputs, and the list of one CPU; `programs` is what a leg has as `inside/`.
    """

    daemon: Daemon
    carrier: str
    scratch: Path
    programs: Path


class DockerWorkspace:
    """A Workspace of `builder.ports`. What is put is copied to the daemon when the next command runs."""

    def __init__(self, place: LegPlace, leg: LegContainer, variation: Variation, running: RunningContainers) -> None:
        self._place = place
        self._leg = leg
        self._variation = variation
        self._running = running
        self._known: dict[str, bool] = {}  # below in/: whether it is a directory
        self._waiting = [*leg_directories(variation), *tree_files(place.programs, "inside"), *self._cpu_lists()]

    def put(self, source: Path, target: str, *, executable: bool = False) -> None:
        """Place a host file at `target` (below `in/`), with mode 0755 or 0644 and the present time.

        The file is read when the next command runs. DocumentError if `target` leaves `in/` or is there already.
        """
        path = input_path(target)
        if path in self._known:
            raise DocumentError(f"{target}: two inputs of a step have this name")
        directories = path.split("/")[:-1]
        for count in range(1, len(directories) + 1):
            self._put_directory("/".join(directories[:count]), target)
        self._known[path] = False
        self._waiting.append(CarriedFile(f"in/{path}", 0o755 if executable else 0o644, source))

    def run(self, argv: Sequence[str], environment: Mapping[str, str], log: LogSink) -> None:
        """Run a command in the build directory to its end; nothing that it started is left when this returns."""
        self._running.check()
        if self._waiting:
            put_files(self._place.daemon, self._place.carrier, self._waiting)
            self._waiting = []
        body = step_container(self._leg, self._variation, argv, environment)
        ended = run_container(self._place.daemon, body, log, self._running)
        if ended.status != 0:
            raise self._failure(argv, ended, pasteable(body, self._place.daemon.host.url))

    def get(self, name: str) -> Path:
        """The regular file `out/<name>`, copied to this host; links are never followed."""
        check_output_name(name)
        daemon, carrier = self._place.daemon, self._place.carrier
        target = self._place.scratch / "out" / name
        target.parent.mkdir(exist_ok=True)
        # nothing runs now, so that what is a directory stays one
        if is_directory(daemon, carrier, "build/out") and read_file(
            daemon, carrier, f"build/out/{name}", target, most=MOST_OUTPUT
        ):
            return target
        raise BuildFailedError(f"leg {self._variation.name}: the step did not write out/{name} as a regular file")

    def _put_directory(self, path: str, target: str) -> None:
        if path not in self._known:
            self._known[path] = True
            self._waiting.append(CarriedFile(f"in/{path}", 0o755, None))
        elif not self._known[path]:
            raise DocumentError(f"{target}: in/{path} is a file already, wanted a directory")

    def _cpu_lists(self) -> list[CarriedFile]:
        """What stands for the files of /sys by which some programs count processors (X06); /sys has nothing else."""
        if not self._variation.single_cpu:
            return []
        source = self._place.scratch / "cpu-list"
        source.write_text("0\n", encoding="ascii")
        directories = [
            CarriedFile(f"sys/{path}", 0o755, None) for path in ("devices", "devices/system", "devices/system/cpu")
        ]
        return [*directories, *(CarriedFile(path.lstrip("/"), 0o644, source) for path in CPU_LISTS)]

    def _failure(self, argv: Sequence[str], ended: Ended, command: str) -> BuildFailedError:
        what = f"leg {self._variation.name}: {shlex.join(argv)}"
        return BuildFailedError(step_failure(what, ended.how, command=command, output=ended.output))
