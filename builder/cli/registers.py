"""Registers as tables and documents, for every verb that shows them."""

from dataclasses import asdict
from typing import Any

from builder.cli.output import Table
from builder.model.launch_profile import CAVEATS
from builder.model.reference_values import ReferenceValues


def registers_document(values: ReferenceValues) -> dict[str, Any]:
    """Registers by profile name, lower-case hex; MRTD also in both page orders."""
    return {
        "mrtd": {str(order): value for order, value in values.mrtd.items()},
        "profiles": {prediction.profile.name: asdict(prediction.registers) for prediction in values.predictions},
    }


def registers_table(values: ReferenceValues) -> Table:
    """One row a profile, each register by its first 16 digits."""
    rows = tuple(
        (
            prediction.profile.name,
            *(f"{value[:16]}…" if value else "not predicted" for value in asdict(prediction.registers).values()),
            str(len(prediction.events)),
        )
        for prediction in values.predictions
    )
    return Table(("profile", "MRTD", "RTMR0", "RTMR1", "RTMR2", "events"), rows, caption="Reference Values")


def caveat_lines(values: ReferenceValues) -> list[str]:
    """What has to be known before these values are relied upon, each once."""
    keys = {key for prediction in values.predictions for key in prediction.profile.caveats}
    return [f"caveat: {CAVEATS[key]}" for key in sorted(keys)]


def unpredicted_lines(values: ReferenceValues) -> list[str]:
    """Why registers are missing, each reason once."""
    events = dict.fromkeys(event for prediction in values.predictions for event in prediction.unpredicted)
    return [f"not predicted: {event.register}, {event.name}: {event.reason}" for event in events]
