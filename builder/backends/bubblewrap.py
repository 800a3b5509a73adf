"""The embedded engine: bubblewrap, as root or as an ordinary user with user namespaces.

A leg has no network, a clean environment, the pinned root read-only at `/`, and of the host only the files put there.
Every program that a variation needs comes from the pinned root, so that a leg is the same on every host. What it really
saw is read from inside (`builder/inside/probe.py`), not concluded from what is set here.
"""

import os
import re
import select
import shlex
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from builder.backends import process
from builder.backends.cpu_turns import CpuTurns
from builder.backends.leg_arguments import ISOLATION, PROC, LegFiles, leg_arguments
from builder.backends.leg_environment import check_output_name, check_root, input_path, step_failure
from builder.backends.prepared_root import TEMPORARY, WORK, PreparedRoot, RootRunner, prepare_root
from builder.backends.scratch import copy_below, make_directory, scratch_directory
from builder.errors import BuildFailedError, DocumentError, MissingError
from builder.model.variation import Variation
from builder.ports import LogSink

_DRY_RUN_SECONDS = 60.0
_KILLED_SECONDS = 30.0
_INFO_SIZE = 1 << 16
_CHILD_PID = re.compile(rb'"child-pid": ([0-9]+)')  # bwrap writes its JSON in pieces, and may be killed after the first

# setting of the kernel -> the value that forbids user namespaces, and what to do about it
_FORBIDDEN_BY = {
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "AppArmor restricts them, as on Ubuntu 24.04 and on Debian with the same setting: run as root, give bwrap an"
        " AppArmor profile with `userns,`, or run `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
    "/proc/sys/kernel/unprivileged_userns_clone": ("0", "run as root, or `sysctl kernel.unprivileged_userns_clone=1`"),
    "/proc/sys/user/max_user_namespaces": ("0", "run `sysctl user.max_user_namespaces=10000`"),
}
_FORBIDDEN_BY_OTHERS = (
    "no setting of the kernel is seen to forbid user namespaces (AppArmor's on Ubuntu 24.04 and Debian would show as"
    " kernel.apparmor_restrict_unprivileged_userns = 1); in a container allow them: `--privileged`, or"
    " `--security-opt systempaths=unconfined` and a seccomp profile with clone, unshare and mount"
)


class Bubblewrap:
    """The engine, a Sandbox of `builder.ports`. Safe to use from several threads."""

    engine = "bubblewrap"

    def __init__(self, program: str = "bwrap") -> None:
        """`program` is a name looked up in PATH, or a path. Nothing is run yet."""
        self._name = program
        self._usable: str | None = None
        self._mutex = threading.Lock()
        self._running = _RunningPrograms()
        self._turns = CpuTurns(sorted(os.sched_getaffinity(0)))

    @property
    def engine_version(self) -> str:
        """What `bwrap --version` says: `0.8.0`. MissingError as in `open`."""
        output = process.run([self._program(), "--version"], environment={}, failure=MissingError).stdout
        return output.decode("ascii", "replace").strip().removeprefix("bubblewrap ")

    def not_varied(self, variation: Variation) -> Mapping[str, str]:
        """Axes of this variation that cannot be applied here, with the reason."""
        reasons = {"fileordering": "bubblewrap has no means to list directories in another order (FUSE, disorderfs)"}
        if variation.single_cpu and len(os.sched_getaffinity(0)) == 1:
            reasons["num_cpus"] = "this machine has only one CPU to give"
        return reasons

    @contextmanager
    def open(self, root: Path, variation: Variation, scratch: Path) -> Iterator["BubblewrapWorkspace"]:
        """A workspace on the pinned root at `root`; `scratch` must not exist yet and is gone afterwards.

        MissingError if bubblewrap or user namespaces are not to be had, or if the root lacks a program that the
        variation needs.
        """
        program = self._program()
        check_root(root, variation)
        with self._mutex:  # two legs that begin together need the same things
            prepared = prepare_root(root, variation.locale, _runner(program, root, self._running))
        with scratch_directory(scratch), self._turns.turn() if variation.single_cpu else nullcontext(0) as cpu:
            yield BubblewrapWorkspace(_leg_files(prepared, scratch, cpu), variation, program, self._running)

    def cancel(self) -> None:
        """Kill what runs in any workspace of this engine, and whatever is started in one from now on.

        For other threads, on Ctrl-C for example; each `run` then ends with BuildFailedError.
        """
        self._running.cancel()

    def _program(self) -> str:
        with self._mutex:
            if self._usable is None:
                self._usable = _usable_program(self._name)
            return self._usable


