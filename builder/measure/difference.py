"""Naming the first event that differs: equality of registers is the verdict, events explain it (`quotes.md` 4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from builder.errors import DocumentError
from builder.model.event import EV_NO_ACTION, MeasuredEvent, PredictedEvent, event_type_name
from builder.model.reference_values import PREDICTED_REGISTERS

E = TypeVar("E", bound=MeasuredEvent)


@dataclass(frozen=True)
class EventDifference:
    """The first place where two sequences of events disagree; a side is None where it has no event any more."""

    register: str
    position: int
    predicted: PredictedEvent | None
    observed: MeasuredEvent | None

    def describe(self) -> str:
        """One sentence: register, position, type, name, both digests, and what decides the predicted one."""
        source = f"; decided by {self.predicted.input}" if self.predicted else ""
        return (
            f"{self.register} event {self.position}: "
            f"predicted {_described(self.predicted)}, found {_described(self.observed)}{source}"
        )


def first_difference(predicted: Iterable[PredictedEvent], observed: Iterable[MeasuredEvent]) -> EventDifference | None:
    """The first difference in type or digest, RTMR[0] before RTMR[1] before RTMR[2]; None if there is none.

    Logs interleave registers, so events are compared register by register; RTMR[3] and EV_NO_ACTION are left out.
    DocumentError if nothing was predicted, since equality with nothing means nothing.
    """
    expected, found = tuple(predicted), tuple(observed)
    if not expected:
        raise DocumentError("no predicted events to compare with")
    for register in PREDICTED_REGISTERS:
        pairs = zip_longest(_of_register(expected, register), _of_register(found, register))
        for position, (left, right) in enumerate(pairs):
            if left is None or right is None or (left.event_type, left.digest) != (right.event_type, right.digest):
                return EventDifference(register, position, left, right)
    return None


def _of_register(events: Sequence[E], register: str) -> list[E]:
    return [event for event in events if event.register == register and event.event_type != EV_NO_ACTION]


def _described(event: MeasuredEvent | None) -> str:
    if event is None:
        return "nothing"
    name = f" {event.name!r}" if event.name else ""
    return f"{event_type_name(event.event_type)}{name} {event.digest}"
