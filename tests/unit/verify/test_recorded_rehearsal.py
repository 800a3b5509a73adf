"""What a manifest says of its rehearsal has to fit its own Reference Values, and can never be a failed one."""

import base64
import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.encoding.schema import validate
from builder.errors import DocumentError, VerificationError
from builder.measure.rehearsal import rehearsal_of
from builder.model.event import ExpectedEvent, UnpredictedEvent
from builder.model.reference_values import Prediction, ReferenceValues
from builder.model.rehearsal import rehearsal_record
from builder.verify.rehearsal import check_rehearsal
from tests.fakes.emulated_boot import honest_observation, predicted
from tests.fakes.small_release import publish_small

PREDICTION = predicted()
VALUES = ReferenceValues({PREDICTION.profile.page_order: PREDICTION.registers.mrtd}, (PREDICTION,))
RECORD = {"rehearsed": True, **rehearsal_record(rehearsal_of(PREDICTION, honest_observation(PREDICTION)))}

Change = Callable[[dict[str, Any]], None]


def changed(change: Change) -> dict[str, Any]:
    record = deepcopy(RECORD)
    change(record)
    return record


def check(record: dict[str, Any] | None) -> None:
    check_rehearsal({} if record is None else {"rehearsal": record}, VALUES, what="manifest")


def test_an_honest_record_holds() -> None:
    check(RECORD)


@pytest.mark.parametrize("record", [None, {"rehearsed": False}])
def test_a_release_without_a_rehearsal_is_one(record: dict[str, Any] | None) -> None:
    check(record)


def drop(index: int) -> Change:
    return lambda record: record["events"].pop(index)


def rename(index: int) -> Change:
    return lambda record: record["events"][index].update(name="another")


def swap(one: int, other: int) -> Change:
    def apply(record: dict[str, Any]) -> None:
        events = record["events"]
        events[one], events[other] = events[other], events[one]

    return apply


def all_called(verdict: str) -> Change:
    def apply(record: dict[str, Any]) -> None:
        for event in record["events"]:
            event["verdict"] = verdict

    return apply


def named(record: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [event for event in record["events"] if event["name"] == name]
    return dict(found)


def called(name: str, verdict: str) -> Change:
    def apply(record: dict[str, Any]) -> None:
        for event in record["events"]:
            if event["name"] == name:
                event["verdict"] = verdict

    return apply


def without(name: str) -> Change:
    return lambda record: record.update(events=[event for event in record["events"] if event["name"] != name])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda record: record.update(profile="8cpu-64G"), id="another profile"),
        pytest.param(drop(4), id="an event left out"),
        pytest.param(rename(4), id="another name"),
        pytest.param(swap(4, 5), id="another order"),
        pytest.param(lambda record: record["events"].append(record["events"][4]), id="an event twice"),
        pytest.param(lambda record: record["events"].clear(), id="no events"),
        pytest.param(lambda record: record["events"][4].update(verdict="not derivable"), id="derivable after all"),
        pytest.param(all_called("not rehearsable"), id="nothing compared"),
        pytest.param(called("SecureBoot", "not rehearsable"), id="compared after all"),
        pytest.param(called("SecureBoot", "TPM only"), id="extended after all"),
        pytest.param(called("TD HOB", "agrees"), id="only a TD has it"),
        pytest.param(called("TD HOB", "not derivable"), id="derivable, and only a TD has it"),
        pytest.param(called("MRTD", "agrees"), id="MRTD compared"),
        pytest.param(called("etc/tpm/log", "not rehearsable"), id="log of the TPM not rehearsed"),
        pytest.param(without("etc/tpm/log"), id="log of the TPM left out"),
        pytest.param(lambda record: record["events"].append(named(record, "etc/tpm/log")), id="two logs of the TPM"),
        pytest.param(without("MRTD"), id="MRTD left out"),
        pytest.param(lambda record: record["events"][-1].update(verdict="agrees"), id="PCR 0 compared"),
        pytest.param(lambda record: record["events"][-1].update(type=4), id="another event without register"),
        pytest.param(lambda record: record.update(edk2="202411"), id="another firmware"),
        pytest.param(lambda record: record.update(acpi_measured=False), id="firmware that measures no tables"),
    ],
)
def test_a_record_that_does_not_fit_the_values_is_refused(change: Change) -> None:
    with pytest.raises(VerificationError, match=r"^manifest: the (rehearsal|verdicts)"):
        check(changed(change))


def with_events(change: Callable[[ExpectedEvent], Iterator[ExpectedEvent]]) -> Prediction:
    return replace(PREDICTION, events=tuple(new for event in PREDICTION.events for new in change(event)))


def underivable(event: ExpectedEvent) -> Iterator[ExpectedEvent]:
    """No rule for Boot0000, and any number of events before the initrd."""
    if event.name == "Linux initrd":
        yield UnpredictedEvent("rtmr2", 0xD, "some files", "nobody knows which", repeats=True)
    known = event.name != "Boot0000"
    yield event if known else UnpredictedEvent(event.register, event.event_type, event.name, "no rule")


def test_what_is_not_derivable_has_to_be_called_so_and_nothing_else() -> None:
    prediction = with_events(underivable)
    values = ReferenceValues(VALUES.mrtd, (prediction,))
    record = {"rehearsed": True, **rehearsal_record(rehearsal_of(prediction, honest_observation(PREDICTION)))}
    check_rehearsal({"rehearsal": record}, values, what="manifest")
    open_rows = [event["name"] for event in record["events"] if event["verdict"] == "not derivable"]
    assert open_rows == ["Boot0000", "some files", "Linux initrd"]
    for name in open_rows:
        wrong = deepcopy(record)
        called(name, "agrees")(wrong)
        with pytest.raises(VerificationError, match=f"{name}.*not derivable"):
            check_rehearsal({"rehearsal": wrong}, values, what="manifest")


@pytest.mark.parametrize("edk2", ["202211", "202302", "202408", "202411", "202502"])
def test_an_honest_record_holds_for_every_generation(edk2: str) -> None:
    prediction = predicted(edk2)
    values = ReferenceValues(VALUES.mrtd, (prediction,))
    record = {"rehearsed": True, **rehearsal_record(rehearsal_of(prediction, honest_observation(prediction)))}
    check_rehearsal({"rehearsal": record}, values, what="manifest")


def predicate_with(record: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    envelope = json.loads(publish_small(tmp_path).manifest.read_bytes())
    predicate = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
    predicate["run"]["rehearsal"] = record
    return dict(predicate)


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        (lambda record: record.update(rehearsed=True), True),
        (lambda record: record.update(status=6), False),
        (lambda record: record.update(rehearsed=False), False),
        (lambda record: record["events"][4].update(verdict="differs"), False),
        (lambda record: record["events"][4].update(verdict="missing"), False),
        (lambda record: record["events"][4].update(verdict="extra"), False),
        (lambda record: record["events"].clear(), False),
        (lambda record: record.update(programs={}), False),
        (lambda record: record.update(end="powered off"), False),
    ],
    ids=["honest", "status", "denied", "differs", "missing", "extra", "no events", "no programs", "of the run"],
)
def test_the_schema_has_no_place_for_a_failed_rehearsal(change: Change, fits: bool, tmp_path: Path) -> None:
    predicate = predicate_with(changed(change), tmp_path)
    if fits:
        validate(predicate, schema_name="release-v1", what="manifest")
    else:
        with pytest.raises(DocumentError):
            validate(predicate, schema_name="release-v1", what="manifest")
