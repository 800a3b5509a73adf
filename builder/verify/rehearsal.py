"""What a manifest says about its rehearsal, checked against the Reference Values beside it. Pure.

Not checked: that the rehearsal took place. It is the publisher's word, and `tdx-builder rehearse` repeats it.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from builder.errors import VerificationError
from builder.measure.acpi.blobs import TABLES_FILE, TPM_LOG_FILE
from builder.measure.rehearsal import OF_PCR_0, only_a_td, prediction_is_open
from builder.model.event import EV_PLATFORM_CONFIG_FLAGS, UnpredictedEvent
from builder.model.reference_values import PREDICTED_REGISTERS, Prediction, ReferenceValues
from builder.model.rehearsal import EventVerdict

_Row = tuple[str | None, int | None, str, str]  # register, event type, name, verdict


def check_rehearsal(run: Mapping[str, Any], values: ReferenceValues, *, what: str) -> None:
    """VerificationError if a `run` that was rehearsed is not what passing leads to for one of the `values`.

    Profile, firmware and every row are compared: register, type, name and verdict all follow from the prediction, but
    for the names of what no register of a TD gets. A run that says nothing of a rehearsal, or that there was none, is
    left as it is. It fits the schema `release-v1`.
    """
    record = run.get("rehearsal", {"rehearsed": False})
    if not record["rehearsed"]:
        return
    found = [prediction for prediction in values.predictions if prediction.profile.name == record["profile"]]
    if not found:
        raise VerificationError(f"{what}: the rehearsal is of {record['profile']!r}, which there are no values for")
    _check_firmware(record, found[0], what)
    rows = [(event["register"], event["type"], event["name"], event["verdict"]) for event in record["events"]]
    _check_rows([row for row in rows if row[0] is not None], list(_passed(found[0])), what)
    _check_without_register([row for row in rows if row[0] is None], what)


def _check_firmware(record: Mapping[str, Any], prediction: Prediction, what: str) -> None:
    rules = prediction.profile.firmware
    for name, wanted in (("edk2", rules.edk2), ("acpi_measured", rules.acpi_measured)):
        if record[name] != wanted:
            raise VerificationError(
                f"{what}: the rehearsal says {name} {record[name]!r}, profile {record['profile']!r} {wanted!r}"
            )


def _passed(prediction: Prediction) -> Iterator[_Row]:
    """The rows of a rehearsal in which everything that can be compared agreed, those without register left out."""
    yield "mrtd", None, "MRTD", EventVerdict.NOT_REHEARSABLE
    for register in PREDICTED_REGISTERS:
        events = prediction.of_register(register)
        for event in filter(only_a_td, events):
            yield register, event.event_type, event.name, EventVerdict.NOT_REHEARSABLE
        others = [event for event in events if not only_a_td(event)]
        for place, event in enumerate(others):
            unknown = isinstance(event, UnpredictedEvent) or prediction_is_open(others[:place])
            verdict = EventVerdict.NOT_DERIVABLE if unknown else EventVerdict.AGREES
            yield register, event.event_type, event.name, verdict


def _check_rows(rows: Sequence[_Row], wanted: Sequence[_Row], what: str) -> None:
    """The log of the TPM among the ACPI files is the one event that only a rehearsal has (`measurement.md` 5.7)."""
    tables = [row for row in wanted if row[1:3] == (EV_PLATFORM_CONFIG_FLAGS, TABLES_FILE)]
    of_tpm = [(register, kind, TPM_LOG_FILE, verdict) for register, kind, _, verdict in tables]
    listed = [row for row in rows if row[2] == TPM_LOG_FILE]
    for one, other in [
        *zip_longest(listed, of_tpm),
        *zip_longest((row for row in rows if row[2] != TPM_LOG_FILE), wanted),
    ]:
        if one != other:
            raise VerificationError(
                f"{what}: the rehearsal lists {_text(one)}, and a passed one of this profile {_text(other)}"
            )
    if not any(row[3] == EventVerdict.AGREES for row in rows):
        raise VerificationError(f"{what}: the rehearsal compared nothing")


def _check_without_register(rows: Sequence[_Row], what: str) -> None:
    for row in rows:
        if row[3] != EventVerdict.TPM_ONLY or row[1] not in OF_PCR_0:
            raise VerificationError(f"{what}: the rehearsal lists {_text(row)}, and no register that it extends")


def _text(row: _Row | None) -> str:
    return "no more events" if row is None else f"{row[0]} {row[2]!r} as {row[3]!s}"
