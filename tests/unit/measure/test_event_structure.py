"""Separators and order of a boot's events (`measurement.md` 5.2, 5.5)."""

import pytest

from builder.errors import DocumentError
from builder.measure import ParsedEvent
from builder.measure.evidence.event_structure import structure_findings
from builder.model.event import EV_EFI_ACTION, EV_EFI_VARIABLE_DRIVER_CONFIG, EV_SEPARATOR

EXIT = b"Exit Boot Services Returned with Success"


def events(*rows: tuple[str, int, bytes]) -> list[ParsedEvent]:
    return [ParsedEvent(number, 1, *row[:2], "ab" * 48, row[2], "") for number, row in enumerate(rows)]


VARIABLE = ("rtmr0", EV_EFI_VARIABLE_DRIVER_CONFIG, b"")
FIRST = ("rtmr0", EV_SEPARATOR, bytes(4))
IN_RTMR0, IN_RTMR1 = FIRST, ("rtmr1", EV_SEPARATOR, bytes(4))
EXITED = ("rtmr1", EV_EFI_ACTION, EXIT)
OLD, NEW = events(VARIABLE, FIRST, IN_RTMR0, EXITED), events(VARIABLE, FIRST, IN_RTMR1, EXITED)


@pytest.mark.parametrize(("log", "edk2"), [(OLD, "202302"), (OLD, "202408"), (NEW, "202411"), (NEW, "202602")])
def test_the_separators_of_a_release_are_right_for_it(log: list[ParsedEvent], edk2: str) -> None:
    assert structure_findings(log, edk2=edk2) == ()


@pytest.mark.parametrize(("log", "edk2"), [(OLD, "202411"), (OLD, "202502"), (NEW, "202408")])
def test_the_separators_of_another_release_are_wrong(log: list[ParsedEvent], edk2: str) -> None:
    findings = structure_findings(log, edk2=edk2)
    assert len(findings) == 2  # one too many, one missing
    assert all(finding.wrong for finding in findings)
    assert {finding.position for finding in findings} == {2, None}
    assert f"edk2 {edk2} puts" in findings[0].text


def test_without_a_release_two_separators_are_a_note_that_says_what_decides() -> None:
    (finding,) = structure_findings(OLD, edk2=None)
    assert not finding.wrong
    assert finding.position == 2
    assert "for any later firmware the log was altered" in finding.text
    assert structure_findings(NEW, edk2=None) == ()


@pytest.mark.parametrize("edk2", ["202408", "202502"])
def test_a_third_separator_is_wrong_for_every_release(edk2: str) -> None:
    findings = structure_findings(events(FIRST, IN_RTMR0, IN_RTMR0, IN_RTMR1, EXITED), edk2=edk2)
    assert len([finding for finding in findings if finding.wrong]) == 2


def test_no_separator_at_all_is_noted() -> None:
    (finding,) = structure_findings(events(EXITED), edk2=None)
    assert (finding.position, finding.wrong) == (None, False)
    assert finding.text.startswith("0 separators in rtmr0 and 0 in rtmr1")


def test_a_variable_after_the_separator_is_noted() -> None:
    (finding,) = structure_findings(events(FIRST, VARIABLE, IN_RTMR1), edk2="202502")
    assert (finding.position, finding.wrong) == (1, False)


def test_an_event_of_the_firmware_after_boot_services_ended_is_noted() -> None:
    late = events(VARIABLE, FIRST, IN_RTMR1, EXITED, VARIABLE, ("rtmr2", 6, b""))
    positions = [finding.position for finding in structure_findings(late, edk2="202502")]
    assert positions == [4, 4]  # late, and behind the separator


@pytest.mark.parametrize("edk2", ["", "2024", "202413", "latest", "2024111", "２０２４１１"])
def test_a_release_that_is_none_is_refused(edk2: str) -> None:
    with pytest.raises(DocumentError, match="not of the form YYYYMM"):
        structure_findings(NEW, edk2=edk2)
