"""The document of predictions for other platforms: the members of Reference Values, nothing lost, nothing twice."""

from dataclasses import replace

from builder.encoding.canonical_json import encode_canonical
from builder.model.event import PredictedEvent, UnpredictedEvent
from builder.model.launch_profile import PageOrder
from builder.model.platform_values import (
    Platform,
    PlatformPrediction,
    PlatformRegisters,
    platform_values_document,
)

SHARED = PredictedEvent("rtmr0", 4, "separator", "11" * 48, "firmware")
OPEN = UnpredictedEvent("rtmr0", 0xA, "tables", "nobody knows")
KERNEL = PredictedEvent("rtmr1", 0x80000003, "kernel", "22" * 48, "kernel")
FIRST = PlatformPrediction(
    name="small",
    platform=Platform.GCE,
    machine={"memory": 1 << 30, "secure_boot": False, "firmware_sha384": None},
    mrtd={PageOrder.SINGLE_PASS: "33" * 48},
    registers=PlatformRegisters("33" * 48, None, "44" * 48, "00" * 48),
    events=(SHARED, OPEN, KERNEL),
    caveats={"one": "first text"},
)
SECOND = replace(FIRST, name="large", events=(SHARED, KERNEL), caveats={"two": "second text", "one": "first text"})


def test_events_and_caveats_are_written_once_and_referred_to() -> None:
    document = platform_values_document([FIRST, SECOND])
    assert [event["name"] for event in document["events"]] == ["separator", "tables", "kernel"]
    assert document["caveats"] == {"one": "first text", "two": "second text"}
    small, large = document["profiles"]
    assert small["events"] == {"rtmr0": [0, 1], "rtmr1": [2], "rtmr2": []}
    assert large["events"] == {"rtmr0": [0], "rtmr1": [2], "rtmr2": []}
    assert (small["caveats"], large["caveats"]) == (["one"], ["one", "two"])


def test_an_event_that_is_not_predicted_has_a_reason_and_no_digest() -> None:
    entry = platform_values_document([FIRST])["events"][1]
    assert entry == {"register": "rtmr0", "type": 0xA, "name": "tables", "digest": None, "reason": "nobody knows"}


def test_a_profile_has_its_platform_machine_and_registers() -> None:
    (profile,) = platform_values_document([FIRST])["profiles"]
    assert (profile["name"], profile["platform"]) == ("small", "gce")
    assert profile["launch"] == {"memory": 1 << 30, "secure_boot": False, "firmware_sha384": None}
    assert profile["mrtd"] == {"single_pass": "33" * 48}
    assert profile["registers"] == {"mrtd": "33" * 48, "rtmr0": None, "rtmr1": "44" * 48, "rtmr2": "00" * 48}


def test_the_same_predictions_are_the_same_bytes() -> None:
    assert encode_canonical(platform_values_document([FIRST])) == encode_canonical(platform_values_document([FIRST]))


def test_what_keeps_a_register_open_is_found() -> None:
    assert FIRST.unpredicted == (OPEN,)
    assert SECOND.unpredicted == ()
    assert FIRST.of_register("rtmr1") == (KERNEL,)
