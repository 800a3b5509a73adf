"""`eventlog show|replay` and `quote show`: Evidence, parsed and replayed. Nothing here verifies a signature."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import click

from builder.cli.output import Result, Table, emit
from builder.cli.wiring import json_option
from builder.errors import DocumentError
from builder.measure.dstack_log import parse_dstack_event_log
from builder.measure.event_log import parse_ccel, parse_tpm_log
from builder.measure.quote import parse_quote
from builder.measure.rtmr import replay as replay_events
from builder.model.event import ParsedEvent
from builder.pipeline.files import read_document

T = TypeVar("T")

_FORMATS = {"ccel": parse_ccel, "tpm": parse_tpm_log, "dstack": parse_dstack_event_log}


@click.group()
def eventlog() -> None:
    """Show or replay an event log."""


@click.group()
def quote() -> None:
    """Show the registers of a quote."""


def _format_option(command: "click.decorators.FC") -> "click.decorators.FC":
    return click.option(
        "--format",
        "kind",
        type=click.Choice(list(_FORMATS)),
        help="Kind of log.  [default: dstack for JSON, else ccel]",
    )(command)


@eventlog.command("show")
@click.argument("log", type=click.Path(path_type=Path))
@_format_option
@json_option
def show(log: Path, kind: str | None, *, as_json: bool) -> int:
    """List the events of LOG."""
    events = _events(log, kind)
    rows = tuple((event.register or "-", event.type_name, event.name, event.digest) for event in events)
    document = {"events": [{**asdict(event), "data": event.data.hex()} for event in events]}
    return emit(
        Result("eventlog show", document, [Table(("register", "type", "event", "SHA-384"), rows)]), as_json=as_json
    )


@eventlog.command("replay")
@click.argument("log", type=click.Path(path_type=Path))
@_format_option
@json_option
def replay(log: Path, kind: str | None, *, as_json: bool) -> int:
    """Print the registers that the events of LOG lead to. They are as good as the log, until a quote agrees."""
    registers = dict(replay_events(_events(log, kind)))
    lines = [f"{name} {value}" for name, value in sorted(registers.items())]
    return emit(Result("eventlog replay", registers, lines), as_json=as_json)


@quote.command("show")
@click.argument("path", type=click.Path(path_type=Path), metavar="QUOTE")
@json_option
def show_quote(path: Path, *, as_json: bool) -> int:
    """Print the fields of a TDX quote. Its signature is not checked."""
    parsed = _parsed(path, parse_quote)
    fields = {name: value for name, value in asdict(parsed.body).items() if value is not None}
    lines = [f"version {parsed.version}; signature not checked", *(f"{name} {value}" for name, value in fields.items())]
    return emit(Result("quote show", {"version": parsed.version, **fields}, lines), as_json=as_json)


def _events(log: Path, kind: str | None) -> tuple[ParsedEvent, ...]:
    def parse(data: bytes) -> tuple[ParsedEvent, ...]:
        return _FORMATS[kind or ("dstack" if data.lstrip()[:1] == b"[" else "ccel")](data)

    events = _parsed(log, parse)
    if not events:
        raise DocumentError(f"{log}: a log without events, which says nothing about any register")
    return events


def _parsed(path: Path, parse: Callable[[bytes], T]) -> T:
    """The file at `path`, parsed; its errors name it, because the core knows bytes only."""
    data = read_document(path)
    if not data:
        raise DocumentError(f"{path}: empty")
    try:
        return parse(data)
    except DocumentError as error:
        raise DocumentError(f"{path}: {error.message}", hint=error.hint) from error
