"""Logs and quotes of the same TD, and of another: which registers a log is evidence for (INDEX.md of the vectors)."""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from builder.measure import (
    AcpiDigests,
    ParsedEvent,
    Quote,
    VmmSpec,
    first_difference,
    parse_ccel,
    parse_dstack_event_log,
    parse_quote,
    replay,
)
from builder.measure.boot.direct import rtmr1_events, rtmr2_events
from builder.measure.explain.log_comparison import Outcome, compare_log
from builder.measure.explain.neighbours import Case, Materials, explain
from builder.measure.profile import firmware_rules
from builder.measure.rtmr import registers_of
from builder.model.event import EV_NO_ACTION, EV_SEPARATOR, PredictedEvent
from builder.model.launch_profile import CcMeasurement, KernelForm, LaunchProfile, PageOrder, SecureBootVariable
from builder.model.reference_values import Prediction

# pair -> the registers that its log does not replay to
PAIRS = {
    ("pairs/gcp-cos113/ccel.bin", "pairs/gcp-cos113/quote.bin"): [],
    ("pairs/qemu-direct-2g/ccel.bin", "pairs/qemu-direct-2g/quote.bin"): [],
    ("pairs/qemu-direct-2g/ccel_other_cmdline.bin", "pairs/qemu-direct-2g/quote.bin"): ["rtmr2"],
    ("pairs/dstack-1cpu-1g/ccel.bin", "pairs/dstack-1cpu-1g/quote.bin"): ["rtmr1", "rtmr3"],
    ("ccel/go-eventlog_cos-113-intel-tdx-dupe-separator.bin", "pairs/gcp-cos113/quote.bin"): ["rtmr0", "rtmr1"],
    ("pairs/gcp-cos113/ccel.bin", "pairs/qemu-direct-2g/quote.bin"): ["rtmr0", "rtmr1", "rtmr2"],
}
IN_JSON = "pairs/dstack-2cpu-2g/tdx-lite-getquote.json"
COVERS = (*(name for pair in PAIRS for name in pair), IN_JSON)
RULES_G2 = firmware_rules(
    "202502", secure_boot_variable=SecureBootVariable.ABSENT, cc_measurement=CcMeasurement.PRESENT
)


def ccel(vectors: Path, name: str) -> tuple[ParsedEvent, ...]:
    return parse_ccel((vectors / name).read_bytes())


def quote(vectors: Path, name: str) -> Quote:
    return parse_quote((vectors / name).read_bytes())


def rtmrs(parsed: Quote) -> dict[str, str]:
    return {name: getattr(parsed.body, name) for name in ("rtmr0", "rtmr1", "rtmr2", "rtmr3")}


def differing(log: Sequence[ParsedEvent], parsed: Quote) -> list[str]:
    replayed = replay(log)
    return [name for name, value in rtmrs(parsed).items() if replayed[name] != value]


@pytest.mark.parametrize(("pair", "registers"), PAIRS.items(), ids=["-".join(pair) for pair in PAIRS])
def test_a_log_replays_to_the_registers_of_its_own_quote_only(
    vectors: Path, pair: tuple[str, str], registers: list[str]
) -> None:
    assert differing(ccel(vectors, pair[0]), quote(vectors, pair[1])) == registers


@pytest.mark.parametrize("pair", ["gcp-cos113", "qemu-direct-2g"])
def test_the_log_of_a_pair_replays_to_its_quote(vectors: Path, pair: str) -> None:
    log, parsed = ccel(vectors, f"pairs/{pair}/ccel.bin"), quote(vectors, f"pairs/{pair}/quote.bin")
    assert differing(log, parsed) == []
    assert "00" * 48 not in list(rtmrs(parsed).values())[:3]


@pytest.mark.parametrize("pair", ["gcp-cos113", "qemu-direct-2g"])
def test_no_event_of_a_pair_can_be_left_out_doubled_or_exchanged(vectors: Path, pair: str) -> None:
    log, parsed = ccel(vectors, f"pairs/{pair}/ccel.bin"), quote(vectors, f"pairs/{pair}/quote.bin")
    for position, event in enumerate(log):
        if event.register is None or event.event_type == EV_NO_ACTION:
            continue
        assert differing([*log[:position], *log[position + 1 :]], parsed) == [event.register]
        assert differing([*log[: position + 1], *log[position:]], parsed) == [event.register]


def test_the_log_of_another_boot_differs_in_rtmr2_only(vectors: Path) -> None:
    log = ccel(vectors, "pairs/qemu-direct-2g/ccel_other_cmdline.bin")
    assert differing(log, quote(vectors, "pairs/qemu-direct-2g/quote.bin")) == ["rtmr2"]


