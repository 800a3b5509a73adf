"""--engine-a and --engine-b: in which sandbox each leg runs."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])

_METAVAR = "bubblewrap|docker[=CONTEXT|=URL]"


def engine_options(command: Command) -> Command:
    """--engine-a and --engine-b, as parameters `engine_a` and `engine_b`; None where nobody chose."""
    command = click.option(
        "--engine-b",
        metavar=_METAVAR,
        help="Sandbox of leg b.  [default: docker if a daemon answers, else bubblewrap]",
    )(command)
    return click.option("--engine-a", metavar=_METAVAR, help="Sandbox of leg a.  [default: bubblewrap]")(command)


def chosen_engines(engine_a: str | None, engine_b: str | None, *, legs: Sequence[str] = ("a", "b")) -> dict[str, str]:
    """The engine of each of the `legs` to build, as `open_engine` takes it.

    An engine that was asked for by name is tried at once: MissingError if it is not to be had, so that nobody waits for
    that until inputs are fetched. Where nobody chose, and docker is not to be had, a note on stderr says so.
    """
    asked = {"a": engine_a, "b": engine_b}
    chosen = {leg: asked[leg] or _default(leg) for leg in legs}
    _require({engine for leg, engine in chosen.items() if asked[leg]})
    return chosen


def _default(leg: str) -> str:
    from builder.backends.engines import BUBBLEWRAP, default_engine_b

    if leg == "a":
        return BUBBLEWRAP
    engine, note = default_engine_b()
    if note:
        click.echo(f"note: {note}", err=True)
    return engine


def _require(engines: set[str]) -> None:
    from builder.backends.engines import open_engine

    for engine in sorted(engines):
        _ = open_engine(engine).engine_version
