"""Evidence by path: event logs and quotes in the forms in which they are handed around."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from builder.errors import DocumentError
from builder.measure.dstack.log import parse_dstack_event_log
from builder.measure.evidence.event_data import data_matches_digest
from builder.measure.evidence.event_log import EventLog, read_ccel, read_tpm_log
from builder.measure.evidence.form import event_log_input, quote_input
from builder.measure.evidence.quote import Quote, parse_quote
from builder.model.event import DSTACK_RUNTIME_EVENT, ParsedEvent
from builder.pipeline.files import read_document

T = TypeVar("T")

CCEL, TPM, DSTACK = "ccel", "tpm", "dstack"


def format_option(*kinds: str) -> "Callable[[click.decorators.FC], click.decorators.FC]":
    """`--format`, with these kinds of log."""
    return click.option(
        "--format", "kind", type=click.Choice(list(kinds)), help="Kind of log.  [default: dstack for JSON, else ccel]"
    )


def read_log(path: Path, kind: str | None) -> tuple[str, EventLog]:
    """The log at `path` with its kind. DocumentError, naming the path, for what is none and for one without events."""

    def parse(data: bytes) -> tuple[str, EventLog]:
        found = kind or (DSTACK if data.lstrip()[:1] == b"[" else CCEL)
        if found == DSTACK:
            return found, EventLog(parse_dstack_event_log(data), len(data))
        if found == TPM:
            return found, read_tpm_log(data)
        return found, read_ccel(data) if kind else _assumed_ccel(data)

    found, log = parsed_file(path, lambda data: parse(event_log_input(data).data))
    if not log.events:
        raise DocumentError(f"{path}: a log without events, which says nothing about any register")
    return found, log


def _assumed_ccel(data: bytes) -> EventLog:
    try:
        return read_ccel(data)
    except DocumentError as error:
        if not _is_tpm_log(data):
            raise
        raise DocumentError(error.message, hint="it may be the log of a TPM: then say so with --format tpm") from error


def _is_tpm_log(data: bytes) -> bool:
    try:
        return bool(read_tpm_log(data).events)
    except DocumentError:
        return False


def read_quote(path: Path) -> tuple[Quote, str]:
    """The quote at `path`, and the form it came in. DocumentError, naming the path, for what is none."""

    def parse(data: bytes) -> tuple[Quote, str]:
        given = quote_input(data)
        return parse_quote(given.data), given.form

    return parsed_file(path, parse)


def parsed_file(path: Path, parse: Callable[[bytes], T]) -> T:
    """The file at `path`, parsed; its errors name it, because the core knows bytes only."""
    data = read_document(path)
    if not data:
        raise DocumentError(f"{path}: empty")
    try:
        return parse(data)
    except DocumentError as error:
        raise DocumentError(f"{path}: {error.message}", hint=error.hint) from error


def data_covered(event: ParsedEvent, kind: str) -> bool | None:
    """`data_matches_digest` in a log of this kind.

    dstack's parser has compared runtime events with their digests; boot events of its short logs show no data.
    """
    if kind == DSTACK and event.event_type == DSTACK_RUNTIME_EVENT:
        return True
    if kind == DSTACK and not event.data:
        return None
    return data_matches_digest(event)
