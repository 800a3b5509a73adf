"""Writes the kernel command line with the root hash that dm-verity will hold the root file system to.

The root hash is computed here once more, without veritysetup: two ways must agree before a value is measured.
Parameters: `image`, `root_hash`, `root_size` (paths of what the step before wrote), `command_line`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from builder.errors import DocumentError
from builder.inside.program import Parameters, read_input, run_program, write_output
from builder.normalize.verity import verity_root_hash

OUTPUT = "cmdline"

_HASH = re.compile(rb"[0-9a-f]{64}")
_SIZE = re.compile(rb"[1-9][0-9]{0,15}")
_CHUNK = 1 << 20


def make_command_line(parameters: Parameters) -> None:
    """Write `cmdline`, without a final newline: it is measured byte by byte."""
    size = int(_checked(parameters.text("root_size"), _SIZE))
    claimed = _checked(parameters.text("root_hash"), _HASH)
    computed = verity_root_hash(_head(parameters.text("image"), size))
    if computed != claimed:
        raise DocumentError(f"veritysetup gives the root hash {claimed}, the data has {computed}")
    text = parameters.text("command_line").format(root_hash=computed, root_size=size)
    write_output(OUTPUT, (text.encode("ascii"),))


def _checked(path: str, pattern: re.Pattern[bytes]) -> str:
    found = read_input(path).strip()
    if not pattern.fullmatch(found):
        raise DocumentError(f"{path}: {found[:80]!r} does not fit {pattern.pattern.decode()}")
    return found.decode("ascii")


def _head(path: str, size: int) -> Iterator[bytes]:
    with Path(path).open("rb") as file:
        while size > 0 and (chunk := file.read(min(_CHUNK, size))):
            size -= len(chunk)
            yield chunk
    if size:
        raise DocumentError(f"{path}: {size} bytes shorter than the data that was hashed")


if __name__ == "__main__":
    run_program(make_command_line)
