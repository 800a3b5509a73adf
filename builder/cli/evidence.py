"""`eventlog show|replay|diff` and `quote show`: Evidence, parsed and replayed. No signature of a quote is verified."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from builder.cli.evidence_files import (
    CCEL,
    DSTACK,
    TPM,
    data_covered,
    format_option,
    parsed_file,
    read_log,
    read_quote,
)
from builder.cli.log_diff import diff
from builder.cli.output import Result, Table, emit
from builder.cli.wiring import json_option
from builder.errors import ExitStatus
from builder.measure.evidence.ccel_table import check_log_area, parse_ccel_table
from builder.measure.evidence.event_structure import StructureFinding, structure_findings
from builder.measure.evidence.event_text import event_text
from builder.measure.evidence.form import event_log_input
from builder.measure.rtmr import replay as replay_events
from builder.model.event import DSTACK_RUNTIME_EVENT, ParsedEvent

_COVERAGE = {True: "covered", False: "CHANGED", None: "not covered"}


@click.group()
def eventlog() -> None:
    """Show, replay or compare an event log."""


@click.group()
def quote() -> None:
    """Show the registers of a quote."""


@eventlog.command("show")
@click.argument("log", type=click.Path(path_type=Path))
@format_option(CCEL, TPM, DSTACK)
@click.option("--edk2", metavar="YYYYMM", help="Release of the firmware: check the separators that it measures.")
@click.option("--table", type=click.Path(path_type=Path), help="The guest's ACPI table CCEL: check the log against it.")
@json_option
def show(log: Path, kind: str | None, edk2: str | None, table: Path | None, *, as_json: bool) -> int:
    """List the events of LOG, and whether each digest covers the data beside it.

    Status 7 if data was changed after it was measured, or the separators are not those of --edk2.
    """
    kind, parsed = read_log(log, kind)
    notes = list(parsed.notes)
    if table is not None and kind != CCEL:
        raise click.UsageError("--table is the table of a CCEL, and this log is none")
    if table is not None:
        notes.append(_check_table(table, log))
    if edk2 is not None and kind == TPM:
        raise click.UsageError("--edk2 is for the log of a TD; a TPM has a separator for every PCR")
    findings = () if kind == TPM else structure_findings(parsed.events, edk2=edk2)
    covered = [data_covered(event, kind) for event in parsed.events]
    document = {
        "kind": kind,
        "events": [_event_document(*each) for each in zip(parsed.events, covered, strict=True)],
        "structure": [asdict(finding) for finding in findings],
        "notes": notes,
    }
    blocks: list[str | Table] = [
        _events_table(parsed.events, covered),
        *_faults(parsed.events, covered, findings),
        *notes,
    ]
    faulty = False in covered or any(finding.wrong for finding in findings)
    return emit(
        Result("eventlog show", document, blocks, [ExitStatus.NOT_VERIFIED if faulty else ExitStatus.OK]),
        as_json=as_json,
    )


@eventlog.command("replay")
@click.argument("log", type=click.Path(path_type=Path))
@format_option(CCEL, TPM, DSTACK)
@json_option
def replay(log: Path, kind: str | None, *, as_json: bool) -> int:
    """Print the registers that the events of LOG lead to. They are as good as the log, until a quote agrees."""
    _, parsed = read_log(log, kind)
    registers = dict(replay_events(parsed.events))
    lines = [f"{name} {value}" for name, value in sorted(registers.items())]
    return emit(Result("eventlog replay", registers, lines), as_json=as_json)


@quote.command("show")
@click.argument("path", type=click.Path(path_type=Path), metavar="QUOTE")
@json_option
def show_quote(path: Path, *, as_json: bool) -> int:
    """Print the fields of a TDX quote: a binary file, hex, base64, or JSON with a member `quote`.

    Its signature is not checked.
    """
    parsed, form = read_quote(path)
    fields = {name: value for name, value in asdict(parsed.body).items() if value is not None}
    attributes = parsed.body.td_attribute_names
    document = {
        "version": parsed.version,
        "form": form,
        "trailing": parsed.trailing,
        "td_attribute_names": list(attributes),
        **fields,
    }
    lines = [
        f"version {parsed.version}; signature not checked",
        f"{form}, {parsed.used} bytes{f', and {parsed.trailing} of padding' if parsed.trailing else ''}",
        *(f"{name} {value}" for name, value in fields.items()),
        f"TDATTRIBUTES: {', '.join(attributes) or 'none'}",
    ]
    if parsed.body.debug:
        lines.append("this TD runs in debug mode: its memory is open to the host, and its registers prove nothing")
    return emit(Result("quote show", document, lines), as_json=as_json)


def _check_table(table: Path, log: Path) -> str:
    parsed = parsed_file(table, parse_ccel_table)
    parsed_file(log, lambda data: check_log_area(parsed, event_log_input(data).data))
    return (
        f"{table}: a CCEL table of a TD, log area of {parsed.log_area_minimum_length:#x} bytes at "
        f"{parsed.log_area_start_address:#x}"
    )


def _event_document(event: ParsedEvent, covered: bool | None) -> dict[str, Any]:
    return {
        **asdict(event),
        "data": event.data.hex(),
        "type_name": event.type_name,
        "text": event_text(event),
        "data_covered": covered,
    }


def _events_table(events: tuple[ParsedEvent, ...], covered: list[bool | None]) -> Table:
    rows = tuple(
        (
            str(event.position),
            event.register or "-",
            event.type_name,
            _COVERAGE[verdict] if event.data or verdict else "not shown",
            event.digest,
            event.name if event.event_type == DSTACK_RUNTIME_EVENT else event_text(event) or event.name,
        )
        for event, verdict in zip(events, covered, strict=True)
    )
    return Table(("", "register", "type", "data", "SHA-384", "event"), rows)


def _faults(
    events: tuple[ParsedEvent, ...], covered: list[bool | None], findings: tuple[StructureFinding, ...]
) -> list[str]:
    changed = [
        f"event {event.position} ({event.type_name} of {event.register or 'no register'}): its data was changed after "
        "it was measured: the digest is not the one of this data"
        for event, verdict in zip(events, covered, strict=True)
        if verdict is False
    ]
    structure = [
        f"{'WRONG' if finding.wrong else 'note'}: "
        + (f"event {finding.position}: " if finding.position is not None else "")
        + finding.text
        for finding in findings
    ]
    return [*changed, *structure]


eventlog.add_command(diff)
