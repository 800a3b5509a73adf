"""Event logs, quotes and TDREPORTs of real TDs, and the pairs of them (INDEX.md of the vectors)."""

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from builder.errors import DocumentError
from builder.measure import (
    ParsedEvent,
    Quote,
    data_matches_digest,
    first_difference,
    parse_ccel,
    parse_dstack_event_log,
    parse_quote,
    parse_tdreport,
    replay,
)
from builder.measure.direct_boot import rtmr1_events, rtmr2_events
from builder.measure.dstack_log import runtime_event_digest
from builder.measure.profile import firmware_rules
from builder.model.event import DSTACK_RUNTIME_EVENT, EV_SEPARATOR, PredictedEvent
from builder.model.launch_profile import CcMeasurement, KernelForm, SecureBootVariable

CCELS = [
    "pairs/gcp-cos113/ccel.bin",
    "pairs/qemu-direct-2g/ccel.bin",
    "pairs/qemu-direct-2g/ccel_other_cmdline.bin",
    "pairs/dstack-1cpu-1g/ccel.bin",
    "ccel/CCEL_data_ovmf",
    "ccel/CCEL_data_grub",
    "ccel/CCEL_data_gcp",
    "ccel/go-eventlog_cos-113-intel-tdx-dupe-separator.bin",
]
RULES_G2 = firmware_rules(
    "202502", secure_boot_variable=SecureBootVariable.ABSENT, cc_measurement=CcMeasurement.PRESENT
)


def ccel(vectors: Path, name: str) -> tuple[ParsedEvent, ...]:
    return parse_ccel((vectors / name).read_bytes())


def quote(vectors: Path, name: str) -> Quote:
    return parse_quote((vectors / name).read_bytes())


def rtmrs(parsed: Quote) -> dict[str, str]:
    return {name: getattr(parsed.body, name) for name in ("rtmr0", "rtmr1", "rtmr2", "rtmr3")}


def differing(log: tuple[ParsedEvent, ...], parsed: Quote) -> list[str]:
    replayed = replay(log)
    return [name for name, value in rtmrs(parsed).items() if replayed[name] != value]


@pytest.mark.parametrize("pair", ["gcp-cos113", "qemu-direct-2g"])
def test_the_log_of_a_pair_replays_to_its_quote(vectors: Path, pair: str) -> None:
    log, parsed = ccel(vectors, f"pairs/{pair}/ccel.bin"), quote(vectors, f"pairs/{pair}/quote.bin")
    assert differing(log, parsed) == []
    assert "00" * 48 not in list(rtmrs(parsed).values())[:3]


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


@pytest.mark.parametrize("name", CCELS)
def test_every_digest_that_covers_its_data_fits_it(vectors: Path, name: str) -> None:
    verdicts = Counter(data_matches_digest(event) for event in ccel(vectors, name))
    assert verdicts[True] >= 9
    assert verdicts[False] == 0


@pytest.mark.parametrize("name", CCELS)
def test_changed_data_is_noticed(vectors: Path, name: str) -> None:
    log = (vectors / name).read_bytes()
    changed = parse_ccel(log.replace(b"Calling EFI Application", b"Calling EFI Explanation"))
    assert Counter(data_matches_digest(event) for event in changed)[False] >= 1


@pytest.mark.parametrize("name", ["CCEL_data_ovmf", "CCEL_data_grub"])
def test_records_are_those_another_parser_found(vectors: Path, name: str) -> None:
    """The vectors hold the output of an independent parser."""
    expected = json.loads((vectors / "ccel" / f"{name}_out.json").read_text())["uefi_event_logs"]
    found = ccel(vectors, f"ccel/{name}")
    assert [event.digest for event in found] == [entry["digests"][0]["digest"] for entry in expected]
    assert [event.index for event in found] == [entry["index"] for entry in expected]
    assert [event.type_name for event in found] == [entry["type_name"] for entry in expected]


@pytest.mark.parametrize("name", CCELS)
def test_a_log_cut_anywhere_in_its_records_is_refused_or_shorter(vectors: Path, name: str) -> None:
    log = (vectors / name).read_bytes()
    whole = parse_ccel(log)
    refused = 0
    for size in range(60, log.rindex(whole[-1].data) + len(whole[-1].data), 37):
        try:
            part = parse_ccel(log[:size])
        except DocumentError:
            refused += 1
        else:
            assert part == whole[: len(part)]
            assert len(part) < len(whole)
    assert refused > 20


def expected_quotes(vectors: Path) -> dict[str, dict[str, Any]]:
    document: dict[str, Any] = json.loads((vectors / "expected_registers.json").read_text())
    return dict(document["quotes"])


def test_every_quote_carries_the_expected_registers(vectors: Path) -> None:
    spelled = {"mr_td": "mrtd", "mr_seam": "mrseam", "mr_signer_seam": "mrsignerseam", "mr_config_id": "mrconfigid"}
    spelled |= {"mr_owner": "mrowner", "mr_owner_config": "mrownerconfig"}
    expected = expected_quotes(vectors)
    assert len(expected) >= 9
    for name, fields in expected.items():
        parsed = quote(vectors, name)
        assert parsed.version == fields.pop("version")
        assert {field: getattr(parsed.body, spelled.get(field, field)) for field in fields} == fields, name
        assert not parsed.body.debug


def test_trailing_bytes_are_no_part_of_a_quote(vectors: Path) -> None:
    parsed = quote(vectors, "pairs/gcp-cos113/quote.bin")
    assert (parsed.used, len(parsed.signed)) == (4935, 632)


def test_a_real_sgx_quote_is_refused_as_one(vectors: Path) -> None:
    with pytest.raises(DocumentError, match="SGX quote"):
        quote(vectors, "quotes/317ca572f1_dcap-qvl_sgx_quote.bin")


def test_a_tdreport_shows_what_its_log_replays_to(vectors: Path) -> None:
    report = parse_tdreport((vectors / "pairs/qemu-direct-2g/tdreport.bin").read_bytes())
    replayed = replay(ccel(vectors, "pairs/qemu-direct-2g/ccel_other_cmdline.bin"))
    assert [report.rtmr0, report.rtmr1, report.rtmr2, report.rtmr3] == list(replayed.values())
    assert report.mrtd == quote(vectors, "pairs/qemu-direct-2g/quote.bin").body.mrtd


def dstack(vectors: Path) -> dict[str, str]:
    document: dict[str, str] = json.loads((vectors / "pairs/dstack-2cpu-2g/tdx-lite-getquote.json").read_text())
    return document


def test_a_dstack_log_replays_to_its_quote_with_user_space(vectors: Path) -> None:
    document = dstack(vectors)
    log = parse_dstack_event_log(document["event_log"].encode())
    assert differing(log, parse_quote(bytes.fromhex(document["quote"]))) == []


def test_the_runtime_events_of_a_dstack_log_cannot_be_exchanged(vectors: Path) -> None:
    log = parse_dstack_event_log(dstack(vectors)["event_log"].encode())
    runtime = [event for event in log if event.event_type == DSTACK_RUNTIME_EVENT]
    assert [event.digest for event in runtime] == [
        runtime_event_digest(event.name, event.data).hex() for event in runtime
    ]
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
