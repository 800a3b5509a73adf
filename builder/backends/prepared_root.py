"""What legs need beside a pinned root, made once and kept there: our programs, the locale of a leg, Python's bytecode.

A locale that is not there falls back to C without a word (`determinism.md` 4.3 no. 1), and packages ship locales as
sources only. The bytecode changes no result: without it, each program of a leg would compile what it imports anew.
"""

import gzip
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from builder.backends.leg_environment import require_in_root
from builder.backends.scratch import make_directory, move_into_place, scratch_directory
from builder.inside import leg_files
from builder.model.digest import sha256_hex
from builder.model.task import programs_digest

_LOCALEDEF = "/usr/bin/localedef"
_LOCALE_SOURCES = "/usr/share/i18n"
_BUILT_IN = ("C", "POSIX", "C.UTF-8")  # C.UTF-8 is in libc-bin
_PYTHON = "/usr/bin/python3"
# files of the root never change, so nothing need be compared with its source again (PEP 552)
_COMPILE_ALL = """
import compileall, os, py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
sys.exit(not compileall.compile_dir(os.path.dirname(os.__file__), quiet=1, workers=0, invalidation_mode=mode))
"""
WORK = "/mnt"
TEMPORARY = "/tmp"  # noqa: S108 - inside the sandbox; compileall of Python 3.13 and later needs one


# runs a command of the root with an environment, and with a directory of the host at WORK that it may write to
RootRunner = Callable[[Path, Sequence[str], Mapping[str, str]], None]


@dataclass(frozen=True)
class PreparedRoot:
    """A pinned root, and beside it `builder.inside`, compiled locales and bytecode (None where they are not needed)."""

    path: Path
    programs: Path
    locales: Path | None
    bytecode: Path | None


def prepare_root(root: Path, locale: str, run: RootRunner) -> PreparedRoot:
    """Make what is missing beside `root` for a leg with `locale` (`de_DE.UTF-8`).

    MissingError if the root lacks what a locale is compiled with; BuildFailedError if compiling fails.
    """
    prepared = root.with_name(f"{root.name}.prepared")
    locales = bytecode = None
    if locale not in _BUILT_IN:
        locales = prepared / "locales"
        _once(locales / locale, lambda work: _compile_locale(root, locale, run, work))
    if os.path.lexists(f"{root}{_PYTHON}"):
        bytecode = prepared / "bytecode"
        _once(bytecode, lambda work: _compile_bytecode(run, work))
    return PreparedRoot(root, _prepared_programs(prepared), locales, bytecode)


@cache
def leg_programs() -> Mapping[str, bytes]:
    """The files of `builder.inside` as legs see them, by path there; read once, so that an update of this package while
    a build runs does not give its later steps other programs than those that their tasks and the record name."""
    return MappingProxyType({name: path.read_bytes() for name, path in leg_files().items()})


def leg_program_digests() -> dict[str, str]:
    """The same files with their SHA-256."""
    return {name: sha256_hex(data) for name, data in leg_programs().items()}


def _prepared_programs(prepared: Path) -> Path:
    """Those files in a directory named after their digest."""

    def write(work: Path) -> Path:
        programs = work / "programs"
        make_directory(programs)
        for name, data in leg_programs().items():
            place = programs / name
            for parent in reversed(place.relative_to(programs).parents):
                make_directory(programs / parent)
            place.write_bytes(data)
            place.chmod(0o644)
        return programs

    directory = prepared / "programs" / programs_digest(leg_program_digests())
    _once(directory, write)
    return directory


def _once(directory: Path, make: Callable[[Path], Path]) -> None:
    """Have `make` fill a new directory, unless an earlier run has; it gives what is to become `directory`."""
    if directory.is_dir():
        return
    with scratch_directory(directory.parent / f".partial-{os.getpid()}-{os.urandom(4).hex()}") as work:
        move_into_place(make(work), directory)


def _compile_locale(root: Path, locale: str, run: RootRunner, work: Path) -> Path:
    name, _, charset = locale.partition(".")
    require_in_root(root, _LOCALEDEF, package="libc-bin")
    require_in_root(root, f"{_LOCALE_SOURCES}/locales/{name}", package="locales")
    require_in_root(root, f"{_LOCALE_SOURCES}/charmaps/{charset}.gz", package="locales")
    # localedef would call gunzip, which a root need not have
    with gzip.open(f"{root}{_LOCALE_SOURCES}/charmaps/{charset}.gz") as packed:
        (work / charset).write_bytes(packed.read())
    output = f"{WORK}/{locale}"
    run(work, [_LOCALEDEF, "--no-archive", "-i", name, "-f", f"{WORK}/{charset}", output], {})
    return work / locale


def _compile_bytecode(run: RootRunner, work: Path) -> Path:
    (work / "bytecode").mkdir()
    environment = {"PYTHONPYCACHEPREFIX": f"{WORK}/bytecode"}  # the option -X would not reach workers
    run(work, [_PYTHON, "-c", _COMPILE_ALL], environment)
    return work / "bytecode"
