"""An event log, and where there is one a quote, against what was predicted, register by register (`quotes.md` 4).

Equality of registers is the verdict, and the log explains. Nothing here verifies a signature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from builder.measure.evidence.quote import TdReportBody
from builder.measure.explain.difference import EventDifference, first_difference
from builder.measure.rtmr import replay
from builder.model.event import EV_NO_ACTION, MeasuredEvent, ParsedEvent
from builder.model.reference_values import PREDICTED_REGISTERS, Prediction


class Outcome(StrEnum):
    """What is known of a register. NOT_PROVEN: something could not be compared, and nothing was found that differs."""

    EQUAL = "equal"
    DIFFERS = "differs"
    NOT_PROVEN = "not proven"


@dataclass(frozen=True)
class RegisterComparison:
    """One register. `difference` is the first event that differs, or cannot be compared; None where there is none, or
    where the log says nothing about the register because it does not replay to the quote (`is_evidence` False)."""

    register: str
    outcome: Outcome
    detail: str
    difference: EventDifference | None = None
    is_evidence: bool = True


def compare_log(
    prediction: Prediction, events: Sequence[ParsedEvent], *, quote: TdReportBody | None = None
) -> tuple[RegisterComparison, ...]:
    """MRTD (with a quote only) and RTMR[0] to RTMR[2] of one profile.

    With a quote its registers decide, and the log has to replay to them before it explains anything: a register whose
    replay is another value is not equal, even if the quote's is, because then the log is not this TD's. Without a quote
    the log's events decide, and the outcome is as good as the log. The caller owes the check that the prediction's
    events replay to its registers (`check_predictions`).
    """
    replayed = replay(events)
    if quote is None:
        return tuple(_by_events(register, prediction, events) for register in PREDICTED_REGISTERS)
    return (
        _mrtd(prediction, quote),
        *(_by_quote(register, prediction, events, quoted=quote, replayed=replayed) for register in PREDICTED_REGISTERS),
    )


def best_comparison(
    predictions: Sequence[Prediction], events: Sequence[ParsedEvent], *, quote: TdReportBody | None = None
) -> tuple[Prediction, tuple[RegisterComparison, ...]]:
    """The profile that fits, or the one that fits furthest: most registers equal, then most events before the first
    difference, then the first one listed. ValueError for no predictions."""
    compared = [(prediction, compare_log(prediction, events, quote=quote)) for prediction in predictions]
    return max(compared, key=lambda each: _rank(each[1]))


def _rank(registers: Sequence[RegisterComparison]) -> tuple[int, int, int]:
    outcomes = [each.outcome for each in registers]
    positions = sum(each.difference.position for each in registers if each.difference)
    return -outcomes.count(Outcome.DIFFERS), outcomes.count(Outcome.EQUAL), positions


def _mrtd(prediction: Prediction, quote: TdReportBody) -> RegisterComparison:
    predicted = prediction.registers.mrtd
    if quote.mrtd == predicted:
        return RegisterComparison("mrtd", Outcome.EQUAL, "the quote's is the predicted one")
    return RegisterComparison("mrtd", Outcome.DIFFERS, f"predicted {predicted}, the quote has {quote.mrtd}")


def _by_events(register: str, prediction: Prediction, events: Sequence[ParsedEvent]) -> RegisterComparison:
    difference = _first_in(register, prediction, events)
    if difference is None:
        count = len(prediction.of_register(register))
        return RegisterComparison(register, Outcome.EQUAL, f"{count} events as predicted")
    outcome = Outcome.DIFFERS if difference.proven else Outcome.NOT_PROVEN
    return RegisterComparison(register, outcome, _described(difference), difference)


def _by_quote(
    register: str,
    prediction: Prediction,
    events: Sequence[ParsedEvent],
    *,
    quoted: TdReportBody,
    replayed: dict[str, str],
) -> RegisterComparison:
    found, predicted = getattr(quoted, register), getattr(prediction.registers, register)
    if replayed[register] != found:
        return _foreign(register, found=found, predicted=predicted, replayed=replayed[register])
    if found == predicted:
        return RegisterComparison(register, Outcome.EQUAL, "quote and log are as predicted")
    by_events = _by_events(register, prediction, events)
    outcome = Outcome.DIFFERS if predicted is not None else by_events.outcome
    return RegisterComparison(register, outcome, by_events.detail, by_events.difference)


def _foreign(register: str, *, found: str, predicted: str | None, replayed: str) -> RegisterComparison:
    """A register that the log does not explain: it was extended after the log was read, or the log is another TD's."""
    text = f"the log is no evidence for it: it replays to {replayed}, the quote has {found}"
    if predicted is None:
        return RegisterComparison(register, Outcome.NOT_PROVEN, text, is_evidence=False)
    if found == predicted:
        text = f"{text}, which is the predicted one"
        return RegisterComparison(register, Outcome.NOT_PROVEN, text, is_evidence=False)
    return RegisterComparison(register, Outcome.DIFFERS, f"{text}; predicted {predicted}", is_evidence=False)


def _first_in(register: str, prediction: Prediction, events: Sequence[ParsedEvent]) -> EventDifference | None:
    expected = prediction.of_register(register)
    found: list[MeasuredEvent] = [
        event for event in events if event.register == register and event.event_type != EV_NO_ACTION
    ]
    if expected:
        return first_difference(expected, found)
    return EventDifference(register, 0, None, found[0]) if found else None


def _described(difference: EventDifference) -> str:
    text = difference.describe()
    reason = getattr(difference.predicted, "reason", None)
    return f"{text}: {reason}" if reason else text
