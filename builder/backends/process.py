"""The one place that starts programs: a failure prints a command one can paste, and nothing is left running.

Every program leads a session and process group of its own. The group is killed when the block or call that started it
ends, however it ends: exit, timeout, KeyboardInterrupt or any other exception. Not covered: a descendant that leaves
the group by itself (a sandbox has its own means against that), and this process being killed with SIGKILL.
"""

import os
import select
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from builder.backends.output_pump import OutputPump, read_pipe
from builder.errors import BuilderError, BuildFailedError, MissingError
from builder.ports import LogSink

_DRAIN_SECONDS = 5.0
# program -> the Debian package that has it, where the name does not say so
_PACKAGES = {
    "apt-cache": "apt",
    "apt-config": "apt",
    "apt-get": "apt",
    "bwrap": "bubblewrap",
    "dpkg-deb": "dpkg",
    "dpkg-query": "dpkg",
    "mcopy": "mtools",
    "mdir": "mtools",
    "nice": "coreutils",
    "newuidmap": "uidmap",
    "newgidmap": "uidmap",
    "qemu-system-x86_64": "qemu-system-x86",
    "unshare": "util-linux",
}


@dataclass(frozen=True)
class CompletedRun:
    """A program that ended: its exit status (negative: the signal that ended it) and its output.

    `stdout` and `stderr` are empty where a log took the output.
    """

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class _Command:
    """What is started, for starting it and for showing it."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] | None
    cwd: Path | None

    def for_pasting(self) -> str:
        words = list(self.argv)
        if self.environment is not None:
            words = ["env", "-i", *(f"{name}={value}" for name, value in sorted(self.environment.items())), *words]
        text = shlex.join(words)
        return text if self.cwd is None else f"(cd {shlex.quote(str(self.cwd))} && {text})"


class Program:
    """A running program. `start` makes it and cleans it up."""

    def __init__(self, command: _Command, popen: subprocess.Popen[bytes], pidfd: int) -> None:
        self._command = command
        self._popen = popen
        self._pidfd = pidfd
        self._mutex = threading.Lock()
        self.pumps: list[OutputPump] = []
        self.feeder: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """Its process id, which is also the id of its process group."""
        return self._popen.pid

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe it reads from, of a program started as interactive."""
        if self._popen.stdin is None:
            raise ValueError("the program was not started as interactive")
        return self._popen.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """The pipe it writes to, of a program started as interactive."""
        if self._popen.stdout is None:
            raise ValueError("the program was not started as interactive")
        return self._popen.stdout

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended_within(0)

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit status (negative: the signal that ended it), or None after `timeout` seconds."""
        return self.end() if self._ended_within(timeout) else None

    def kill(self) -> None:
        """Kill whatever is left of its process group; harmless when nothing is. For any thread."""
        with self._mutex:
            self._kill()

    def end(self) -> int:
        """Kill whatever is left of its process group; gives its exit status."""
        with self._mutex:
            self._kill()  # before reaping: until then no other process can get this group's id
            return self._popen.wait()

    def raise_log_error(self) -> None:
        """What the log raised in another thread, raised in this one."""
        for pump in self.pumps:
            if pump.error is not None:
                raise pump.error

    def end_of_output(self) -> str:
        """The last lines of what it wrote, for an error message (standard error only, if interactive)."""
        return "\n".join(text for text in (pump.tail() for pump in self.pumps) if text)

    def error(self, failure: type[BuilderError], what: str) -> BuilderError:
        """An error of type `failure` with `what` happened, the command to paste and the end of its output."""
        output = self.end_of_output()
        text = f"{self._command.argv[0]} {what}\n  command: {self._command.for_pasting()}"
        if output:
            text += "\n  end of its output:\n" + "\n".join(f"    {line}" for line in output.splitlines())
        return failure(text)

    def _kill(self) -> None:
        if self._popen.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def _ended_within(self, timeout: float | None) -> bool:
        if self._popen.returncode is not None:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0, int(timeout * 1000))))


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    input: bytes = b"",  # noqa: A002 - the name that subprocess uses
    timeout: float | None = None,
    cwd: Path | None = None,
    umask: int = -1,
    log: LogSink | None = None,
    pass_fds: Sequence[int] = (),
    accept: Sequence[int] = (0,),
    failure: type[BuilderError] = BuildFailedError,
) -> CompletedRun:
    """Run a program to its end. An exit status not in `accept`, or `timeout` seconds passing, raises `failure`.

    `environment` is the whole environment; None means this process's own with LC_ALL=C.UTF-8, so that messages can be
    parsed. A `log` gets standard output and error as they come, from another thread, and nothing is kept.
    MissingError if the program is not there.
    """
    command = _Command(tuple(argv), environment, cwd)
    with _started(command, umask=umask, log=log, pass_fds=pass_fds, interactive=False, keep=log is None) as program:
        _feed(program, input)
        status = program.wait(timeout)
        if status is None:
            raise program.error(failure, f"did not end within {timeout:g} s")
    program.raise_log_error()  # first: it may be why the program was ended
    if status not in accept:
        raise program.error(failure, f"ended with {_status_text(status)}")
    outputs = [pump.data() for pump in program.pumps]
    return CompletedRun(command.argv, status, outputs[0], outputs[1] if len(outputs) > 1 else b"")


@contextmanager
def start(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    umask: int = -1,
    log: LogSink | None = None,
    pass_fds: Sequence[int] = (),
    interactive: bool = False,
) -> Iterator[Program]:
    """A program that runs during the block and is killed with its whole process group at the end of it.

    With `interactive`, `Program.stdin` and `Program.stdout` are pipes of the caller's, and only standard error goes to
    `log`; otherwise standard input is empty and all output goes to `log`. What the log raised is raised at the end of
    the block. MissingError if the program is not there.
    """
    command = _Command(tuple(argv), environment, cwd)
    with _started(command, umask=umask, log=log, pass_fds=pass_fds, interactive=interactive, keep=False) as program:
        if not interactive:
            program.stdin.close()
        yield program
    program.raise_log_error()


def write_all(pipe: IO[bytes], data: bytes) -> None:
    """Write all of `data` to a pipe of a program, which has no buffer: a signal may end a single write before that."""
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


@contextmanager
def _started(
    command: _Command, *, umask: int, log: LogSink | None, pass_fds: Sequence[int], interactive: bool, keep: bool
) -> Iterator[Program]:
    separate = interactive or keep
    popen = _open(command, umask=umask, pass_fds=pass_fds, stderr=subprocess.PIPE if separate else subprocess.STDOUT)
    try:
        pidfd = os.pidfd_open(popen.pid)
    except BaseException:  # no descriptor is left for it
        os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()
        raise
    program = Program(command, popen, pidfd)
    try:
        pipes = [popen.stderr] if interactive else [popen.stdout, popen.stderr]
        program.pumps = [
            OutputPump(read_pipe(pipe), log, keep=keep, end=program.kill) for pipe in pipes if pipe is not None
        ]
        yield program
    finally:
        _clean_up(program, popen)
        os.close(pidfd)


def _open(command: _Command, *, umask: int, pass_fds: Sequence[int], stderr: int) -> subprocess.Popen[bytes]:
    environment = command.environment
    if environment is None:
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.Popen(
            command.argv,
            env=environment,
            cwd=command.cwd,
            umask=umask,
            pass_fds=pass_fds,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        raise _start_error(command, error) from error


def _start_error(command: _Command, error: OSError) -> BuilderError:
    name = command.argv[0]
    if command.cwd is not None and error.filename in (command.cwd, str(command.cwd)):
        return BuildFailedError(f"{name}: cannot run in directory {command.cwd}: {error.strerror}")
    program = Path(name).name
    hint = f"install the Debian package {_PACKAGES.get(program, program)}, or add its directory to PATH"
    return MissingError(f"cannot run {name}: {error.strerror}", hint=hint)


def _feed(program: Program, data: bytes) -> None:
    """Write `data` to the program from a thread, so that a program that does not read cannot stop the timeout."""

    def write() -> None:
        with suppress(BrokenPipeError), program.stdin as pipe:
            write_all(pipe, data)

    program.feeder = threading.Thread(target=write, daemon=True)
    program.feeder.start()


def _clean_up(program: Program, popen: subprocess.Popen[bytes]) -> None:
    program.end()
    threads: list[threading.Thread | None] = [program.feeder, *program.pumps]
    for thread in threads:
        if thread is not None:
            thread.join(_DRAIN_SECONDS)  # ends with the group, unless a descendant left it and holds the pipe
    for pipe in (popen.stdin, popen.stdout, popen.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _status_text(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
