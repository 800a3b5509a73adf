"""Naming the first event that differs."""

import dataclasses

import pytest

from builder.errors import DocumentError
from builder.measure import ParsedEvent, PredictedEvent, first_difference
from builder.model.event import EV_NO_ACTION, EV_SEPARATOR, UnpredictedEvent


def predicted(register: str, digest: str, *, event_type: int = 4, name: str = "") -> PredictedEvent:
    return PredictedEvent(register, event_type, name, digest * 48, f"input of {digest}")


def parsed(event: PredictedEvent, position: int = 0) -> ParsedEvent:
    return ParsedEvent(position, 0, event.register, event.event_type, event.digest, b"", "")


PREDICTED = [predicted("rtmr0", "a0"), predicted("rtmr0", "a1"), predicted("rtmr1", "b0"), predicted("rtmr2", "c0")]
LOG = [parsed(event, position) for position, event in enumerate(PREDICTED)]


def test_equal_events_do_not_differ() -> None:
    assert first_difference(PREDICTED, LOG) is None


def unpredicted(register: str, *, event_type: int = 4) -> UnpredictedEvent:
    return UnpredictedEvent(register, event_type, "SMBIOS", "no rule derives it")


def test_an_event_that_could_not_be_predicted_equals_nothing() -> None:
    difference = first_difference([*PREDICTED[:3], unpredicted("rtmr2")], LOG)
    assert difference is not None
    assert (difference.register, difference.position, difference.proven) == ("rtmr2", 0, False)
    assert "predicted EV_SEPARATOR 'SMBIOS' that could not be predicted" in difference.describe()


def test_a_difference_that_is_proven_comes_before_one_that_is_not() -> None:
    changed = dataclasses.replace(LOG[3], digest="ff" * 48)
    difference = first_difference([unpredicted("rtmr0"), *PREDICTED[1:]], [*LOG[:3], changed])
    assert difference is not None
    assert (difference.register, difference.proven) == ("rtmr2", True)


def test_an_event_that_could_not_be_predicted_still_has_a_type_and_a_place() -> None:
    for predictions, log in (
        ([*PREDICTED[:3], unpredicted("rtmr2", event_type=9)], LOG),
        ([*PREDICTED, unpredicted("rtmr2")], LOG),
    ):
        difference = first_difference(predictions, log)
        assert difference is not None
        assert difference.proven


@pytest.mark.parametrize("count", [0, 1, 5])
def test_nothing_is_proven_behind_an_event_that_stands_for_any_number(count: int) -> None:
    run = dataclasses.replace(unpredicted("rtmr0"), repeats=True)
    end = predicted("rtmr0", "ee")
    log = [LOG[0], *[parsed(predicted("rtmr0", "77", event_type=9))] * count, parsed(end), *LOG[2:]]
    difference = first_difference([PREDICTED[0], run, end, *PREDICTED[2:]], log)
    assert difference is not None
    assert (difference.register, difference.position, difference.proven) == ("rtmr0", 1, False)


def test_before_such_an_event_differences_are_proven() -> None:
    run = dataclasses.replace(unpredicted("rtmr0"), repeats=True)
    changed = dataclasses.replace(LOG[0], digest="ff" * 48)
    difference = first_difference([PREDICTED[0], run, *PREDICTED[2:]], [changed, *LOG[1:]])
    assert difference is not None
    assert (difference.position, difference.proven) == (0, True)


def test_only_the_order_inside_a_register_counts() -> None:
    assert first_difference(PREDICTED, [LOG[3], LOG[0], LOG[2], LOG[1]]) is None
    difference = first_difference(PREDICTED, [LOG[1], LOG[0], LOG[2], LOG[3]])
    assert difference is not None
    assert (difference.register, difference.position) == ("rtmr0", 0)


def test_notes_and_events_of_user_space_are_left_out() -> None:
    note = dataclasses.replace(LOG[0], event_type=EV_NO_ACTION)
    runtime = dataclasses.replace(LOG[0], register="rtmr3")
    unmapped = dataclasses.replace(LOG[0], register=None)
    assert first_difference(PREDICTED, [note, *LOG, runtime, unmapped]) is None


def test_the_difference_names_everything() -> None:
    changed = dataclasses.replace(LOG[2], digest="ff" * 48)
    difference = first_difference(PREDICTED, [*LOG[:2], changed, LOG[3]])
    assert difference is not None
    assert (difference.register, difference.position) == ("rtmr1", 0)
    assert difference.predicted == PREDICTED[2]
    assert difference.observed == changed
    text = difference.describe()
    for part in ("rtmr1 event 0", "EV_SEPARATOR", "b0" * 48, "ff" * 48, "decided by input of b0"):
        assert part in text


def test_a_difference_in_type_alone_is_one() -> None:
    changed = dataclasses.replace(LOG[1], event_type=EV_SEPARATOR + 1)
    difference = first_difference(PREDICTED, [LOG[0], changed, *LOG[2:]])
    assert difference is not None
    assert difference.position == 1


@pytest.mark.parametrize("missing", range(4))
def test_a_missing_event_is_a_difference(missing: int) -> None:
    difference = first_difference(PREDICTED, [*LOG[:missing], *LOG[missing + 1 :]])
    assert difference is not None
    assert difference.register == LOG[missing].register
    assert difference.predicted == PREDICTED[missing]


def test_an_additional_event_is_a_difference() -> None:
    difference = first_difference(PREDICTED, [*LOG, LOG[3]])
    assert difference is not None
    assert difference.predicted is None
    assert "predicted nothing" in difference.describe()


def test_a_log_without_events_differs_at_once() -> None:
    difference = first_difference(PREDICTED, [])
    assert difference is not None
    assert difference.observed is None
    assert "found nothing" in difference.describe()


def test_nothing_predicted_is_never_equal() -> None:
    with pytest.raises(DocumentError, match="no predicted events"):
        first_difference([], [])
