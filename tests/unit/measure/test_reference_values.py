"""The published document: whatever is missing, unknown, out of place or out of range is refused."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from builder.errors import DocumentError, RegisterDiffersError
from builder.measure import (
    BootFiles,
    Measurer,
    ReferenceValues,
    blobs_for,
    check_predictions,
    launch_profiles,
    parse_reference_values,
    reference_values_document,
)
from builder.measure.rtmr import registers_of
from builder.model.event import UnpredictedEvent
from builder.model.recipe import VmmSpec
from tests.fakes.boot_files import Firmware, acpi_tables, bzimage

FILES = BootFiles(Firmware().encode(), bzimage(), b"initrd", "console=ttyS0")
VMM = VmmSpec("qemu", "10.2.1", "q35", "cpu", ())
PROFILES = launch_profiles(FILES, vmm=VMM, edk2="202502", shapes=[(1, 1 << 30), (2, 1 << 30)])
ACPI = [blobs_for(acpi_tables(vcpus)) for vcpus in (1, 2)]
DOCUMENT = reference_values_document(Measurer(FILES).reference_values(zip(PROFILES, ACPI, strict=True)))

Document = dict[str, Any]


def test_the_document_as_written_is_accepted() -> None:
    assert len(parse_reference_values(DOCUMENT, what="document").predictions) == 2


def test_a_register_that_could_not_be_predicted_is_null_and_says_why() -> None:
    values = parse_reference_values(DOCUMENT, what="document")
    gap = UnpredictedEvent("rtmr0", 9, "SMBIOS", "no rule derives it")
    events = (gap, *values.predictions[0].events)
    registers = registers_of(values.predictions[0].registers.mrtd, events)
    prediction = replace(values.predictions[0], events=events, registers=registers, acpi=None)
    partial = ReferenceValues(values.mrtd, (prediction, *values.predictions[1:]))
    document = reference_values_document(partial)
    assert document["profiles"][0]["registers"]["rtmr0"] is None
    assert document["profiles"][0]["registers"]["rtmr1"] is not None
    assert "no rule derives it" in [event.get("reason") for event in document["events"]]
    assert parse_reference_values(document, what="document") == partial
    check_predictions(partial)
    document["profiles"][0]["registers"]["rtmr0"] = "0" * 96
    with pytest.raises(RegisterDiffersError):
        check_predictions(parse_reference_values(document, what="document"))


def set_at(*path: str | int, value: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        target: Any = document
        for part in path[:-1]:
            target = target[part]
        target[path[-1]] = value

    return change


def remove(*path: str | int) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        target: Any = document
        for part in path[:-1]:
            target = target[part]
        del target[path[-1]]

    return change


CHANGES = {
    "no MRTD": remove("mrtd"),
    "one page order": remove("mrtd", "two_pass"),
    "no profiles": set_at("profiles", value=[]),
    "no events": set_at("events", value=[]),
    "no rules": set_at("rules", "firmware", value=[]),
    "a digest of nothing": set_at("events", 0, "digest", value=None),
    "an event with a reason and a digest": set_at("events", 0, "reason", value="none"),
    "no RTMR1": remove("profiles", 0, "registers", "rtmr1"),
    "RTMR3": set_at("profiles", 0, "registers", "rtmr3", value="00" * 48),
    "unknown member": set_at("profiles", 0, "trusted", value=True),
    "unknown launch member": set_at("profiles", 0, "launch", "gpus", value=1),
    "short register": set_at("profiles", 0, "registers", "mrtd", value="00" * 47),
    "upper-case register": set_at("profiles", 0, "registers", "mrtd", value="AB" * 48),
    "register with a newline": set_at("profiles", 0, "registers", "mrtd", value="ab" * 48 + "\n"),
    "same name twice": set_at("profiles", 1, "name", value="1cpu-1G"),
    "event out of range": set_at("profiles", 0, "events", "rtmr0", 0, value=999),
    "negative event": set_at("profiles", 0, "events", "rtmr0", 0, value=-1),
    "event as truth": set_at("profiles", 0, "events", "rtmr0", 0, value=True),
    "event of another register": set_at("profiles", 0, "events", "rtmr1", 0, value=0),
    "firmware out of range": set_at("profiles", 0, "launch", "firmware", value=1),
    "VMM out of range": set_at("profiles", 0, "launch", "vmm", value=1),
    "unknown caveat": set_at("profiles", 0, "caveats", 0, value="all_is_well"),
    "unknown page order": set_at("profiles", 0, "launch", "page_order", value="three_pass"),
    "unknown kernel form": set_at("profiles", 0, "launch", "kernel_form", value="zipped"),
    "no vCPUs": set_at("profiles", 0, "launch", "vcpus", value=0),
    "memory as text": set_at("profiles", 0, "launch", "memory", value="1G"),
    "ACPI said to be unmeasured": set_at("profiles", 0, "acpi", "measured", value=False),
    "unknown column": set_at("rules", "firmware", 0, "measures_everything", value=True),
    "missing column": remove("rules", "firmware", 0, "cc_measurement"),
    "event without input": set_at("events", 0, "input", value=""),
    "event of RTMR3": set_at("events", 0, "register", value="rtmr3"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_document_is_refused(change: Callable[[Document], None]) -> None:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    with pytest.raises(DocumentError, match="document"):
        parse_reference_values(document, what="document")


@pytest.mark.parametrize("document", [None, [], {}, "text", 7])
def test_what_is_no_such_document_is_refused(document: Any) -> None:
    with pytest.raises(DocumentError):
        parse_reference_values(document, what="document")
