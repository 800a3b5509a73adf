"""Every event log handed out: its form, its events, and what covers their data (`quotes.md` 3)."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.errors import DocumentError
from builder.measure import ParsedEvent, data_matches_digest, parse_ccel, parse_dstack_event_log
from builder.measure.dstack.log import runtime_event_digest
from builder.measure.evidence.ccel_table import check_log_area, parse_ccel_table
from builder.measure.evidence.event_log import read_ccel
from builder.measure.evidence.event_structure import structure_findings
from builder.measure.evidence.event_text import event_text
from builder.measure.evidence.form import event_log_input
from builder.model.event import DSTACK_RUNTIME_EVENT, EV_SEPARATOR

TABLE = "pairs/gcp-cos113/ccel_table.bin"
DSTACK = "pairs/dstack-2cpu-2g/tdx-lite-getquote.json"
TAMPERED = "ccel/go-eventlog_cos-113-intel-tdx-dupe-separator.bin"


@dataclass(frozen=True)
class Form:
    """Events, offset of the fill, separators in RTMR[0] and RTMR[1], events whose data is covered and not covered."""

    events: int
    end: int
    separators: tuple[int, int]
    covered: tuple[int, int]


CCELS = {
    "pairs/gcp-cos113/ccel.bin": Form(43, 0x46B5, (1, 1), (31, 12)),
    "pairs/qemu-direct-2g/ccel.bin": Form(20, 0x848, (1, 1), (12, 8)),
    "pairs/qemu-direct-2g/ccel_other_cmdline.bin": Form(20, 0x848, (1, 1), (12, 8)),
    "pairs/dstack-1cpu-1g/ccel.bin": Form(18, 0x78D, (1, 1), (12, 6)),
    "ccel/CCEL_data_ovmf": Form(20, 0x848, (2, 0), (12, 8)),
    "ccel/CCEL_data_grub": Form(37, 0x3B1A, (2, 0), (19, 18)),
    "ccel/CCEL_data_gcp": Form(21, 0x4F7D, (1, 1), (14, 7)),
    TAMPERED: Form(43, 0x46B5, (2, 0), (31, 12)),
}
PARSED_BY_OTHERS = ("CCEL_data_ovmf", "CCEL_data_grub")
COVERS = (*CCELS, *(f"ccel/{name}_out.json" for name in PARSED_BY_OTHERS), TABLE, DSTACK)
EVERY_LOG = pytest.mark.parametrize("name", CCELS)


def ccel(vectors: Path, name: str) -> tuple[ParsedEvent, ...]:
    return parse_ccel((vectors / name).read_bytes())


@EVERY_LOG
def test_the_form_of_a_log(vectors: Path, name: str) -> None:
    log, form = read_ccel((vectors / name).read_bytes()), CCELS[name]
    separators = Counter(event.register for event in log.events if event.event_type == EV_SEPARATOR)
    assert (len(log.events), log.end, log.notes) == (form.events, form.end, ())
    assert (separators["rtmr0"], separators["rtmr1"]) == form.separators


@EVERY_LOG
def test_a_log_without_its_fill_is_the_same_log(vectors: Path, name: str) -> None:
    data = (vectors / name).read_bytes()
    end = CCELS[name].end
    zero_filled = data[:end] + bytes(len(data) - end)
    assert parse_ccel(data[:end]) == parse_ccel(zero_filled) == parse_ccel(data)


@EVERY_LOG
def test_every_digest_that_covers_its_data_fits_it(vectors: Path, name: str) -> None:
    verdicts = Counter(data_matches_digest(event) for event in ccel(vectors, name))
    assert (verdicts[True], verdicts[None]) == CCELS[name].covered
    assert verdicts[False] == 0


@EVERY_LOG
def test_changed_data_is_noticed(vectors: Path, name: str) -> None:
    log = (vectors / name).read_bytes()
    changed = parse_ccel(log.replace(b"Calling EFI Application", b"Calling EFI Explanation"))
    assert Counter(data_matches_digest(event) for event in changed)[False] >= 1


@EVERY_LOG
def test_any_covered_event_whose_data_is_changed_is_noticed(vectors: Path, name: str) -> None:
    for event in ccel(vectors, name):
        if data_matches_digest(event):
            data = event.data[:-1] + bytes((event.data[-1] ^ 1,))
            changed = ParsedEvent(0, event.index, event.register, event.event_type, event.digest, data, "")
            # the NUL behind a command of GRUB is all that no digest covers
            assert data_matches_digest(changed) is False or event.data.endswith(b"\0"), event


@EVERY_LOG
def test_every_event_can_be_shown(vectors: Path, name: str) -> None:
    for event in ccel(vectors, name):
        text = event_text(event)
        assert text
        assert not text.startswith("malformed"), text


@EVERY_LOG
def test_the_separators_are_those_of_one_generation_of_firmware(vectors: Path, name: str) -> None:
    log, old = ccel(vectors, name), CCELS[name].separators == (2, 0)
    assert bool(structure_findings(log, edk2="202408")) != old
    assert any(finding.wrong for finding in structure_findings(log, edk2="202502")) == old
    assert [finding.wrong for finding in structure_findings(log, edk2=None)] == ([False] if old else [])


def test_the_tampered_log_is_wrong_for_the_firmware_of_its_quote_and_nothing_else_shows_it(vectors: Path) -> None:
    """Google's firmware has the later separators, as the genuine log shows (`measurement.md` 5.5)."""
    log = ccel(vectors, TAMPERED)
    findings = structure_findings(log, edk2="202502")
    assert [finding.position for finding in findings if finding.wrong] == [15, None]
    assert not any(data_matches_digest(event) is False for event in log)


