"""`eventlog diff`: which event of a log is not the predicted one, and what that means."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder.cli.evidence_files import CCEL, DSTACK, data_covered, format_option, read_log, read_quote
from builder.cli.output import Result, Table, emit
from builder.cli.wiring import json_option
from builder.errors import ExitStatus
from builder.measure.evidence.event_log import EventLog
from builder.measure.rtmr import replay
from builder.model.event import ExpectedEvent, MeasuredEvent, ParsedEvent, UnpredictedEvent, event_type_name

if TYPE_CHECKING:
    from builder.measure.evidence.quote import TdReportBody
    from builder.measure.explain.neighbours import Materials
    from builder.pipeline.log_diff import Expectation, ExplainedRegister, LogDifference

_CHOSEN = {"stated": "as stated", "fits": "which fits", "nearest": "the nearest of those published"}


@click.command("diff")
@click.argument("log", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    required=True,
    help="A manifest, or what `measure --json` printed.",
)
@click.option("--profile", metavar="NAME", help="Launch profile of the TD.  [default: the one that fits, or nearest]")
@click.option("--quote", "quote_path", type=click.Path(path_type=Path), help="The TD's quote, whose registers decide.")
@click.option("--key", "keys", type=click.Path(path_type=Path), multiple=True, help="Public key of the manifest.")
@click.option("--firmware", type=click.Path(path_type=Path), help="Firmware, to try other memory sizes with.")
@click.option("--kernel", "kernels", type=click.Path(path_type=Path), multiple=True, help="A kernel to try.")
@click.option("--initrd", "initrds", type=click.Path(path_type=Path), multiple=True, help="An initrd to try.")
@click.option("--cmdline", "command_lines", multiple=True, help="A command line to try.")
@format_option(CCEL, DSTACK)
@json_option
def diff(
    log: Path,
    against: Path,
    profile: str | None,
    quote_path: Path | None,
    kind: str | None,
    *,
    as_json: bool,
    keys: tuple[Path, ...],
    **files: Any,
) -> int:
    """Compare the events of LOG with the predicted ones; name the first that differs in each register.

    What it means is said where something near the prediction fits: another memory size, vCPU count, command line, and
    so on. With --quote the registers of the quote decide, and LOG has to replay to them. No quote's signature is
    checked. Status 6 if a register differs, 8 if one could not be compared.
    """
    from builder.backends.signers import load_public_key
    from builder.pipeline.log_diff import diff_log, read_expectation

    expectation = read_expectation(against, [load_public_key(path) for path in keys])
    kind, events = read_log(log, kind)
    body = read_quote(quote_path)[0].body if quote_path else None
    materials = _materials(expectation, **files)
    found = diff_log(expectation, events.events, profile=profile, quote=body, materials=materials)
    notes = [
        f"compared with {expectation.origin}",
        *events.notes,
        *_quote_notes(body),
        *_rtmr3_notes(events, body),
        *_data_notes(events, kind),
    ]
    in_debug = [ExitStatus.NOT_PROVEN] if body is not None and body.debug else []
    document = {
        "profile": found.profile,
        "profile_chosen": found.chosen,
        "against": expectation.origin,
        "registers": {each.comparison.register: _register_document(each) for each in found.registers},
        "notes": notes,
    }
    return emit(Result("eventlog diff", document, _blocks(found, notes), [*found.statuses, *in_debug]), as_json=as_json)


def _materials(
    expectation: "Expectation",
    *,
    firmware: Path | None,
    kernels: tuple[Path, ...],
    initrds: tuple[Path, ...],
    command_lines: tuple[str, ...],
) -> "Materials":
    from builder.measure.explain.neighbours import Materials
    from builder.pipeline.acpi import generated_digests
    from builder.pipeline.files import read_document

    published = () if expectation.command_line is None else (expectation.command_line,)
    return Materials(
        firmware=read_document(firmware) if firmware else None,
        kernels=tuple(read_document(path) for path in kernels),
        initrds=tuple(read_document(path) for path in initrds),
        command_lines=(*published, *command_lines),
        acpi=generated_digests,
    )


def _quote_notes(body: "TdReportBody | None") -> list[str]:
    if body is None:
        return ["no quote: MRTD was not compared, and the outcome is as good as the log"]
    debug = ["this TD runs in debug mode: its registers prove nothing"] if body.debug else []
    return ["the quote's signature was not checked", *debug]


def _rtmr3_notes(log: EventLog, body: "TdReportBody | None") -> list[str]:
    """RTMR3 is the application's: nothing is expected of it here, and nobody should think that something was."""
    replayed = replay(log.events)["rtmr3"]
    if body is None:
        return [f"rtmr3: not compared; the log replays to {replayed}"]
    if body.rtmr3 == replayed:
        return [f"rtmr3: not compared; the log replays to the quote's, {replayed}"]
    return [
        f"rtmr3: not compared, and the log does not explain it: it replays to {replayed}, the quote has {body.rtmr3}"
    ]


def _data_notes(log: EventLog, kind: str) -> list[str]:
    changed = [str(event.position) for event in log.events if data_covered(event, kind) is False]
    if not changed:
        return []
    return [f"data changed after it was measured, in records {', '.join(changed)}: only digests were compared"]


def _blocks(found: "LogDifference", notes: list[str]) -> list[str | Table]:
    rows = tuple(
        (each.comparison.register, str(each.comparison.outcome), each.comparison.detail) for each in found.registers
    )
    caption = f"Profile {found.profile}, {_CHOSEN[found.chosen]}"
    meaning = [f"{each.comparison.register}: this fits: {text}" for each in found.registers for text in each.meaning]
    return [Table(("register", "outcome", "what was found"), rows, caption=caption), *meaning, *notes]


def _register_document(register: "ExplainedRegister") -> dict[str, Any]:
    comparison = register.comparison
    document: dict[str, Any] = {
        "outcome": str(comparison.outcome),
        "detail": comparison.detail,
        "is_evidence": comparison.is_evidence,
        "meaning": list(register.meaning),
    }
    if comparison.difference is not None:
        document["first_difference"] = {
            "position": comparison.difference.position,
            "predicted": _event_document(comparison.difference.predicted),
            "found": _event_document(comparison.difference.observed),
        }
    return document


def _event_document(event: ExpectedEvent | MeasuredEvent | None) -> dict[str, Any] | None:
    if event is None:
        return None
    document: dict[str, Any] = {
        "type": event.event_type,
        "type_name": event_type_name(event.event_type),
        "name": event.name,
    }
    if isinstance(event, UnpredictedEvent):
        return {**document, "not_predicted": event.reason}
    if isinstance(event, ParsedEvent):
        document["record"] = event.position  # in the log, while `position` counts the register's events
    return {**document, "digest": event.digest}
