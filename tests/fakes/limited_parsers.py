"""`python -m tests.fakes.limited_parsers [PARSER...]`: feed parsers large inputs, with little memory and time.

One process for each kind of input, so that a hang or a bomb ends that process: Linux kills it when its time is over,
and gives it no more memory than it had before plus 64 MiB. Prints a line for each failure; its status is 1 if there
was one.
"""

import contextlib
import os
import resource
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from builder.errors import BuilderError
from tests.fakes.large_examples import LARGE
from tests.fakes.parser_examples import PARSERS, Parser

MEMORY = 64 << 20
SIZES = (60_000, (1 << 20) - 4096, 10 << 20)  # bounds on sizes are of 64 KiB and some MiB
_SECONDS = 10  # of processor time for inputs of one kind, in three sizes
_FILLS = (b"\0", b"\xff", b"[", b"\x01\0\0\0")

Make = Callable[[], bytes]


def inputs(name: str) -> Iterator[tuple[str, Sequence[Make]]]:
    """What a parser is fed, by a name for people: its own large inputs, and fills before and behind a valid one."""
    for number, large in enumerate(LARGE.get(name, ())):
        yield f"large input {number}", [partial(large, size) for size in SIZES]
    valid = PARSERS[name][1]
    behind = [lambda fill=fill: valid + fill * (SIZES[-1] // len(fill)) for fill in _FILLS]
    before = [lambda fill=fill: fill * (SIZES[-1] // len(fill)) + valid for fill in _FILLS]
    yield "fills", [*behind, *before]


def feed(parser: Parser, data: bytes) -> str:
    """Why the parser failed: it needed too much memory, or raised anything but a BuilderError. Empty if it did not."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    try:
        with contextlib.suppress(BuilderError):
            parser(data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {place.filename}:{place.lineno}, of {len(data)} bytes"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    return ""


def main(names: list[str]) -> int:
    """Feed the parsers with these names, or all; 1 if one failed."""
    results = [_run(name, what, makes) for name in names or PARSERS for what, makes in inputs(name)]
    return 0 if results and all(results) else 1


def _run(name: str, what: str, makes: Sequence[Make]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            os._exit(_feed_all(name, what, makes))
        finally:  # whatever happened, this is not the process that feeds the other parsers
            os._exit(2)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        _report(f"{name}: {what}: killed by signal {os.WTERMSIG(status)}; more than {_SECONDS} s give 24")
    return status == 0


def _feed_all(name: str, what: str, makes: Sequence[Make]) -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS + 1))
    failures = [failure for make in makes if (failure := feed(PARSERS[name][0], make()))]
    for failure in failures:
        _report(f"{name}: {what}: {failure}")
    return 1 if failures else 0


def _report(line: str) -> None:
    os.write(1, line.encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
