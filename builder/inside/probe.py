"""Runs inside a leg: prints what the leg really sees, as one JSON object {"axes": {...}, "facts": {...}}.

Stand-alone: Python's standard library only, run as `python3 inside/probe.py SECONDS`, where SECONDS is the clock of the
orchestrator (since 1970). An axis is the observed *effect* of a variation, never its setting, because a setting can
silently do nothing (`determinism.md` 4.3); the proofs are those of 4.1. A value is the same whenever it is read in one
leg. Facts are for people and may change at any time; the two are never mixed.
"""

import hashlib
import json
import locale
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# the variables that carry another axis: what is left is the axis `environment`
_OTHER_AXES = {
    "FAKETIME",
    "FAKETIME_DONT_FAKE_MONOTONIC",
    "FAKETIME_SHARED",
    "HOME",
    "LC_ALL",
    "LC_CTYPE",
    "LD_PRELOAD",
    "LOCPATH",
    "NO_FAKE_STAT",
    "PATH",
    "PWD",
    "PYTHONPYCACHEPREFIX",
    "TMPDIR",
    "TZ",
}
_SECONDS_PER_DAY = 86400
_PROBE_DIRECTORY = ".probe"
_PROBE_FILES = 24  # determinism.md 4.1: twenty and more


def environment_axis() -> str:
    """Names of the variables that no other axis sets, and the digest of names and values."""
    variables = {name: value for name, value in os.environ.items() if name not in _OTHER_AXES}
    data = b"".join(os.fsencode(f"{name}={variables[name]}\0") for name in sorted(variables))
    return f"{' '.join(sorted(variables))} sha256:{hashlib.sha256(data).hexdigest()}"


def aslr_axis() -> str:
    """Whether the stack lies at the same place in two runs of one program."""
    runs = {_stack_line() for _ in range(2)}
    return "same stack address in two runs" if len(runs) == 1 else "another stack address in each run"


def _stack_line() -> bytes:
    maps = subprocess.run(("cat", "/proc/self/maps"), check=True, capture_output=True).stdout
    return next(line for line in maps.splitlines() if line.endswith(b"[stack]"))


def num_cpus_axis() -> str:
    """Processors by affinity (what nproc says) and by sysconf (what getconf says): `determinism.md` 4.3 no. 5."""
    return f"affinity {len(os.sched_getaffinity(0))}, online {os.sysconf('SC_NPROCESSORS_ONLN')}"


def time_axis() -> str:
    """The clock minus the orchestrator's, in whole days: `+0d`, `+400d`."""
    return f"{round((time.time() - int(sys.argv[1])) / _SECONDS_PER_DAY):+d}d"


def user_group_axis() -> str:
    """The ids, and the owner of a new file."""
    with _probe_directory() as directory:
        new = directory / "new"
        new.touch()
        owner = new.stat()
    return f"{os.getuid()}:{os.getgid()}, new files {owner.st_uid}:{owner.st_gid}"


def fileordering_axis() -> str:
    """Digest of the order in which a directory lists its files."""
    with _probe_directory() as directory:
        for number in range(_PROBE_FILES):
            (directory / f"file-{number:02}").touch()
        names = "\0".join(path.name for path in directory.iterdir())
    return f"sha256:{hashlib.sha256(names.encode()).hexdigest()}"


def domain_host_axis() -> str:
    """Node name and NIS domain name."""
    return f"{os.uname().nodename} {_text('/proc/sys/kernel/domainname')}"


def home_axis() -> str:
    """Where `~` leads to, and whether there is such a directory."""
    home = Path("~").expanduser()
    return f"{home} {'exists' if home.is_dir() else 'does not exist'}"


def locales_axis() -> str:
    """Order of `a B b A`, grouping of 1234567 and name of the first month, under the locale that is in effect."""
    _set_locale()
    order = "".join(sorted("aBbA", key=locale.strxfrm))
    number = locale.format_string("%d", 1234567, grouping=True)
    return f"order {order}, number {number}, month {time.strftime('%B', time.gmtime(0))}"


def umask_axis() -> str:
    """The mode that a new file and a new directory really get."""
    with _probe_directory() as directory:
        (directory / "file").touch()
        (directory / "directory").mkdir()
        modes = [(directory / name).stat().st_mode & 0o777 for name in ("file", "directory")]
    return f"file {modes[0]:04o}, directory {modes[1]:04o}"


AXES: Mapping[str, Callable[[], str]] = {
    "environment": environment_axis,
    "build_path": os.getcwd,  # the physical path, like `pwd -P`
    "kernel": lambda: os.uname().release,
    "aslr": aslr_axis,
    "num_cpus": num_cpus_axis,
    "time": time_axis,
    "user_group": user_group_axis,
    "fileordering": fileordering_axis,
    "domain_host": domain_host_axis,
    "home": home_axis,
    "locales": locales_axis,
    "exec_path": lambda: os.environ.get("PATH", ""),
    "timezone": lambda: time.strftime("%z"),
    "umask": umask_axis,
    "tmpdir": tempfile.gettempdir,  # a TMPDIR that cannot be written to is passed over
}


def read_facts() -> dict[str, str]:
    """What the record says about the machine besides the axes (`determinism.md` 4.4, 4.6)."""
    return {
        "boot_id": _text("/proc/sys/kernel/random/boot_id"),
        "cpu_model": _field("/proc/cpuinfo", "model name"),
        "file_system": _file_system(str(Path.cwd())),
        "kernel_version": " ".join(_text("/proc/version").split()[:3]),  # not who compiled it, and where
        "locale": _set_locale(),
        "machine": platform.machine(),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "personality": _text("/proc/self/personality"),
        "python": platform.python_version(),
        "python_path": shutil.which("python3") or "not in PATH",
        "uid_map": " ".join(_text("/proc/self/uid_map").split()),
    }


@contextmanager
def _probe_directory() -> Iterator[Path]:
    """A directory in the build directory that is gone after the block, so that the step never sees it."""
    path = Path(_PROBE_DIRECTORY)
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _set_locale() -> str:
    try:
        return locale.setlocale(locale.LC_ALL, "")
    except locale.Error as error:
        return f"not in effect: {error}"


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _field(path: str, name: str) -> str:
    """The value of the first line `name: value` of a file in /proc."""
    for line in _text(path).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _file_system(path: str) -> str:
    """The type of the file system mounted at `path` itself (proc(5), mountinfo)."""
    for line in reversed(_text("/proc/self/mountinfo").splitlines()):
        mount, _, source = line.partition(" - ")
        if mount.split()[4:5] == [path]:
            return source.split()[0]
    return "unknown"


if __name__ == "__main__":
    axes = {name: read() for name, read in AXES.items()}
    print(json.dumps({"axes": axes, "facts": read_facts()}, sort_keys=True))
