"""Logs and quotes against predictions: what is equal, what differs, and what nobody can tell."""

from dataclasses import replace

import pytest

from builder.measure import BootFiles, Measurer, ParsedEvent, VmmSpec, launch_profiles, parse_ccel, replay
from builder.measure.evidence.quote import TdReportBody
from builder.measure.explain.log_comparison import Outcome, best_comparison, compare_log
from builder.measure.rtmr import registers_of
from builder.model.event import EV_NO_ACTION, PredictedEvent, UnpredictedEvent
from builder.model.reference_values import AcpiDigests, Prediction
from tests.fakes.boot_files import Firmware, bzimage
from tests.fakes.event_logs import ccel_of

FILES = BootFiles(Firmware().encode(), bzimage(), b"initrd", "console=ttyS0")
VMM = VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off", "host", ("serial",))
ACPI = AcpiDigests("1" * 96, "2" * 96, "3" * 96)
PROFILES = launch_profiles(FILES, vmm=VMM, edk2="202502", shapes=[(1, 1 << 30), (2, 2 << 30)])
ONE, TWO = (Measurer(FILES).predict(profile, ACPI) for profile in PROFILES)
EQUAL, DIFFERS, NOT_PROVEN = Outcome.EQUAL, Outcome.DIFFERS, Outcome.NOT_PROVEN


def predicted_events(prediction: Prediction) -> list[PredictedEvent]:
    return [event for event in prediction.events if isinstance(event, PredictedEvent)]


def log_of(prediction: Prediction) -> tuple[ParsedEvent, ...]:
    return parse_ccel(ccel_of(predicted_events(prediction)))


def body(mrtd: str, events: tuple[ParsedEvent, ...]) -> TdReportBody:
    """The quote of a TD with this MRTD that measured these events."""
    zero = "00" * 48
    return TdReportBody("", zero, zero, "", "", "", mrtd, zero, zero, zero, **replay(events), report_data="00" * 64)


def outcomes(prediction: Prediction, log: tuple[ParsedEvent, ...], quote: TdReportBody | None = None) -> dict[str, str]:
    return {each.register: each.outcome for each in compare_log(prediction, log, quote=quote)}


LOG = log_of(TWO)
QUOTE = body(TWO.registers.mrtd, LOG)


def open_register(prediction: Prediction, name: str) -> Prediction:
    """The prediction without the digest of the event `name`."""
    events = tuple(
        UnpredictedEvent(event.register, event.event_type, event.name, "no rule") if event.name == name else event
        for event in prediction.events
    )
    return replace(prediction, events=events, registers=registers_of(prediction.registers.mrtd, events))


def test_what_was_predicted_is_equal_with_and_without_a_quote() -> None:
    assert outcomes(TWO, LOG) == {"rtmr0": EQUAL, "rtmr1": EQUAL, "rtmr2": EQUAL}
    assert set(outcomes(TWO, LOG, QUOTE).values()) == {EQUAL}
    assert list(outcomes(TWO, LOG, QUOTE)) == ["mrtd", "rtmr0", "rtmr1", "rtmr2"]


@pytest.mark.parametrize("position", range(len(LOG)))
def test_any_event_changed_makes_its_register_differ_and_no_other(position: int) -> None:
    changed = (*LOG[:position], replace(LOG[position], digest="ee" * 48), *LOG[position + 1 :])
    for quote in (None, body(TWO.registers.mrtd, changed)):
        found = outcomes(TWO, changed, quote)
        assert [register for register, outcome in found.items() if outcome is DIFFERS] == [LOG[position].register]
        assert NOT_PROVEN not in found.values()


@pytest.mark.parametrize("position", range(len(LOG)))
def test_a_log_that_is_not_the_quotes_is_never_equal(position: int) -> None:
    """The quote is as predicted, the log is another's: the register of the changed event is not proven."""
    changed = (*LOG[:position], replace(LOG[position], digest="ee" * 48), *LOG[position + 1 :])
    compared = {each.register: each for each in compare_log(TWO, changed, quote=QUOTE)}
    foreign = compared[LOG[position].register or ""]
    assert foreign.outcome is NOT_PROVEN
    assert not foreign.is_evidence
    assert "no evidence for it" in foreign.detail
    assert all(each.is_evidence for register, each in compared.items() if register != foreign.register)


def test_a_quote_that_differs_is_not_made_good_by_a_log_that_fits() -> None:
    quote = replace(QUOTE, rtmr2="ee" * 48)
    (found,) = [each for each in compare_log(TWO, LOG, quote=quote) if each.register == "rtmr2"]
    assert found.outcome is DIFFERS
    assert not found.is_evidence
    assert found.difference is None


def test_another_firmware_shows_in_mrtd_though_every_event_fits() -> None:
    assert outcomes(TWO, LOG, replace(QUOTE, mrtd="ee" * 48))["mrtd"] is DIFFERS


def test_user_space_decides_nothing() -> None:
    runtime = replace(LOG[0], register="rtmr3")
    assert set(outcomes(TWO, (*LOG, runtime), body(TWO.registers.mrtd, (*LOG, runtime))).values()) == {EQUAL}


def test_an_event_that_could_not_be_predicted_leaves_its_register_open() -> None:
    opened = open_register(TWO, "etc/acpi/tables")
    for quote in (None, QUOTE):
        found = outcomes(opened, LOG, quote)
        assert found["rtmr0"] is NOT_PROVEN
        assert found["rtmr1"] is EQUAL
    (compared,) = [each for each in compare_log(opened, LOG) if each.register == "rtmr0"]
    assert "no rule" in compared.detail


def test_an_open_register_still_differs_where_another_event_does() -> None:
    opened = open_register(TWO, "etc/acpi/tables")
    changed = (replace(LOG[0], digest="ee" * 48), *LOG[1:])
    for quote in (None, body(TWO.registers.mrtd, changed)):
        assert outcomes(opened, changed, quote)["rtmr0"] is DIFFERS


def test_notes_in_a_log_are_no_events() -> None:
    note = replace(LOG[0], event_type=EV_NO_ACTION, digest="00" * 48)
    assert set(outcomes(TWO, (note, *LOG, note)).values()) == {EQUAL}


def test_a_register_without_predicted_events_has_to_stay_empty() -> None:
    without = tuple(event for event in TWO.events if event.register != "rtmr2")
    empty = replace(TWO, events=without, registers=registers_of(TWO.registers.mrtd, without))
    kept = tuple(event for event in LOG if event.register != "rtmr2")
    assert outcomes(empty, kept)["rtmr2"] is EQUAL
    assert outcomes(empty, LOG)["rtmr2"] is DIFFERS
    assert outcomes(TWO, kept)["rtmr2"] is DIFFERS


def test_the_profile_that_fits_is_chosen_wherever_it_stands() -> None:
    for predictions in ((ONE, TWO), (TWO, ONE)):
        prediction, compared = best_comparison(predictions, LOG)
        assert prediction is TWO
        assert {each.outcome for each in compared} == {EQUAL}


def test_an_open_profile_is_never_preferred_to_one_that_fits() -> None:
    opened = open_register(TWO, "etc/acpi/tables")
    assert best_comparison((opened, TWO), LOG)[0] is TWO
    assert best_comparison((ONE, opened), LOG)[0] is opened


def test_the_nearest_profile_is_the_one_with_most_in_common() -> None:
    changed = (*LOG[:3], replace(LOG[3], digest="ee" * 48), *LOG[4:])
    assert best_comparison((ONE, TWO), changed)[0] is TWO