@pytest.mark.parametrize("name", PARSED_BY_OTHERS)
def test_records_are_those_another_parser_found(vectors: Path, name: str) -> None:
    """The vectors hold the output of an independent parser."""
    expected = json.loads((vectors / "ccel" / f"{name}_out.json").read_text())["uefi_event_logs"]
    found = ccel(vectors, f"ccel/{name}")
    assert [event.digest for event in found] == [entry["digests"][0]["digest"] for entry in expected]
    assert [event.index for event in found] == [entry["index"] for entry in expected]
    assert [event.type_name for event in found] == [entry["type_name"] for entry in expected]


@EVERY_LOG
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


def test_the_acpi_table_names_an_area_that_its_log_fills(vectors: Path) -> None:
    table = parse_ccel_table((vectors / TABLE).read_bytes())
    log = (vectors / "pairs/gcp-cos113/ccel.bin").read_bytes()
    assert table.log_area_minimum_length == len(log) == 0x40000
    check_log_area(table, log)
    with pytest.raises(DocumentError):
        check_log_area(table, log + b"\xff")


def test_a_table_in_place_of_a_log_is_recognised(vectors: Path) -> None:
    with pytest.raises(DocumentError, match="ACPI table"):
        ccel(vectors, TABLE)


def dstack(vectors: Path) -> tuple[ParsedEvent, ...]:
    return parse_dstack_event_log(event_log_input((vectors / DSTACK).read_bytes()).data)


def test_the_runtime_events_of_a_dstack_log_cannot_be_exchanged(vectors: Path) -> None:
    runtime = [event for event in dstack(vectors) if event.event_type == DSTACK_RUNTIME_EVENT]
    assert len(runtime) == 9
    assert [event.digest for event in runtime] == [
        runtime_event_digest(event.name, event.data).hex() for event in runtime
    ]


def test_a_short_dstack_log_has_the_separators_of_its_firmware(vectors: Path) -> None:
    assert structure_findings(dstack(vectors), edk2="202502") == ()
    assert structure_findings(dstack(vectors), edk2="202408") != ()
