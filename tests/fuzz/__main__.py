"""`python -m tests.fuzz --list | PARSER [libFuzzer option...]`: feed one parser until its time is up.

A parser may refuse its input with a BuilderError and do nothing else: any other exception, a single input that takes
longer than five seconds, one allocation of more than 64 MiB, or growth of the process by more than twice that ends the
run with a failure and keeps the input in out/fuzz.
"""

import contextlib
import resource
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["builder"]):
    from tests.fakes.parser_examples import PARSERS

from builder.errors import BuilderError

_SECONDS_AN_INPUT = 5
_MEBIBYTES_MORE = 64
_LONGEST_INPUT = 1 << 16
_FOUND = Path("out/fuzz")


def main(arguments: list[str]) -> None:
    """Fuzz the parser that the first argument names."""
    if arguments == ["--list"]:
        sys.stdout.write("".join(f"{name}\n" for name in PARSERS))
        return
    if not arguments or arguments[0] not in PARSERS:
        sys.exit(f"{arguments[:1]} is no parser; see --list")
    parser, example, _ = PARSERS[arguments[0]]
    _FOUND.mkdir(parents=True, exist_ok=True)

    def feed(data: bytes) -> None:
        with contextlib.suppress(BuilderError):
            parser(data)

    with tempfile.TemporaryDirectory() as corpus:
        (Path(corpus) / "example").write_bytes(example)
        atheris.Setup([sys.argv[0], *_limits(), *arguments[1:], corpus], feed)
        atheris.Fuzz()


def _limits() -> list[str]:
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    # the corpus and the coverage counters grow too; a leak or a bomb is far beyond them
    return [
        f"-timeout={_SECONDS_AN_INPUT}",
        f"-rss_limit_mb={own + 2 * _MEBIBYTES_MORE}",
        f"-malloc_limit_mb={_MEBIBYTES_MORE}",
        f"-max_len={_LONGEST_INPUT}",
        f"-artifact_prefix={_FOUND}/",
    ]


main(sys.argv[1:])
