"""Whether a log has the form of a boot: separators where this firmware puts them, once each (`measurement.md` 5.5).

A log that replays to a quote's registers may still be none of this boot if its registers are not what they should be;
these checks say what is odd before anything is compared. They look at types and order only, never at digests.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from builder.measure.firmware.edk2 import checked_edk2
from builder.model.event import EV_EFI_ACTION, EV_EFI_VARIABLE_DRIVER_CONFIG, EV_SEPARATOR, ParsedEvent

_MOVED = "202411"  # ReadyToBoot's separator went from RTMR[0] to RTMR[1]
_EXIT_BOOT_SERVICES = b"Exit Boot Services Returned with Success"
_FIRMWARE_REGISTERS = ("rtmr0", "rtmr1")


@dataclass(frozen=True)
class StructureFinding:
    """Something odd. `wrong` if no firmware of the stated release does it; otherwise it is a note.

    `position` is that of the record in the log, None where an event is missing.
    """

    wrong: bool
    position: int | None
    text: str


def structure_findings(events: Sequence[ParsedEvent], *, edk2: str | None) -> tuple[StructureFinding, ...]:
    """What is odd about the events of a TD's log, whose firmware is edk2 of release `edk2` (YYYYMM), None if unknown.

    The release has to come from the launch profile, never from the log: a log with both separators in RTMR[0] is
    right for firmware before 202411 and altered for any later, and nothing in it tells which. Not for TPM logs, which
    have a separator for every PCR. DocumentError for a release that is none.
    """
    if edk2 is not None:
        checked_edk2(edk2)
    findings = [
        *_separator_findings(events, edk2),
        *_variables_after_separator(events),
        *_events_after_exit(events),
    ]
    return tuple(findings)


def _separator_findings(events: Sequence[ParsedEvent], edk2: str | None) -> Iterator[StructureFinding]:
    found = {register: _separators(events, register) for register in _FIRMWARE_REGISTERS}
    counts = tuple(len(found[register]) for register in _FIRMWARE_REGISTERS)
    if edk2 is None:
        yield from _unstated(found["rtmr0"], counts)
        return
    wanted = (1, 1) if edk2 >= _MOVED else (2, 0)
    where = f"edk2 {edk2} puts {_counted(wanted)}"
    for register, count, expected in zip(_FIRMWARE_REGISTERS, counts, wanted, strict=True):
        for number, event in enumerate(found[register][expected:], expected + 1):
            yield StructureFinding(True, event.position, f"separator number {number} in {register}; {where}")
        if count < expected:
            yield StructureFinding(True, None, f"{count} of {expected} separators in {register}; {where}")


def _unstated(separators: list[ParsedEvent], counts: tuple[int, ...]) -> Iterator[StructureFinding]:
    if counts == (1, 1):
        return
    position = separators[1].position if len(separators) > 1 else None
    text = f"{counts[0]} separators in rtmr0 and {counts[1]} in rtmr1: "
    if counts == (2, 0):
        text += "so does edk2 before 202411; for any later firmware the log was altered. State the release to decide"
    else:
        text += f"edk2 puts {_counted((2, 0))} before 202411, and {_counted((1, 1))} from then on"
    yield StructureFinding(False, position, text)


def _counted(counts: tuple[int, int]) -> str:
    return f"{counts[0]} in rtmr0 and {counts[1]} in rtmr1"


def _separators(events: Sequence[ParsedEvent], register: str) -> list[ParsedEvent]:
    return [event for event in events if event.register == register and event.event_type == EV_SEPARATOR]


def _variables_after_separator(events: Sequence[ParsedEvent]) -> Iterator[StructureFinding]:
    """Secure-boot variables are measured before the first separator of RTMR[0] (`measurement.md` 5.2)."""
    separators = _separators(events, "rtmr0")
    for event in events:
        if event.event_type == EV_EFI_VARIABLE_DRIVER_CONFIG and separators and event.position > separators[0].position:
            yield StructureFinding(
                False,
                event.position,
                f"{event.name or 'a variable'} is measured after the separator that ends the configuration",
            )


def _events_after_exit(events: Sequence[ParsedEvent]) -> Iterator[StructureFinding]:
    """After boot services ended, no firmware extends RTMR[0] or RTMR[1] any more."""
    ended = [event.position for event in events if _is_exit(event)]
    for event in events:
        if ended and event.position > ended[0] and event.register in _FIRMWARE_REGISTERS and not _is_exit(event):
            yield StructureFinding(
                False, event.position, f"{event.type_name} extends {event.register} after boot services ended"
            )


def _is_exit(event: ParsedEvent) -> bool:
    return event.event_type == EV_EFI_ACTION and event.data == _EXIT_BOOT_SERVICES
