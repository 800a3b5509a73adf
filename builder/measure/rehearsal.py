"""Comparing what firmware and kernel measured under emulation with what was predicted for a TD (`measurement.md` 10).

The emulated machine has a TPM, a TD has none. So the log is first made what a TD's would be (`mapped_log`): registers
for PCRs, one separator for seven. And the prediction is made what this machine leads to (`rehearsed_prediction`): the
ACPI tables have a TPM in them and are those read from the same machine with a TPM; what only a TD has is left out.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import zip_longest

from builder.errors import DocumentError
from builder.measure.acpi.blobs import LOADER_FILE, RSDP_FILE, TABLES_FILE, TPM_LOG_FILE, AcpiBlobs, check_acpi
from builder.measure.evidence.guest_log import Log, left_boot_services, proven_log
from builder.model.event import (
    EV_EFI_HANDOFF_TABLES2,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_EFI_VARIABLE_BOOT,
    EV_NO_ACTION,
    EV_PLATFORM_CONFIG_FLAGS,
    EV_S_CRTM_VERSION,
    EV_SEPARATOR,
    ExpectedEvent,
    ParsedEvent,
    PredictedEvent,
    UnpredictedEvent,
)
from builder.model.launch_profile import FirmwareRules
from builder.model.reference_values import PREDICTED_REGISTERS, Prediction
from builder.model.rehearsal import FAILURES, BootEnd, EventVerdict, Rehearsal, RehearsedEvent

_ONLY_A_TD = {EV_EFI_HANDOFF_TABLES2, EV_EFI_PLATFORM_FIRMWARE_BLOB2}
_ONLY_A_TD_NOTE = "measured in a TD only"
_EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
OF_PCR_0 = {EV_S_CRTM_VERSION, _EV_EFI_PLATFORM_FIRMWARE_BLOB, EV_EFI_PLATFORM_FIRMWARE_BLOB2}
_ACPI_FILES = (LOADER_FILE, RSDP_FILE, TABLES_FILE)
_SEPARATED_PCRS = range(7)
_TPM_LOG = bytes(1 << 16)  # `measurement.md` 5.7: QEMU's file, which OVMF does not write
_WITH_TPM = "read from the same machine with a TPM, as the rehearsed one has it"
_WITHOUT_PLACE = "behind events that nobody can count: it has no place that could be compared"


@dataclass(frozen=True)
class BootObservation:
    """What an emulated boot left behind. Nothing of it is proven yet.

    `candidates` are the event logs that were found in the guest's memory, `pcrs` the SHA-384 bank of its TPM (hex),
    `acpi` the blobs read from a stopped machine of the same shape with a TPM, `programs` the versions of the emulators.
    """

    candidates: Sequence[Log]
    pcrs: Mapping[int, str]
    acpi: AcpiBlobs
    end: BootEnd
    programs: Mapping[str, str]


@dataclass(frozen=True)
class _Observed:
    """An event of the TPM's log, at the register that a TD extends instead."""

    register: str | None
    event: ParsedEvent


_Pair = tuple[ExpectedEvent | None, _Observed | None]


def rehearsal_of(prediction: Prediction, observation: BootObservation, *, text_wanted: bool = False) -> Rehearsal:
    """The prediction of a direct boot under QEMU beside the boot.

    NotProvenError if no log of the boot is proven to be whole; DocumentError for a prediction of another platform.
    """
    log = proven_log(observation.candidates, observation.pcrs)
    rules = prediction.profile.firmware
    return Rehearsal(
        profile=prediction.profile.name,
        edk2=rules.edk2,
        acpi_measured=rules.acpi_measured,
        programs=observation.programs,
        events=rehearsed_events(prediction, log, observation.acpi),
        end=observation.end,
        left_boot_services=left_boot_services(log),
        ready=observation.end is BootEnd.TEXT_SEEN if text_wanted else None,
        open_registers=tuple(each for each in PREDICTED_REGISTERS if prediction_is_open(prediction.of_register(each))),
    )


def prediction_is_open(events: Iterable[ExpectedEvent]) -> bool:
    """Whether one of the events stands for any number of events, so that what follows it cannot be compared."""
    return any(_repeats(event) for event in events)


