"""stdout and stderr: what may be shown, and what happens when they take nothing any more.

A full disk or a closed pipe never looks like a verdict (Python would exit with 1 or 120), and gives no traceback.
Names and messages may come from a hostile file or server: what is not printable is shown as an escape.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


class LostOutputError(Exception):
    """A stream did not take what was written to it."""


def prepare_streams() -> None:
    """Make the streams of this process safe to use, whatever the caller closed and whatever the locale can encode."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # else the next file that is opened would be stdout or stderr for whoever writes there
    os.close(descriptor)
    if sys.stderr is None:  # `print` would go to stdout instead
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - open until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def delivered(stream: TextIO | None) -> Iterator[None]:
    """LostOutputError if `stream` is closed or takes nothing; nothing is left in it that Python would try at exit."""
    if stream is None:
        raise LostOutputError("stdout is closed, so the result could not be printed")
    try:
        yield
    except OSError as error:
        with suppress(OSError, ValueError):  # ValueError: a stream without a descriptor
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        raise LostOutputError(f"the result could not be printed: {error.strerror}") from error


def note(text: str) -> None:
    """Lines for people, on stderr; lost in silence if stderr is, because the exit status tells what matters."""
    with suppress(LostOutputError), delivered(sys.stderr):
        print(shown(text), file=sys.stderr, flush=True)  # noqa: T201


def shown(text: str, *, keep: str = "\n\t") -> str:
    """`text` as it may go to a terminal: other characters that are not printable, lone surrogates too, as escapes."""
    return "".join(each if each.isprintable() or each in keep else ascii(each)[1:-1] for each in text)
