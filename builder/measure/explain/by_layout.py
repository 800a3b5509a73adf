"""Whether a register fits as a whole once its events are arranged as other firmware or kernels do."""

from collections.abc import Callable, Iterator, Sequence

from builder.measure.explain.case import Case
from builder.model.digest import sha384_hex
from builder.model.event import (
    EV_EFI_ACTION,
    EV_NO_ACTION,
    EV_PLATFORM_CONFIG_FLAGS,
    EV_SEPARATOR,
    PredictedEvent,
    event_type_name,
)

_Shape = tuple[tuple[int, str], ...]  # type and digest of each event
_SEPARATOR = (EV_SEPARATOR, sha384_hex(bytes(4)))


def layout_statements(case: Case) -> Iterator[str]:
    """Sentences about the whole register, each of them checked event by event, type and digest.

    Nothing is said of a register with an event that could not be predicted.
    """
    predicted, found = _predicted(case), _found(case)
    if predicted is None:
        return
    for rule in (_separator_moved, _without_acpi, _cut, _longer):
        statements = tuple(rule(case, predicted, found))
        if statements:
            yield from statements
            return


def _predicted(case: Case) -> _Shape | None:
    events = case.prediction.of_register(case.difference.register)
    if not all(isinstance(event, PredictedEvent) for event in events):
        return None
    return tuple((event.event_type, event.digest) for event in events if isinstance(event, PredictedEvent))


def _found(case: Case) -> _Shape:
    return tuple(
        (event.event_type, event.digest)
        for event in case.observed
        if event.register == case.difference.register and event.event_type != EV_NO_ACTION
    )


def _separator_moved(case: Case, predicted: _Shape, found: _Shape) -> Iterator[str]:
    """`measurement.md` 5.5."""
    where = case.profile.firmware.boot_separator_register
    move = _arrangements(where).get(case.difference.register)
    if move is not None and found == move(predicted):
        other, release = ("rtmr0", "before 202411") if where == "rtmr1" else ("rtmr1", "from 202411 on")
        yield f"ReadyToBoot's separator is in {other}, predicted in {where}: so does edk2 {release}"


def _arrangements(where: str) -> dict[str, Callable[[_Shape], _Shape]]:
    if where == "rtmr1":
        return {"rtmr0": _append, "rtmr1": _remove_last}
    return {"rtmr0": _remove_last, "rtmr1": _insert_after_action}


def _append(shape: _Shape) -> _Shape:
    return (*shape, _SEPARATOR)


def _remove_last(shape: _Shape) -> _Shape:
    for index in reversed(range(len(shape))):
        if shape[index] == _SEPARATOR:
            return (*shape[:index], *shape[index + 1 :])
    return shape


def _insert_after_action(shape: _Shape) -> _Shape:
    for index, (event_type, _) in enumerate(shape):
        if event_type == EV_EFI_ACTION:
            return (*shape[: index + 1], _SEPARATOR, *shape[index + 1 :])
    return shape


def _without_acpi(_case: Case, predicted: _Shape, found: _Shape) -> Iterator[str]:
    without = tuple(event for event in predicted if event[0] != EV_PLATFORM_CONFIG_FLAGS)
    if found == without != predicted:
        yield "the firmware does not measure the ACPI tables: so does edk2 before 202302"


def _cut(case: Case, predicted: _Shape, found: _Shape) -> Iterator[str]:
    register = case.difference.register
    if found == predicted[: len(found)] and len(found) < len(predicted):
        yield f"the log has {len(found)} of {len(predicted)} events of {register}, and these are as predicted"
        if not found and register == "rtmr2":
            yield "nothing extends rtmr2: so does a kernel whose EFI stub does not measure in a TD (before Linux 6.9)"


def _longer(case: Case, predicted: _Shape, found: _Shape) -> Iterator[str]:
    if predicted == found[: len(predicted)] and len(found) > len(predicted):
        more = _type_names(found[len(predicted) :])
        yield f"all events of {case.difference.register} are as predicted, and {more} more follow"


def _type_names(events: Sequence[tuple[int, str]]) -> str:
    names = dict.fromkeys(event_type_name(event_type) for event_type, _ in events)
    return f"{len(events)} ({', '.join(names)})"