def rehearsed_events(prediction: Prediction, log: Log, acpi: AcpiBlobs) -> tuple[RehearsedEvent, ...]:
    """A verdict for every event that was predicted or measured, register by register.

    Every event that only a TD has is listed; none of a TPM alone is left out either, but for six of seven separators.
    """
    expected = rehearsed_prediction(prediction, acpi)
    observed = [each for each in mapped_log(log, prediction.profile.firmware) if each.event.event_type != EV_NO_ACTION]
    return (
        RehearsedEvent(
            "mrtd", None, "MRTD", prediction.registers.mrtd, None, EventVerdict.NOT_REHEARSABLE, _ONLY_A_TD_NOTE
        ),
        *(
            row
            for register in PREDICTED_REGISTERS
            for row in (
                *_td_only(prediction, register),
                *_of_register(
                    [event for event in expected if event.register == register],
                    [each for each in observed if each.register == register],
                    register,
                ),
            )
        ),
        *(_without_register(each.event) for each in observed if each.register not in PREDICTED_REGISTERS),
    )


def rehearsed_prediction(prediction: Prediction, acpi: AcpiBlobs) -> tuple[ExpectedEvent, ...]:
    """What a machine of this profile with a TPM leads to. DocumentError if `acpi` is not of such a machine."""
    if prediction.acpi is None:
        raise DocumentError(
            f"profile {prediction.profile.name!r}: its platform builds ACPI tables of its own",
            hint="only machines that QEMU emulates can be rehearsed",
        )
    events = [event for event in prediction.events if not only_a_td(event)]
    places = [place for place, event in enumerate(events) if _is_acpi(event)]
    if not places:
        return tuple(events)
    with_tpm = _acpi_events(acpi, prediction.profile.vcpus)
    return (*events[: places[0]], *with_tpm, *(event for event in events[places[0] :] if not _is_acpi(event)))


def mapped_log(log: Log, rules: FirmwareRules) -> tuple[_Observed, ...]:
    """The log of a TPM as a TD's: registers for PCRs (`measurement.md` 1.3), and one separator instead of seven (10.2).

    The seven are collapsed only where they stand together, one a PCR and all alike, as the firmware writes them.
    """
    mapped = tuple(_Observed(_register(event, rules), event) for event in log)
    for start in range(len(mapped) - len(_SEPARATED_PCRS) + 1):
        end = start + len(_SEPARATED_PCRS)
        if _is_separation(log[start:end]):
            return (*mapped[:start], _Observed(rules.boot_separator_register, log[start]), *mapped[end:])
    return mapped


def _register(event: ParsedEvent, rules: FirmwareRules) -> str | None:
    """The driver for TDs of old firmware extends boot variables elsewhere than that for TPMs (`measurement.md` 5.1)."""
    if event.register == "rtmr0" and event.event_type == EV_EFI_VARIABLE_BOOT:
        return rules.boot_variables_register
    return event.register


def _is_separation(events: Sequence[ParsedEvent]) -> bool:
    return (
        sorted(event.index for event in events) == list(_SEPARATED_PCRS)
        and {event.event_type for event in events} == {EV_SEPARATOR}
        and len({event.digest for event in events}) == 1
    )


def only_a_td(event: ExpectedEvent) -> bool:
    """Whether no machine with a TPM measures the event: TD HOB and variable store."""
    return event.register == "rtmr0" and event.event_type in _ONLY_A_TD


def _is_acpi(event: ExpectedEvent) -> bool:
    return event.event_type == EV_PLATFORM_CONFIG_FLAGS and event.name in _ACPI_FILES


def _acpi_events(acpi: AcpiBlobs, vcpus: int) -> Iterator[PredictedEvent]:
    order = check_acpi(acpi, vcpus)
    if TPM_LOG_FILE not in order:
        raise DocumentError("the ACPI tables are of a machine without a TPM, and the rehearsed one has one")
    digests = acpi.digests()
    files = {RSDP_FILE: digests.rsdp, TABLES_FILE: digests.tables, TPM_LOG_FILE: hashlib.sha384(_TPM_LOG).hexdigest()}
    for name, digest in ((LOADER_FILE, digests.loader), *((name, files[name]) for name in order)):
        yield PredictedEvent("rtmr0", EV_PLATFORM_CONFIG_FLAGS, name, digest, _WITH_TPM)


def _td_only(prediction: Prediction, register: str) -> Iterator[RehearsedEvent]:
    for event in prediction.of_register(register):
        if only_a_td(event):
            yield replace(_row(event, None), verdict=EventVerdict.NOT_REHEARSABLE, note=_ONLY_A_TD_NOTE)


