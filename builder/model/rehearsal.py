"""A rehearsal: what real firmware and a real kernel measured under emulation, event by event, beside the prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from builder.errors import ExitStatus
from builder.model.event import event_type_name


class EventVerdict(StrEnum):
    """What became of one event. A difference, a missing and an extra event are failures; only AGREES is a pass."""

    AGREES = "agrees"
    DIFFERS = "differs"
    MISSING = "missing"  # predicted, and not in the log
    EXTRA = "extra"  # in the log, and not predicted
    NOT_DERIVABLE = "not derivable"  # no rule predicts its digest; that it is there is all that was checked
    NOT_REHEARSABLE = "not rehearsable"  # only a TD has it
    TPM_ONLY = "TPM only"  # no register of a TD gets it


_DIFFERENCES = frozenset((EventVerdict.DIFFERS, EventVerdict.EXTRA))
FAILURES = _DIFFERENCES | {EventVerdict.MISSING}


class BootEnd(StrEnum):
    """Why the emulated boot was ended."""

    TEXT_SEEN = "text seen"
    POWERED_OFF = "powered off"
    RESET = "reset"
    STAYED_UP = "stayed up"  # it left boot services and went on running
    TIME_LIMIT = "time limit"


_CUT_OFF = (BootEnd.TEXT_SEEN, BootEnd.TIME_LIMIT)  # by us, wherever the guest was


@dataclass(frozen=True)
class RehearsedEvent:
    """One event on both sides, digests in hex, None where a side has none.

    `register` is None for a PCR that no register of a TD stands for, `event_type` None for MRTD, which has no events.
    """

    register: str | None
    event_type: int | None
    name: str
    predicted: str | None
    observed: str | None
    verdict: EventVerdict
    note: str = ""

    @property
    def type_name(self) -> str:
        """The name of `event_type`, empty if there is none."""
        return "" if self.event_type is None else event_type_name(self.event_type)


@dataclass(frozen=True)
class Rehearsal:
    """The outcome for one launch profile. `programs` are the emulators by name, with the versions they state.

    `left_boot_services` is whether the firmware had nothing left to measure; `ready` whether the text that was asked
    for came, None if none was asked for. `open_registers` were not compared to their end: nobody knows how many events
    something in them stands for.
    """

    profile: str
    edk2: str
    acpi_measured: bool
    programs: Mapping[str, str]
    events: tuple[RehearsedEvent, ...]
    end: BootEnd
    left_boot_services: bool
    ready: bool | None = None
    open_registers: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[RehearsedEvent, ...]:
        """The events that were not measured as predicted."""
        return tuple(event for event in self.events if event.verdict in FAILURES)

    def counts(self) -> dict[str, int]:
        """How many events have each verdict that occurs, in the order of EventVerdict."""
        found = {str(verdict): sum(event.verdict is verdict for event in self.events) for verdict in EventVerdict}
        return {verdict: count for verdict, count in found.items() if count}

    @property
    def status(self) -> ExitStatus:
        """REGISTER_DIFFERS for any failure; NOT_PROVEN if the boot did not come far enough to tell, or get ready.

        OK only if the guest left boot services: before, the firmware may measure more. Events that are missing because
        we ended the boot are no difference. A rehearsal in which nothing was compared proves nothing.
        """
        cut_off = not self.left_boot_services and self.end in _CUT_OFF
        verdicts = {event.verdict for event in self.events}
        if verdicts & _DIFFERENCES or (EventVerdict.MISSING in verdicts and not cut_off):
            return ExitStatus.REGISTER_DIFFERS
        if not self.left_boot_services or self.ready is False or EventVerdict.AGREES not in verdicts:
            return ExitStatus.NOT_PROVEN
        return ExitStatus.OK

    @property
    def statuses(self) -> list[ExitStatus]:
        """Every status that applies: that of what can be compared, and NOT_PROVEN where a register was not, to its end.

        A release is content with `status`, because it lists what is not derivable.
        """
        return [self.status, *((ExitStatus.NOT_PROVEN,) if self.open_registers else ())]


def rehearsal_document(rehearsal: Rehearsal) -> dict[str, Any]:
    """Everything, as plain values for JSON."""
    return {
        **_head(rehearsal),
        "end": str(rehearsal.end),
        "ready": rehearsal.ready,
        "open_registers": list(rehearsal.open_registers),
        "events": [
            {
                **_event(event),
                "predicted": event.predicted,
                "observed": event.observed,
                "note": event.note,
            }
            for event in rehearsal.events
        ],
    }


def rehearsal_record(rehearsal: Rehearsal) -> dict[str, Any]:
    """What a manifest records: what is the same for everybody who rehearses this release with these programs."""
    return {**_head(rehearsal), "events": [_event(event) for event in rehearsal.events]}


def _head(rehearsal: Rehearsal) -> dict[str, Any]:
    return {
        "profile": rehearsal.profile,
        "status": int(rehearsal.status),
        "edk2": rehearsal.edk2,
        "acpi_measured": rehearsal.acpi_measured,
        "programs": dict(rehearsal.programs),
    }


def _event(event: RehearsedEvent) -> dict[str, Any]:
    return {
        "register": event.register,
        "type": event.event_type,
        "name": event.name,
        "verdict": str(event.verdict),
    }