class BubblewrapWorkspace:
    """A Workspace of `builder.ports`: one build directory, in which each `run` is a sandbox of its own."""

    def __init__(self, files: LegFiles, variation: Variation, program: str, running: "_RunningPrograms") -> None:
        self._files = files
        self._variation = variation
        self._program = program
        self._running = running

    def put(self, source: Path, target: str, *, executable: bool = False) -> None:
        """Copy a host file to `target` (below `in/`), with mode 0755 or 0644 and the present time.

        A copy and not a hard link: mode and times of the original are not the leg's to have. DocumentError if `target`
        leaves `in/` or is there already.
        """
        path = input_path(target)
        if (self._files.inputs / path).exists():
            raise DocumentError(f"{target}: two inputs of a step have this name")
        copy_below(source, self._files.inputs, path, mode=0o755 if executable else 0o644)

    def run(self, argv: Sequence[str], environment: Mapping[str, str], log: LogSink) -> None:
        """Run a command in the build directory to its end; nothing that it started is left when this returns."""
        arguments = [*leg_arguments(self._files, self._variation, environment), *argv]
        with (
            _whole_end() as info,
            process.start(
                [*_priority(self._variation), self._program, "--info-fd", str(info), *arguments],
                environment={},
                umask=self._variation.umask,
                log=log,
                pass_fds=(info,),
            ) as running,
            self._running.holding(running),
        ):
            status = running.wait()
        if status != 0:
            raise self._failure(argv, status, arguments, running.end_of_output())

    def _failure(
        self, argv: Sequence[str], status: int | None, arguments: Sequence[str], output: str
    ) -> BuildFailedError:
        how = f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"
        command = f"(umask {self._variation.umask:04o}; env -i {shlex.join([self._program, *arguments])})"
        what = f"leg {self._variation.name}: {shlex.join(argv)}"
        return BuildFailedError(step_failure(what, how, command=command, output=output))

    def get(self, name: str) -> Path:
        """The host's path of the regular file `out/<name>`, made readable; links are never followed."""
        check_output_name(name)
        output = self._files.build / "out"
        place = output / name
        self._files.build.chmod(0o755)  # it may be shut, but as a mount point it cannot have been replaced
        if output.is_dir() and not output.is_symlink():
            output.chmod(0o755)
            if place.is_file() and not place.is_symlink():
                place.chmod(0o644)
                return place
        raise BuildFailedError(f"leg {self._variation.name}: the step did not write out/{name} as a regular file")


class _RunningPrograms:
    """What runs in the workspaces of one engine."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._programs: set[process.Program] = set()
        self._cancelled = False

    @contextmanager
    def holding(self, program: process.Program) -> Iterator[None]:
        """`program` runs during the block and can be cancelled."""
        with self._mutex:
            self._programs.add(program)
            if self._cancelled:
                program.kill()
        try:
            yield
        finally:
            with self._mutex:
                self._programs.discard(program)

    def cancel(self) -> None:
        with self._mutex:
            self._cancelled = True
            for program in self._programs:
                program.kill()


def _usable_program(name: str) -> str:
    """The path of bwrap, after a dry run that needs what every leg needs."""
    program = shutil.which(name)
    if program is None:
        raise MissingError(f"{name} is not there, and legs run in it", hint="apt install bubblewrap")
    command = [program, "--unshare-all", "--unshare-user", "--uid", "1", "--ro-bind", "/", "/"]
    command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--", program, "--version"]  # noqa: S108
    try:
        process.run(command, environment={}, timeout=_DRY_RUN_SECONDS)
    except BuildFailedError as error:
        raise MissingError(
            f"{program} cannot make a sandbox with a user namespace here: {error.message}", hint=_namespace_hint()
        ) from error
    return program


def _namespace_hint() -> str:
    for path, (value, advice) in _FORBIDDEN_BY.items():
        with suppress(OSError):
            if Path(path).read_text(encoding="ascii").strip() == value:
                return f"user namespaces are forbidden by {path} = {value}: {advice}"
    return _FORBIDDEN_BY_OTHERS


def _runner(program: str, root: Path, running: _RunningPrograms) -> RootRunner:
    """Runs a command of the root with a directory to write to; it can be cancelled."""

    def run(work: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
        mounts = ["--ro-bind", str(root), "/", *PROC, "--dev", "/dev", "--tmpfs", TEMPORARY, "--bind", str(work), WORK]
        variables = [word for name, value in sorted(environment.items()) for word in ("--setenv", name, value)]
        arguments = [*ISOLATION, *mounts, *variables, "--", *command]
        with (
            _whole_end() as info,
            process.start(
                [program, "--info-fd", str(info), *arguments], environment={}, umask=0o022, pass_fds=(info,)
            ) as started,
            running.holding(started),
        ):
            status = started.wait()
        if status != 0:
            raise started.error(BuildFailedError, f"ended with status {status}")

    return run


def _priority(variation: Variation) -> Sequence[str]:
    """A leg with all CPUs yields to one that has only one of them: that one would be the slower by far."""
    return () if variation.single_cpu else ("nice", "-n", "10")


def _leg_files(prepared: PreparedRoot, scratch: Path, cpu: int) -> LegFiles:
    """Make the directories of a workspace below `scratch`."""
    files = LegFiles(
        root=prepared.path,
        locales=prepared.locales,
        bytecode=prepared.bytecode,
        build=scratch / "build",
        inputs=scratch / "in",
        programs=prepared.programs,
        temporary=scratch / "tmp",
        cpu_list=scratch / "cpu-list",
        cpu=cpu,
    )
    mount_points = [files.build / name for name in ("in", "inside", "out")]
    for directory in (files.build, files.inputs, files.temporary, *mount_points):
        make_directory(directory)
    files.cpu_list.write_text("0\n", encoding="ascii")
    return files


@contextmanager
def _whole_end() -> Iterator[int]:
    """A descriptor for bwrap's --info-fd; at the end of the block, wait until every process of the sandbox is gone.

    Killing bwrap kills the first process inside, and with it all others, but a moment later; until then they could
    still write. That process has ended only when its whole PID namespace has (pid_namespaces(7)).
    """
    read_end, write_end = os.pipe()
    try:
        yield write_end
    finally:
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            info = pipe.read(_INFO_SIZE)
        if found := _CHILD_PID.search(info):
            _wait_for(int(found[1]))


def _wait_for(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(_KILLED_SECONDS * 1000):
            raise BuildFailedError(f"process {pid} of a sandbox does not end, although it was killed")
    finally:
        os.close(descriptor)
