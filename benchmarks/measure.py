"""Wall time, CPU time and memory of programs and of blocks of code, with all that they start.

The first process of a sandbox is not waited for by bubblewrap, so its CPU time is in nobody's RUSAGE_CHILDREN. Here it
is: a process that has adopted orphans (prctl(2), PR_SET_CHILD_SUBREAPER) inherits such processes and waits for them.
Still in nobody's account is what was used inside a sandbox that is killed: the QEMUs that ACPI tables are read from.
"""

import ctypes
import os
import resource
import shlex
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from benchmarks.report import BenchmarkError
from benchmarks.usage import Usage

_PR_SET_CHILD_SUBREAPER = 36
_TICKS = os.sysconf("SC_CLK_TCK")
_TAIL = 2000

T = TypeVar("T")


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends; to be called before measuring."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise BenchmarkError(f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(ctypes.get_errno())}")


def measure_command(argv: Sequence[str], log: Path) -> Usage:
    """Run a program to its end, its output thrown away and its messages in `log`. BenchmarkError if it fails."""
    before, start = _cpu(resource.RUSAGE_CHILDREN), time.monotonic()
    pid = _spawn(argv, log)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        wall, own_cpu = time.monotonic() - start, _own_cpu(pid)
    except BaseException:
        os.kill(pid, signal.SIGTERM)
        raise
    finally:
        _, status, used = os.wait4(pid, 0)
        _wait_for_orphans()
    if status != 0:
        raise _failure(argv, os.waitstatus_to_exitcode(status), log)
    cpu = _cpu(resource.RUSAGE_CHILDREN) - before
    return Usage(wall, own_cpu, max(0.0, cpu - own_cpu), used.ru_maxrss * 1024 / 1e6)


def measure_call(work: Callable[[], T]) -> tuple[T, Usage]:
    """What `work` gives, and what it cost in this process and in those it started; its peak is not known."""
    own, children, start = _cpu(resource.RUSAGE_SELF), _cpu(resource.RUSAGE_CHILDREN), time.monotonic()
    result = work()
    wall = time.monotonic() - start
    _wait_for_orphans()
    return result, Usage(wall, _cpu(resource.RUSAGE_SELF) - own, _cpu(resource.RUSAGE_CHILDREN) - children)


def _spawn(argv: Sequence[str], log: Path) -> int:
    new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, str(log), new, 0o600),
    ]
    return os.posix_spawn(argv[0], list(argv), os.environ, file_actions=actions)


def _own_cpu(pid: int) -> float:
    """CPU time of an ended process without its children, to 1/100 s (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _cpu(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def _wait_for_orphans() -> None:
    with suppress(ChildProcessError):  # there is no child left
        while True:
            os.wait4(-1, 0)


def _failure(argv: Sequence[str], status: int, log: Path) -> BenchmarkError:
    messages = log.read_bytes()[-_TAIL:].decode("utf-8", "replace").strip()
    return BenchmarkError(f"{shlex.join(argv)} ended with status {status}\n{messages}")