def test_a_log_of_another_kernel_differs_in_rtmr1_and_has_no_user_space(vectors: Path) -> None:
    log = ccel(vectors, "pairs/dstack-1cpu-1g/ccel.bin")
    assert differing(log, quote(vectors, "pairs/dstack-1cpu-1g/quote.bin")) == ["rtmr1", "rtmr3"]


def test_a_moved_separator_does_not_replay(vectors: Path) -> None:
    tampered = ccel(vectors, "ccel/go-eventlog_cos-113-intel-tdx-dupe-separator.bin")
    genuine = ccel(vectors, "pairs/gcp-cos113/ccel.bin")
    assert differing(tampered, quote(vectors, "pairs/gcp-cos113/quote.bin")) == ["rtmr0", "rtmr1"]
    separators = [
        Counter(event.register for event in log if event.event_type == EV_SEPARATOR) for log in (tampered, genuine)
    ]
    assert separators == [Counter({"rtmr0": 2}), Counter({"rtmr0": 1, "rtmr1": 1})]


# comparing: what one TD measured as the prediction for another


def prediction_of(log: Sequence[ParsedEvent], parsed: Quote, *, memory: int = 2 << 30) -> Prediction:
    """A prediction whose events are those of a log: for comparing another log with it."""
    events = tuple(
        PredictedEvent(event.register, event.event_type, event.name, event.digest, "the log")
        for event in log
        if event.register and event.event_type != EV_NO_ACTION
    )
    profile = LaunchProfile(
        name="of the log",
        vmm=VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off,hpet=off", "host", ()),
        vcpus=1,
        memory=memory,
        page_order=PageOrder.SINGLE_PASS,
        kernel_form=KernelForm.RAW,
        kernel_release="",
        firmware=RULES_G2,
        caveats=(),
    )
    return Prediction(profile, registers_of(parsed.body.mrtd, events), events, AcpiDigests(*("ab" * 48,) * 3))


def compared(prediction: Prediction, log: Sequence[ParsedEvent], parsed: Quote) -> dict[str, Outcome]:
    return {each.register: each.outcome for each in compare_log(prediction, log, quote=parsed.body)}


@pytest.mark.parametrize("pair", ["gcp-cos113", "qemu-direct-2g"])
def test_a_td_that_is_as_predicted_is_equal_in_every_register(vectors: Path, pair: str) -> None:
    log, parsed = ccel(vectors, f"pairs/{pair}/ccel.bin"), quote(vectors, f"pairs/{pair}/quote.bin")
    assert set(compared(prediction_of(log, parsed), log, parsed).values()) == {Outcome.EQUAL}


def test_the_log_of_another_boot_is_no_evidence_for_rtmr2(vectors: Path) -> None:
    """The quote is as predicted, the log is not its own: the register is not proven, and no event is blamed."""
    parsed = quote(vectors, "pairs/qemu-direct-2g/quote.bin")
    prediction = prediction_of(ccel(vectors, "pairs/qemu-direct-2g/ccel.bin"), parsed)
    other = ccel(vectors, "pairs/qemu-direct-2g/ccel_other_cmdline.bin")
    outcomes = compared(prediction, other, parsed)
    assert outcomes.pop("rtmr2") is Outcome.NOT_PROVEN
    assert set(outcomes.values()) == {Outcome.EQUAL}


def test_a_tampered_log_is_no_evidence_for_the_registers_it_was_tampered_in(vectors: Path) -> None:
    parsed = quote(vectors, "pairs/gcp-cos113/quote.bin")
    prediction = prediction_of(ccel(vectors, "pairs/gcp-cos113/ccel.bin"), parsed)
    tampered = ccel(vectors, "ccel/go-eventlog_cos-113-intel-tdx-dupe-separator.bin")
    outcomes = compared(prediction, tampered, parsed)
    assert [name for name, outcome in outcomes.items() if outcome is Outcome.NOT_PROVEN] == ["rtmr0", "rtmr1"]


def test_the_first_difference_of_two_boots_is_the_initrd(vectors: Path) -> None:
    """The other log is called one of another command line; its load options are equal, its initrd is not."""
    one = ccel(vectors, "pairs/qemu-direct-2g/ccel.bin")
    other = ccel(vectors, "pairs/qemu-direct-2g/ccel_other_cmdline.bin")
    predicted = [
        PredictedEvent(event.register, event.event_type, event.name, event.digest, "the other boot")
        for event in one
        if event.register
    ]
    difference = first_difference(predicted, other)
    assert difference is not None
    assert (difference.register, difference.position) == ("rtmr2", 1)
    assert difference.predicted is not None
    assert difference.predicted.name == "Linux initrd"


# explaining: real TDs that differ in one thing that is known of them


