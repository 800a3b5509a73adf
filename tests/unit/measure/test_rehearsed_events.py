"""A rehearsal names every event that was not measured as predicted, and never passes what it cannot compare."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.encoding.canonical_json import encode_canonical
from builder.errors import DocumentError, ExitStatus, NotProvenError, worst_status
from builder.measure import blobs_for
from builder.measure.evidence.guest_log import Log
from builder.measure.rehearsal import mapped_log, rehearsal_of, rehearsed_events
from builder.model.event import EV_EFI_VARIABLE_BOOT, EV_NO_ACTION, EV_SEPARATOR, UnpredictedEvent
from builder.model.reference_values import Prediction
from builder.model.rehearsal import (
    BootEnd,
    EventVerdict,
    Rehearsal,
    RehearsedEvent,
    rehearsal_document,
    rehearsal_record,
)
from tests.fakes.boot_files import acpi_tables
from tests.fakes.emulated_boot import (
    SEPARATOR,
    TPM_LOG_DIGEST,
    acpi_with_tpm,
    event,
    observation,
    predicted,
    tpm_log,
)

OTHER = "f" * 96
HONEST = tpm_log(predicted(), acpi_with_tpm())
FAILURES = {EventVerdict.DIFFERS, EventVerdict.MISSING, EventVerdict.EXTRA}


def rehearsed(log: Log, *, end: BootEnd = BootEnd.POWERED_OFF, prediction: Prediction | None = None) -> Rehearsal:
    return rehearsal_of(prediction or predicted(), observation(log, end=end))


def place_of(name: str) -> int:
    (place,) = [place for place, each in enumerate(HONEST) if each.name == name]
    return place


def without(place: int) -> Log:
    return HONEST[:place] + HONEST[place + 1 :]


def failures(rehearsal: Rehearsal) -> list[tuple[str | None, str, EventVerdict]]:
    return [(each.register, each.name, each.verdict) for each in rehearsal.failures]


def verdicts(rehearsal: Rehearsal, verdict: EventVerdict) -> list[tuple[str | None, str]]:
    return [(each.register, each.name) for each in rehearsal.events if each.verdict is verdict]


@pytest.mark.parametrize("edk2", ["202211", "202302", "202408", "202411", "202502"])
def test_a_boot_that_measures_what_was_predicted_passes_for_every_generation(edk2: str) -> None:
    prediction = predicted(edk2)
    rehearsal = rehearsed(tpm_log(prediction, acpi_with_tpm()), prediction=prediction)
    assert rehearsal.failures == ()
    assert rehearsal.status is ExitStatus.OK
    assert rehearsal.acpi_measured is (edk2 != "202211")


def test_what_only_a_td_has_is_listed_and_never_passed() -> None:
    rehearsal = rehearsed(HONEST)
    assert verdicts(rehearsal, EventVerdict.NOT_REHEARSABLE) == [
        ("mrtd", "MRTD"),
        ("rtmr0", "TD HOB"),
        ("rtmr0", "variable store"),
    ]
    assert [each.observed for each in rehearsal.events[:3]] == [None] * 3


def test_every_other_predicted_event_is_compared() -> None:
    compared = [each for each in rehearsed(HONEST).events if each.verdict is EventVerdict.AGREES]
    wanted = [(each.register, each.name) for each in predicted().events[2:]]
    assert [(each.register, each.name) for each in compared if each.name != "etc/tpm/log"] == wanted


def test_tables_are_compared_with_those_of_the_machine_with_a_tpm() -> None:
    rows = [each for each in rehearsed(HONEST).events if each.name.startswith("etc/")]
    digests = acpi_with_tpm().digests()
    assert [each.name for each in rows] == ["etc/table-loader", "etc/acpi/rsdp", "etc/tpm/log", "etc/acpi/tables"]
    assert [each.predicted for each in rows] == [digests.loader, digests.rsdp, TPM_LOG_DIGEST, digests.tables]
    assert all("TPM" in each.note or "TD" in each.note for each in rows)


def test_tables_of_a_machine_without_a_tpm_are_no_prediction_of_the_rehearsed_one() -> None:
    with pytest.raises(DocumentError, match="machine without a TPM"):
        rehearsal_of(predicted(), observation(HONEST, acpi=blobs_for(acpi_tables(1))))


def test_tables_of_another_number_of_processors_are_refused() -> None:
    with pytest.raises(DocumentError, match="2 processors, the machine shape has 1"):
        rehearsal_of(predicted(), observation(HONEST, acpi=acpi_with_tpm(2)))


def test_a_prediction_that_qemu_has_no_tables_for_cannot_be_rehearsed() -> None:
    with pytest.raises(DocumentError, match="builds ACPI tables of its own"):
        rehearsed(HONEST, prediction=replace(predicted(), acpi=None))


@pytest.mark.parametrize("place", range(len(HONEST)), ids=lambda place: f"{place} {HONEST[place].name}")
def test_a_changed_digest_is_named_and_nothing_else(place: int) -> None:
    changed = (*HONEST[:place], replace(HONEST[place], digest=OTHER), *HONEST[place + 1 :])
    rehearsal = rehearsed(changed)
    if HONEST[place].index == 0 and HONEST[place].event_type != EV_SEPARATOR:
        assert rehearsal.status is ExitStatus.OK, "no register of a TD has the firmware volumes of PCR 0"
        return
    assert rehearsal.status is ExitStatus.REGISTER_DIFFERS
    if HONEST[place].event_type != EV_SEPARATOR:
        (failure,) = rehearsal.failures
        assert failure.verdict is EventVerdict.DIFFERS
        assert (failure.predicted, failure.observed) == (HONEST[place].digest, OTHER)


@pytest.mark.parametrize("place", range(2, len(HONEST)), ids=lambda place: f"{place} {HONEST[place].name}")
def test_a_missing_event_is_a_failure(place: int) -> None:
    rehearsal = rehearsed(without(place))
    assert rehearsal.status is ExitStatus.REGISTER_DIFFERS
    if HONEST[place].event_type != EV_SEPARATOR:
        (failure,) = rehearsal.failures
        assert (failure.verdict, failure.predicted, failure.observed) == (
            EventVerdict.MISSING,
            HONEST[place].digest,
            None,
        )


@pytest.mark.parametrize(
    ("extra", "register"),
    [
        (event(1, EV_EFI_VARIABLE_BOOT, OTHER, name="Boot0001"), "rtmr0"),
        (event(4, 0x80000003, OTHER, name="driver"), "rtmr1"),
        (event(1, 0x8000000B, OTHER, name="TD HOB"), "rtmr0"),
        (event(12, 0xD, OTHER, name="text"), "rtmr2"),
        (event(0, 0x1, OTHER, name="code"), None),
        (event(16, 0x6, OTHER, name="debug"), None),
        (event(5, EV_SEPARATOR, SEPARATOR, name="separator"), "rtmr1"),
    ],
    ids=lambda value: value.name if not isinstance(value, str | None) else str(value),
)
def test_an_event_that_was_not_predicted_is_a_failure_wherever_it_stands(extra: object, register: str | None) -> None:
    for place in (0, place_of("db"), place_of("BootOrder"), len(HONEST)):
        rehearsal = rehearsed((*HONEST[:place], extra, *HONEST[place:]))  # type: ignore[arg-type]
        assert rehearsal.status is ExitStatus.REGISTER_DIFFERS
        assert [(each.register, each.verdict) for each in rehearsal.failures] == [(register, EventVerdict.EXTRA)]


@pytest.mark.parametrize(("first", "second"), [("PK", "KEK"), ("LOADED_IMAGE::LoadOptions", "Linux initrd")])
def test_events_in_another_order_are_failures(first: str, second: str) -> None:
    one, other = place_of(first), place_of(second)
    log = list(HONEST)
    log[one], log[other] = log[other], log[one]
    rehearsal = rehearsed(tuple(log))
    assert rehearsal.status is ExitStatus.REGISTER_DIFFERS
    assert {name for _, name, _ in failures(rehearsal)} <= {first, second}


def test_one_missing_event_does_not_make_all_after_it_differ() -> None:
    assert failures(rehearsed(without(place_of("PK")))) == [("rtmr0", "PK", EventVerdict.MISSING)]


def test_a_log_that_does_not_replay_to_the_pcrs_is_not_proven() -> None:
    left = observation(HONEST)
    for pcr in range(10):
        wrong = replace(left, pcrs={**left.pcrs, pcr: OTHER})
        with pytest.raises(NotProvenError, match="none of 1 candidates"):
            rehearsal_of(predicted(), wrong)


@pytest.mark.parametrize("missing", [*range(10)])
def test_a_pcr_that_was_not_read_is_not_proven(missing: int) -> None:
    left = observation(HONEST)
    pcrs = {pcr: value for pcr, value in left.pcrs.items() if pcr != missing}
    with pytest.raises(NotProvenError):
        rehearsal_of(predicted(), replace(left, pcrs=pcrs))


def test_without_any_candidate_nothing_is_proven() -> None:
    with pytest.raises(NotProvenError, match="none of 0 candidates"):
        rehearsal_of(predicted(), replace(observation(HONEST), candidates=[]))


def test_the_right_candidate_is_found_among_wrong_ones() -> None:
    left = replace(observation(HONEST), candidates=[HONEST[:5], (*HONEST, HONEST[0]), HONEST, ()])
    assert rehearsal_of(predicted(), left).status is ExitStatus.OK


@pytest.mark.parametrize("edk2", ["202408", "202502"])
def test_seven_separators_are_one_where_the_firmware_puts_it(edk2: str) -> None:
    prediction = predicted(edk2)
    rules = prediction.profile.firmware
    mapped = mapped_log(tpm_log(prediction, acpi_with_tpm()), rules)
    separators = [each.register for each in mapped if each.event.event_type == EV_SEPARATOR]
    assert separators == ["rtmr0", rules.boot_separator_register]


@pytest.mark.parametrize("change", ["other digest", "one too few", "one twice", "not together"])
def test_separators_that_are_not_seven_alike_are_no_ready_to_boot(change: str) -> None:
    place = next(place for place, each in enumerate(HONEST) if each.event_type == EV_SEPARATOR and each.index == 0)
    log = list(HONEST)
    if change == "other digest":
        log[place + 3] = replace(log[place + 3], digest=OTHER)
    elif change == "one too few":
        del log[place + 3]
    elif change == "one twice":
        log[place + 3] = log[place + 4]
    else:
        log.insert(place + 3, event(4, 0x80000007, OTHER))
    rehearsal = rehearsed(tuple(log))
    assert rehearsal.status is ExitStatus.REGISTER_DIFFERS
    assert EventVerdict.EXTRA in {each.verdict for each in rehearsal.failures}


def test_boot_variables_of_old_td_firmware_are_compared_where_its_driver_puts_them() -> None:
    prediction = predicted("202211")
    profile = prediction.profile
    moved = replace(profile, firmware=replace(profile.firmware, boot_variables_register="rtmr1"))
    mapped = mapped_log(tpm_log(prediction, acpi_with_tpm()), moved.firmware)
    assert {each.register for each in mapped if each.event.event_type == EV_EFI_VARIABLE_BOOT} == {"rtmr1"}


def test_events_that_extend_nothing_are_not_compared() -> None:
    nothing = event(0, EV_NO_ACTION, "0" * 96, name="StartupLocality")
    assert rehearsed((nothing, *HONEST)).status is ExitStatus.OK


def open_prediction() -> Prediction:
    """The prediction with one event, Boot0000, that no rule derives."""
    events = tuple(
        UnpredictedEvent(each.register, each.event_type, each.name, "no rule") if each.name == "Boot0000" else each
        for each in predicted().events
    )
    return replace(predicted(), events=events)


def test_an_event_that_no_rule_derives_is_no_pass_and_no_failure() -> None:
    rehearsal = rehearsed(HONEST, prediction=open_prediction())
    assert verdicts(rehearsal, EventVerdict.NOT_DERIVABLE) == [("rtmr0", "Boot0000")]
    assert rehearsal.status is ExitStatus.OK


def test_an_event_that_no_rule_derives_has_to_be_there() -> None:
    rehearsal = rehearsed(without(place_of("Boot0000")), prediction=open_prediction())
    assert failures(rehearsal) == [("rtmr0", "Boot0000", EventVerdict.MISSING)]


def open_from(name: str, register: str) -> Prediction:
    """The prediction with an event before `name` that stands for any number of events."""
    run = UnpredictedEvent(register, 0xD, "some files", "nobody knows which", repeats=True)
    place = [each.name for each in predicted().events].index(name)
    return replace(predicted(), events=(*predicted().events[:place], run, *predicted().events[place:]))


INITRD = place_of("Linux initrd")
SOME = tuple(event(12, 0xD, f"{number:096x}", name="file") for number in range(3))


@pytest.mark.parametrize(
    "log",
    [
        HONEST,
        (*HONEST[:INITRD], *SOME, *HONEST[INITRD:]),
        (*HONEST[: INITRD + 1], *SOME, *HONEST[INITRD + 1 :]),
        (*HONEST[:INITRD], replace(HONEST[INITRD], digest=OTHER), *HONEST[INITRD + 1 :]),
        without(INITRD),
        (*HONEST[:INITRD], HONEST[INITRD - 1], *HONEST[INITRD:]),
    ],
    ids=["none", "some before", "some behind", "another in its place", "nothing at all", "one again"],
)
def test_after_events_that_nobody_can_count_nothing_is_a_difference_and_nothing_agrees(log: Log) -> None:
    rehearsal = rehearsed(log, prediction=open_from("Linux initrd", "rtmr2"))
    assert rehearsal.failures == ()
    assert verdicts(rehearsal, EventVerdict.NOT_DERIVABLE) == [("rtmr2", "some files"), ("rtmr2", "Linux initrd")]
    assert ("rtmr2", "LOADED_IMAGE::LoadOptions") in verdicts(rehearsal, EventVerdict.AGREES)
    assert rehearsal.open_registers == ("rtmr2",)
    assert rehearsal.status is ExitStatus.OK, "a release lists it"
    assert worst_status(rehearsal.statuses) is ExitStatus.NOT_PROVEN


@pytest.mark.parametrize("name", ["LOADED_IMAGE::LoadOptions", "kernel", "PK"])
def test_what_comes_before_them_and_in_other_registers_is_still_compared(name: str) -> None:
    place = place_of(name)
    changed = (*HONEST[:place], replace(HONEST[place], digest=OTHER), *HONEST[place + 1 :])
    for log in (changed, without(place)):
        rehearsal = rehearsed(log, prediction=open_from("Linux initrd", "rtmr2"))
        assert [each.name for each in rehearsal.failures] == [name]
        assert worst_status(rehearsal.statuses) is ExitStatus.REGISTER_DIFFERS


def test_an_event_in_the_wrong_place_before_them_is_a_difference() -> None:
    place = place_of("LOADED_IMAGE::LoadOptions")
    rehearsal = rehearsed((*HONEST[:place], SOME[0], *HONEST[place:]), prediction=open_from("Linux initrd", "rtmr2"))
    assert failures(rehearsal) == [("rtmr2", "file", EventVerdict.EXTRA)]


def test_where_everything_is_behind_such_events_nothing_is_proven() -> None:
    runs = [UnpredictedEvent(each, 0xD, "anything", "no rule", repeats=True) for each in ("rtmr0", "rtmr1", "rtmr2")]
    rehearsal = rehearsed(HONEST, prediction=replace(predicted(), events=(*runs, *predicted().events)))
    assert rehearsal.open_registers == ("rtmr0", "rtmr1", "rtmr2")
    assert verdicts(rehearsal, EventVerdict.AGREES) == []
    assert rehearsal.status is ExitStatus.NOT_PROVEN


def test_an_underivable_event_that_equals_its_neighbour_is_not_taken_for_it() -> None:
    """Boot0000 has by chance the digest of BootOrder, which comes before or after it."""
    one, other = place_of("Boot0000"), place_of("BootOrder")
    log = list(HONEST)
    log[one] = replace(log[one], digest=log[other].digest)
    assert rehearsed(tuple(log), prediction=open_prediction()).failures == ()


def test_what_a_time_limit_cut_off_is_not_proven_and_no_difference() -> None:
    early = HONEST[: place_of("Linux initrd")]
    rehearsal = rehearsed(early, end=BootEnd.TIME_LIMIT)
    assert rehearsal.status is ExitStatus.NOT_PROVEN
    assert {each.verdict for each in rehearsal.failures} == {EventVerdict.MISSING}
    assert rehearsed(early, end=BootEnd.POWERED_OFF).status is ExitStatus.REGISTER_DIFFERS


def test_a_difference_is_one_although_a_time_limit_cut_off_the_rest() -> None:
    place = place_of("PK")
    early = (*HONEST[:place], replace(HONEST[place], digest=OTHER))
    assert rehearsed(early, end=BootEnd.TIME_LIMIT).status is ExitStatus.REGISTER_DIFFERS


@pytest.mark.parametrize("wanted", [True, False], ids=["a text wanted", "no text wanted"])
@pytest.mark.parametrize("end", list(BootEnd))
def test_only_a_complete_log_of_a_guest_that_left_boot_services_passes(end: BootEnd, wanted: bool) -> None:
    ready = not wanted or end is BootEnd.TEXT_SEEN
    assert status_of(HONEST, end, wanted=wanted) is (ExitStatus.OK if ready else ExitStatus.NOT_PROVEN)
    lost = without(place_of("Linux initrd"))
    assert status_of(lost, end, wanted=wanted) is ExitStatus.REGISTER_DIFFERS


@pytest.mark.parametrize("wanted", [True, False], ids=["a text wanted", "no text wanted"])
@pytest.mark.parametrize("end", list(BootEnd))
@pytest.mark.parametrize("last", ["kernel", "Linux initrd", "Exit Boot Services Invocation"])
def test_what_is_missing_of_a_boot_that_we_ended_is_not_proven(end: BootEnd, wanted: bool, last: str) -> None:
    """A text may be seen before the firmware is left: a boot loader's, or one that the guest prints early."""
    cut = end in (BootEnd.TEXT_SEEN, BootEnd.TIME_LIMIT)
    status = ExitStatus.NOT_PROVEN if cut else ExitStatus.REGISTER_DIFFERS
    assert status_of(HONEST[: place_of(last) + 1], end, wanted=wanted) is status


