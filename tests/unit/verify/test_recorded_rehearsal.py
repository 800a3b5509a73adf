"""What a manifest says of its rehearsal has to fit its own Reference Values, and can never be a failed one."""

import base64
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from builder.encoding.schema import validate
from builder.errors import DocumentError, VerificationError
from builder.measure.rehearsal import rehearsal_of
from builder.model.reference_values import ReferenceValues
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
    ],
)
def test_a_record_that_does_not_fit_the_values_is_refused(change: Change) -> None:
    with pytest.raises(VerificationError, match=r"^manifest: the (rehearsal|verdicts)"):
        check(changed(change))


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
