"""How a program inside a leg starts others: make, a compiler, patch. Nothing else in `builder/inside` may.

What a command prints goes where this process prints: to the log of the step.
"""

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.errors import BuildFailedError, MissingError


def run(argv: Sequence[str], *, cwd: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run a command to its end in the directory `cwd`, with an empty standard input.

    `environment` is added to this process's own, which carries the variation of the leg. BuildFailedError, naming
    command and status, unless it ends with status 0; MissingError if it cannot be started. Both become the last line
    of the log (`program.run_program`).
    """
    command = shlex.join(argv)
    print(f"+ {command}", flush=True)  # before the command's own output, not after it
    try:
        completed = subprocess.run(
            argv,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except OSError as error:
        hint = f"a package of the step's root has to have {argv[0]}"
        raise MissingError(f"cannot run {command} in {cwd}: {error.strerror}", hint=hint) from error
    if completed.returncode != 0:
        raise BuildFailedError(f"{command} ended with {_status_text(completed.returncode)}")


def cpus() -> int:
    """How many processors this leg may use, and so how many jobs to run: what nproc says, not what the machine has."""
    return len(os.sched_getaffinity(0))


def _status_text(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    known = {each.value: each.name for each in signal.Signals}
    return f"signal {known.get(-status, -status)}"  # most signals of real time have no name
