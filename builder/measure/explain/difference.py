"""Naming the first event that differs: equality of registers is the verdict, events explain it (`quotes.md` 4)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from builder.errors import DocumentError
from builder.model.event import (
    EV_NO_ACTION,
    ExpectedEvent,
    MeasuredEvent,
    PredictedEvent,
    UnpredictedEvent,
    event_type_name,
)
from builder.model.reference_values import PREDICTED_REGISTERS

_Observed = MeasuredEvent | UnpredictedEvent

E = TypeVar("E", ExpectedEvent, _Observed)


@dataclass(frozen=True)
class EventDifference:
    """The first place where two sequences of events disagree; a side is None where it has no event any more.

    If `predicted` is an UnpredictedEvent, everything else agrees and only this event cannot be compared.
    """

    register: str
    position: int
    predicted: ExpectedEvent | None
    observed: _Observed | None

    @property
    def proven(self) -> bool:
        """Whether the two sides do differ; False if there is nothing to compare the observed event with."""
        if isinstance(self.predicted, UnpredictedEvent) and self.predicted.repeats:
            return False
        return self.predicted is None or self.observed is None or _differs(self.predicted, self.observed)

    def describe(self) -> str:
        """One sentence: register, position, type, name, both digests, and what decides the predicted one."""
        source = f"; decided by {self.predicted.input}" if isinstance(self.predicted, PredictedEvent) else ""
        return (
            f"{self.register} event {self.position}: "
            f"predicted {_described(self.predicted)}, found {_described(self.observed)}{source}"
        )


def first_difference(predicted: Iterable[ExpectedEvent], observed: Iterable[_Observed]) -> EventDifference | None:
    """The first difference in type or digest, RTMR[0] before RTMR[1] before RTMR[2]; None if there is none.

    Logs interleave registers, so events are compared register by register; RTMR[3] and EV_NO_ACTION are left out. An
    event that could not be predicted equals nothing: where no other differs, the first such event is the difference.
    DocumentError if nothing was predicted, since equality with nothing means nothing.
    """
    expected, found = tuple(predicted), tuple(observed)
    if not expected:
        raise DocumentError("no predicted events to compare with")
    unequal = list(_unequal(expected, found))
    return next((each for each in unequal if each.proven), unequal[0] if unequal else None)


def _unequal(expected: Sequence[ExpectedEvent], found: Sequence[_Observed]) -> Iterator[EventDifference]:
    for register in PREDICTED_REGISTERS:
        pairs = zip_longest(_of_register(expected, register), _of_register(found, register))
        for position, (left, right) in enumerate(pairs):
            difference = EventDifference(register, position, left, right)
            if difference.proven or not isinstance(left, PredictedEvent):
                yield difference
            if isinstance(left, UnpredictedEvent) and left.repeats:
                break  # nobody knows how many events it stands for: what follows has no place


def _differs(predicted: ExpectedEvent, observed: _Observed) -> bool:
    if predicted.event_type != observed.event_type:
        return True
    return isinstance(predicted, PredictedEvent) and predicted.digest != getattr(observed, "digest", None)


def _of_register(events: Sequence[E], register: str) -> list[E]:
    return [event for event in events if event.register == register and event.event_type != EV_NO_ACTION]


def _described(event: ExpectedEvent | _Observed | None) -> str:
    if event is None:
        return "nothing"
    name = f" {event.name!r}" if event.name else ""
    digest = getattr(event, "digest", None) or "that could not be predicted"
    return f"{event_type_name(event.event_type)}{name} {digest}"