def _of_register(
    expected: Sequence[ExpectedEvent], observed: Sequence[_Observed], register: str
) -> Iterator[RehearsedEvent]:
    """All of a register, or what comes before an event that stands for any number: after it nothing has a place."""
    end = next((place for place, event in enumerate(expected) if _repeats(event)), None)
    if end is None:
        yield from _compared(expected, observed, register)
        return
    rows = list(_compared(expected[:end], observed, register))
    places = [place for place, row in enumerate(rows) if row.verdict is not EventVerdict.EXTRA]
    yield from rows[: places[-1] + 1 if places else 0]  # what was measured after the last of them may be any of those
    for event in expected[end:]:
        note = event.reason if isinstance(event, UnpredictedEvent) else _WITHOUT_PLACE
        yield replace(_row(event, None), verdict=EventVerdict.NOT_DERIVABLE, note=note)


def _repeats(event: ExpectedEvent) -> bool:
    return isinstance(event, UnpredictedEvent) and event.repeats


def _compared(
    expected: Sequence[ExpectedEvent], observed: Sequence[_Observed], register: str
) -> Iterator[RehearsedEvent]:
    """Side by side where the log begins as predicted, so that alignment, which guesses, never makes a failure."""
    pairs: Iterable[_Pair] = zip_longest(expected, observed)
    beginning = list(zip(expected, observed, strict=False))
    if len(observed) < len(expected) or any(_verdict(one, other.event) in FAILURES for one, other in beginning):
        pairs = _paired(expected, observed)
    for one, other in pairs:
        yield replace(_row(one, other.event if other else None), register=register)


def _paired(expected: Sequence[ExpectedEvent], observed: Sequence[_Observed]) -> Iterator[_Pair]:
    """Equal events are aligned first, so that one that is missing or too many does not make all after it differ."""
    keys = [_key(event) for event in expected], [(each.event.event_type, each.event.digest) for each in observed]
    for equal, of_expected, of_observed in _aligned(*keys):
        left, right = expected[of_expected], observed[of_observed]
        yield from zip(left, right, strict=True) if equal else _paired_by_type(left, right)


def _paired_by_type(expected: Sequence[ExpectedEvent], observed: Sequence[_Observed]) -> Iterator[_Pair]:
    types = [event.event_type for event in expected], [each.event.event_type for each in observed]
    for equal, of_expected, of_observed in _aligned(*types):
        left, right = expected[of_expected], observed[of_observed]
        if equal:
            yield from zip(left, right, strict=True)
        else:
            yield from ((event, None) for event in left)
            yield from ((None, each) for each in right)


def _aligned(left: Sequence[object], right: Sequence[object]) -> Iterator[tuple[bool, slice, slice]]:
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    for tag, left_start, left_end, right_start, right_end in matcher.get_opcodes():
        yield tag == "equal", slice(left_start, left_end), slice(right_start, right_end)


def _key(event: ExpectedEvent) -> tuple[int, str]:
    return event.event_type, event.digest if isinstance(event, PredictedEvent) else ""


def _row(expected: ExpectedEvent | None, observed: ParsedEvent | None) -> RehearsedEvent:
    event = expected or observed
    if event is None:
        raise ValueError("a row of no event")
    predicted = expected.digest if isinstance(expected, PredictedEvent) else None
    return RehearsedEvent(
        register=event.register,
        event_type=event.event_type,
        name=event.name,
        predicted=predicted,
        observed=observed.digest if observed else None,
        verdict=_verdict(expected, observed),
        note=_note(expected),
    )


def _verdict(expected: ExpectedEvent | None, observed: ParsedEvent | None) -> EventVerdict:
    if observed is None:
        return EventVerdict.MISSING
    if expected is None:
        return EventVerdict.EXTRA
    if expected.event_type != observed.event_type:
        return EventVerdict.DIFFERS
    if isinstance(expected, UnpredictedEvent):
        return EventVerdict.NOT_DERIVABLE
    return EventVerdict.AGREES if expected.digest == observed.digest else EventVerdict.DIFFERS


def _note(expected: ExpectedEvent | None) -> str:
    if isinstance(expected, UnpredictedEvent):
        return expected.reason
    if expected is None:
        return ""
    if expected.name == TPM_LOG_FILE:
        return "a TD has no such event"
    return f"decided by {expected.input}" if expected.input != _WITH_TPM else _WITH_TPM


def _without_register(event: ParsedEvent) -> RehearsedEvent:
    """An event of a PCR that no register stands for: the firmware's volumes in PCR 0, or one that nobody expects."""
    known = event.index == 0 and event.event_type in OF_PCR_0
    verdict = EventVerdict.TPM_ONLY if known else EventVerdict.EXTRA
    return RehearsedEvent(None, event.event_type, event.name, None, event.digest, verdict, f"PCR {event.index}")
