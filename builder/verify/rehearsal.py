"""What a manifest says about its rehearsal, checked against the Reference Values beside it. Pure.

Not checked: that the rehearsal took place. It is the publisher's word, and `tdx-builder rehearse` repeats it.
"""

from collections.abc import Mapping
from typing import Any

from builder.errors import VerificationError
from builder.measure.acpi.blobs import TPM_LOG_FILE
from builder.model.event import UnpredictedEvent
from builder.model.reference_values import PREDICTED_REGISTERS, Prediction, ReferenceValues
from builder.model.rehearsal import EventVerdict


def check_rehearsal(run: Mapping[str, Any], values: ReferenceValues, *, what: str) -> None:
    """VerificationError if a `run` that was rehearsed names another profile, or other events than were predicted.

    A run that says nothing of a rehearsal, or that there was none, is left as it is. It fits the schema `release-v1`.
    """
    record = run.get("rehearsal", {"rehearsed": False})
    if not record["rehearsed"]:
        return
    found = [prediction for prediction in values.predictions if prediction.profile.name == record["profile"]]
    if not found:
        raise VerificationError(f"{what}: the rehearsal is of {record['profile']!r}, which there are no values for")
    listed = [
        (event["register"], event["type"], event["name"])
        for event in record["events"]
        if event["register"] in PREDICTED_REGISTERS and event["name"] != TPM_LOG_FILE
    ]
    predicted = _predicted(found[0])
    if listed != predicted:
        wrong = next((each for each in (*predicted, *listed) if each not in listed or each not in predicted), None)
        raise VerificationError(
            f"{what}: the rehearsal lists {len(listed)} events, {len(predicted)} were predicted; first that is only in"
            f" one of the two: {wrong or 'none, the order differs'}"
        )
    _check_verdicts(record["events"], found[0], what)


def _predicted(prediction: Prediction) -> list[tuple[str, int, str]]:
    return [
        (register, event.event_type, event.name)
        for register in PREDICTED_REGISTERS
        for event in prediction.of_register(register)
    ]


def _check_verdicts(events: list[Mapping[str, Any]], prediction: Prediction, what: str) -> None:
    """Something agreed, and only what could not be predicted is called so."""
    verdicts = [event["verdict"] for event in events if event["register"] in PREDICTED_REGISTERS]
    underivable = sum(isinstance(event, UnpredictedEvent) for event in prediction.events)
    if EventVerdict.AGREES not in verdicts or verdicts.count(EventVerdict.NOT_DERIVABLE) != underivable:
        raise VerificationError(f"{what}: the verdicts of the rehearsal are not those of events that were predicted")
