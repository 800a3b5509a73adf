"""A real Dask cluster on the loopback device: a scheduler and workers in processes and with stores of their own.

Nothing of it outlives the block. Steps that wait are told to go on by a signal, so that no test depends on timing.
"""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree

from builder.backends import process
from builder.backends.process import Program

_NONE: Mapping[str, str] = {}
LIMIT = 60.0  # seconds; only a failing test waits as long
# a step says this in its command line, waits for SIGUSR1, and goes on
WAITING = "trap 'go=1' USR1; while [ -z \"$go\" ]; do sleep 0.05; done; : {mark};"


class _Log:
    """What a program says, and a way to wait for a line of it."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._more = threading.Condition()

    def __call__(self, data: bytes) -> None:
        with self._more:
            self._text += data
            self._more.notify_all()

    def wait_for(self, pattern: str) -> str:
        deadline = time.monotonic() + LIMIT
        with self._more:
            while not (found := re.search(pattern, self._text.decode(errors="replace"))):
                assert self._more.wait(deadline - time.monotonic()), f"no {pattern!r} in:\n{self._text.decode()}"
        return found[1]


@dataclass
class DaskWorker:
    """A `dask worker`, its store and the directory in which it works."""

    name: str
    program: Program
    store: Path
    directory: Path
    log: _Log

    def kill(self) -> None:
        self.program.kill()
        assert self.program.wait(LIMIT) is not None

    def left_behind(self) -> list[str]:
        """Files of builds in its own directory."""
        return [str(path) for path in self.directory.rglob("*") if "tdx-builder" in path.parts and path.is_file()]


@dataclass
class DaskCluster:
    """A scheduler with its workers."""

    address: str
    scheduler: Program
    directory: Path
    roots: Path
    stack: ExitStack
    workers: dict[str, DaskWorker] = field(default_factory=dict)

    def start_workers(self, *names: str, preludes: Mapping[str, str] = _NONE, nanny: bool = False) -> None:
        """Start workers side by side and wait until the scheduler knows them. Preludes are Python that runs first, by
        name; a nanny is a process that starts the worker again when it dies."""
        option = "--nanny" if nanny else "--no-nanny"
        started = [self._start(name, preludes.get(name, ""), option) for name in names]
        for worker in started:
            worker.log.wait_for(r"(Registered to)")
            self.workers[worker.name] = worker

    def _start(self, name: str, prelude: str, nanny: str) -> DaskWorker:
        store, directory, log = self.directory / f"{name}-store", self.directory / f"{name}-work", _Log()
        options = ["--name", name, "--local-directory", str(directory), "--nthreads", "2", "--memory-limit", "0"]
        command = _python(f"{prelude}\nsys.argv = {['dask', 'worker', self.address, *options, nanny, *_QUIET]!r}")
        if not store.exists():
            copytree(self.roots, store / "roots", copy_function=os.link, symlinks=True)
        environment = {**os.environ, "TDX_BUILDER_STORE": str(store)}
        program = self.stack.enter_context(process.start(command, environment=environment, log=log))
        if nanny == "--nanny":
            self.stack.callback(_end, program)
        return DaskWorker(name, program, store, directory, log)


_QUIET = ("--host", "127.0.0.1", "--no-dashboard")


def _end(program: Program) -> None:
    """Let a nanny end by itself: killed, it would leave its semaphores in /dev/shm."""
    if program.running():
        os.kill(program.pid, signal.SIGTERM)
        program.wait(LIMIT)


def _python(prelude: str) -> list[str]:
    return [sys.executable, "-c", f"import sys\n{prelude}\nfrom dask.__main__ import main; main()"]


@contextmanager
def dask_cluster(directory: Path, roots: Path, *names: str) -> Iterator[DaskCluster]:
    """A cluster with workers of these names, whose stores have the unpacked roots of `roots` already."""
    with ExitStack() as stack:
        log = _Log()
        command = _python(f"sys.argv = {['dask', 'scheduler', '--port', '0', *_QUIET]!r}")
        scheduler = stack.enter_context(process.start(command, environment=dict(os.environ), log=log))
        cluster = DaskCluster(log.wait_for(r"(tcp://127\.0\.0\.1:\d+)"), scheduler, directory, roots, stack)
        cluster.start_workers(*names)
        yield cluster


def waiting_steps(mark: str) -> list[int]:
    """The processes of steps that wait, by their mark; not what a shell forks to start `sleep`."""
    shells = {int(path.name) for path in Path("/proc").glob("[0-9]*") if _is_waiting(path, mark.encode())}
    return [pid for pid in shells if _parent(pid) not in shells]


def sandboxes(mark: str) -> list[int]:
    """Every process that has the mark in its command line: what runs in a sandbox, and the sandbox itself."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if mark.encode() in _read(path / "cmdline")]


def _nothing() -> None: ...


def wait_for_step(mark: str, *, besides: int = 0, check: Callable[[], None] = _nothing) -> int:
    """The process of the one step that waits, and is not `besides`; `check` raises if none is to be expected."""
    deadline = time.monotonic() + LIMIT
    while not (found := [pid for pid in waiting_steps(mark) if pid != besides]):
        check()
        assert time.monotonic() < deadline, f"no step with the mark {mark} began"
        time.sleep(0.02)
    (pid,) = found
    return pid


def wait_until_gone(mark: str) -> None:
    """Nothing of a step is left."""
    deadline = time.monotonic() + LIMIT
    while found := sandboxes(mark):
        assert time.monotonic() < deadline, f"left over: {found}"
        time.sleep(0.02)


def go_on(pid: int) -> None:
    os.kill(pid, signal.SIGUSR1)


def worker_of(pid: int, workers: Iterable[DaskWorker]) -> DaskWorker:
    """The worker that a process descends from."""
    by_pid = {worker.program.pid: worker for worker in workers}
    return next(by_pid[pid] for pid in _ancestors(pid) if pid in by_pid)


def child_of(worker: DaskWorker, pid: int) -> int:
    """The process that a nanny started, of a process that descends from it."""
    line = list(_ancestors(pid))
    return line[line.index(worker.program.pid) - 1]


def _ancestors(pid: int) -> Iterator[int]:
    """A process, the one that started it, and so on."""
    while pid > 0:
        yield pid
        pid = _parent(pid)


def _parent(pid: int) -> int:
    """The process that started another one; 0 for the first process, and for one that is gone."""
    return int(_status(Path(f"/proc/{pid}"), "PPid"))


def _is_waiting(path: Path, mark: bytes) -> bool:
    """Whether it is a shell with the mark that has set its trap."""
    if _read(path / "comm") != b"sh\n" or mark not in _read(path / "cmdline"):
        return False
    return bool(int(_status(path, "SigCgt"), 16) & 1 << signal.SIGUSR1 - 1)


def _status(path: Path, name: str) -> str:
    found = re.search(rf"^{name}:\s*(\w+)", _read(path / "status").decode(), re.MULTILINE)
    return found[1] if found else "0"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