@pytest.mark.parametrize("end", list(BootEnd))
def test_a_guest_that_never_left_boot_services_does_not_pass_although_nothing_is_missing(end: BootEnd) -> None:
    complete = rehearsed(HONEST, end=end)
    assert replace(complete, left_boot_services=False).status is ExitStatus.NOT_PROVEN


def status_of(log: Log, end: BootEnd, *, wanted: bool) -> ExitStatus:
    return rehearsal_of(predicted(), observation(log, end=end), text_wanted=wanted).status


def test_an_event_is_missing_if_the_guest_left_boot_services_without_it() -> None:
    rehearsal = rehearsed(without(place_of("Linux initrd")), end=BootEnd.TIME_LIMIT)
    assert rehearsal.status is ExitStatus.REGISTER_DIFFERS


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (BootEnd.TEXT_SEEN, ExitStatus.OK),
        (BootEnd.POWERED_OFF, ExitStatus.NOT_PROVEN),
        (BootEnd.RESET, ExitStatus.NOT_PROVEN),
        (BootEnd.TIME_LIMIT, ExitStatus.NOT_PROVEN),
    ],
)
def test_a_text_that_was_waited_for_and_did_not_come_is_not_proven(end: BootEnd, status: ExitStatus) -> None:
    assert rehearsal_of(predicted(), observation(HONEST, end=end), text_wanted=True).status is status