def meaning(predicted: Sequence[ParsedEvent], observed: Sequence[ParsedEvent], parsed: Quote) -> dict[str, list[str]]:
    prediction = prediction_of(predicted, parsed)
    found = {}
    for each in compare_log(prediction, observed):
        if each.difference is not None:
            case = Case(each.difference, prediction, (prediction,), tuple(observed), Materials())
            found[each.register] = list(explain(case))
    return found


@pytest.mark.parametrize(
    ("log", "statement"),
    [
        ("pairs/dstack-1cpu-1g/ccel.bin", "memory is 1 GiB, predicted for 2 GiB"),
        (
            "ccel/CCEL_data_ovmf",
            "the firmware has section layout S2 (IntelTdxX64, and OvmfPkgX64 to 202402), not the predicted one; "
            "memory is 2 GiB, as predicted",
        ),
        (
            "ccel/CCEL_data_grub",
            "the firmware has section layout S2 (IntelTdxX64, and OvmfPkgX64 to 202402), not the predicted one; "
            "memory is 10 GiB, predicted for 2 GiB",
        ),
    ],
)
def test_memory_and_layout_of_a_real_td_are_told_by_its_log(vectors: Path, log: str, statement: str) -> None:
    predicted = ccel(vectors, "pairs/qemu-direct-2g/ccel.bin")
    parsed = quote(vectors, "pairs/qemu-direct-2g/quote.bin")
    assert meaning(predicted, ccel(vectors, log), parsed)["rtmr0"] == [statement]


def test_older_firmware_is_told_by_its_separator(vectors: Path) -> None:
    """The genuine log with its second separator where the tampered one has it is what older firmware would measure."""
    genuine, parsed = ccel(vectors, "pairs/gcp-cos113/ccel.bin"), quote(vectors, "pairs/gcp-cos113/quote.bin")
    first_registers = [event for event in genuine if event.position < 18]
    moved = [
        replace(event, register="rtmr0", index=1) if event.event_type == EV_SEPARATOR and event.position > 8 else event
        for event in first_registers
    ]
    found = meaning(first_registers, moved, parsed)
    assert found["rtmr0"] == ["ReadyToBoot's separator is in rtmr0, predicted in rtmr1: so does edk2 before 202411"]
    assert found["rtmr1"] == ["ReadyToBoot's separator is in rtmr0, predicted in rtmr1: so does edk2 before 202411"]


def test_the_initrd_of_another_boot_is_not_guessed(vectors: Path) -> None:
    predicted = ccel(vectors, "pairs/qemu-direct-2g/ccel.bin")
    other = ccel(vectors, "pairs/qemu-direct-2g/ccel_other_cmdline.bin")
    assert meaning(predicted, other, quote(vectors, "pairs/qemu-direct-2g/quote.bin")) == {"rtmr2": []}


# dstack


def dstack(vectors: Path) -> dict[str, str]:
    document: dict[str, str] = json.loads((vectors / IN_JSON).read_text())
    return document


def test_a_dstack_log_replays_to_its_quote_with_user_space(vectors: Path) -> None:
    document = dstack(vectors)
    log = parse_dstack_event_log(document["event_log"].encode())
    assert differing(log, parse_quote(bytes.fromhex(document["quote"]))) == []
    swapped = [*log[:-2], log[-1], log[-2]]
    assert replay(swapped)["rtmr3"] != replay(log)["rtmr3"]


def cbor_bytes(document: bytes, name: str) -> str:
    """The 48 bytes that follow the text `name` in a CBOR map."""
    _, found, rest = document.partition(name.encode() + b"\x58\x30")
    assert found
    return rest[:48].hex()


def test_mrtd_rtmr1_and_rtmr2_of_a_dstack_quote_follow_from_its_image(vectors: Path) -> None:
    """QEMU 8.2.2 measures two-pass; kernel, initrd and command line come from the image's own document."""
    document = dstack(vectors)
    vm_config = json.loads(document["vm_config"])
    image = base64.b64decode(vm_config["tdx_measurement"]["measurement"])
    registers = parse_quote(bytes.fromhex(document["quote"])).body.registers
    assert registers.mrtd == cbor_bytes(image, "two_pass") != cbor_bytes(image, "single_pass")
    kernel = rtmr1_events(RULES_G2, kernel=cbor_bytes(image, "kernel_authenticode"), kernel_form=KernelForm.PATCHED)
    linux = rtmr2_events(load_options=cbor_bytes(image, "cmdline_sha384"), initrd=cbor_bytes(image, "initrd_sha384"))
    assert replay(kernel)["rtmr1"] == registers.rtmr1
    assert replay(linux)["rtmr2"] == registers.rtmr2
