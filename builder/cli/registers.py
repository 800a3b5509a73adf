"""Registers as tables and documents, for every verb that shows them."""

from collections.abc import Iterable
from typing import Any

from builder.cli.output import Table
from builder.model.event import ExpectedEvent, UnpredictedEvent
from builder.model.launch_profile import CAVEATS
from builder.model.reference_values import ReferenceValues, Registers

_NOT_PREDICTED = "not predicted"


def registers_document(values: ReferenceValues) -> dict[str, Any]:
    """Registers by profile name, lower-case hex, None where not predicted; MRTD also in both page orders.

    Of a single profile they stand at the top as well, where whoever has one machine looks for them.
    """
    profiles = {prediction.profile.name: _registers(prediction.registers) for prediction in values.predictions}
    only = next(iter(profiles.values())) if len(profiles) == 1 else {}
    return {
        **only,
        "mrtd_page_orders": {str(order): value for order, value in values.mrtd.items()},
        "profiles": profiles,
    }


def registers_table(values: ReferenceValues) -> Table:
    """One row a profile, each register by its first 16 digits."""
    rows = tuple(
        (
            prediction.profile.name,
            *(f"{value[:16]}…" if value else _NOT_PREDICTED for value in _registers(prediction.registers).values()),
            str(len(prediction.events)),
        )
        for prediction in values.predictions
    )
    return Table(("profile", "MRTD", "RTMR0", "RTMR1", "RTMR2", "events"), rows, caption="Reference Values")


def register_lines(values: ReferenceValues) -> list[str]:
    """The registers of a single profile, whole."""
    (prediction,) = values.predictions
    return [
        f"Reference Values of {prediction.profile.name}, MRTD in page order {prediction.profile.page_order}",
        *(f"{name} {value or _NOT_PREDICTED}" for name, value in _registers(prediction.registers).items()),
    ]


def caveat_lines(values: ReferenceValues) -> list[str]:
    """What has to be known before these values are relied upon, each once."""
    keys = {key for prediction in values.predictions for key in prediction.profile.caveats}
    return [f"caveat: {CAVEATS[key]}" for key in sorted(keys)]


def unpredicted_lines(values: ReferenceValues) -> list[str]:
    """Why registers are missing, each reason once."""
    events = dict.fromkeys(event for prediction in values.predictions for event in prediction.unpredicted)
    return [f"not predicted: {event.register}, {event.name}: {event.reason}" for event in events]


def events_table(events: Iterable[ExpectedEvent], *, caption: str) -> Table:
    """The events behind registers, with what decided each, or why it is not predicted."""
    return Table(
        ("register", "type", "event", "SHA-384", "decided by"), tuple(map(_event_row, events)), caption=caption
    )


def _registers(registers: Registers) -> dict[str, str | None]:
    return {
        "mrtd": registers.mrtd,
        "rtmr0": registers.rtmr0,
        "rtmr1": registers.rtmr1,
        "rtmr2": registers.rtmr2,
    }


def _event_row(event: ExpectedEvent) -> tuple[str, ...]:
    if isinstance(event, UnpredictedEvent):
        return (event.register, event.type_name, event.name, _NOT_PREDICTED, event.reason)
    return (event.register, event.type_name, event.name, event.digest, event.input)