def test_a_rehearsal_that_compared_nothing_proves_nothing() -> None:
    rows = tuple(each for each in rehearsed(HONEST).events if each.verdict is not EventVerdict.AGREES)
    assert replace(rehearsed(HONEST), events=rows).status is ExitStatus.NOT_PROVEN
    assert replace(rehearsed(HONEST), events=()).status is ExitStatus.NOT_PROVEN


def test_the_record_for_a_manifest_has_a_verdict_for_every_event_and_nothing_of_the_run() -> None:
    one, other = rehearsed(HONEST), rehearsed(HONEST, end=BootEnd.STAYED_UP)
    assert encode_canonical(rehearsal_record(one)) == encode_canonical(rehearsal_record(other))
    assert len(rehearsal_record(one)["events"]) == len(one.events)
    assert rehearsal_document(one)["end"] == "powered off"


@given(st.lists(st.sampled_from(range(len(HONEST))), max_size=2 * len(HONEST)))
def test_only_the_predicted_sequence_passes(places: list[int]) -> None:
    """Whatever is left out, repeated or reordered within a register is never a pass."""
    log = tuple(HONEST[place] for place in places)
    rows = rehearsed_events(predicted(), log, acpi_with_tpm())
    passed = not {each.verdict for each in rows} & FAILURES
    assert passed == (by_register(log) == by_register(HONEST))


def by_register(log: Log) -> list[list[str]]:
    mapped = mapped_log(log, predicted().profile.firmware)
    known = [each for each in mapped if each.register is not None]
    return [
        [each.event.digest for each in known if each.register == register] for register in ("rtmr0", "rtmr1", "rtmr2")
    ] + [[each.event.digest for each in mapped if each.register is None and each.event.event_type == EV_SEPARATOR]]


def test_a_row_without_a_type_has_no_type_name() -> None:
    row = RehearsedEvent("mrtd", None, "MRTD", OTHER, None, EventVerdict.NOT_REHEARSABLE)
    assert row.type_name == ""
