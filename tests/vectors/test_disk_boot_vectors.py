"""Logs of TDs that booted from disks: partition tables, shim's lists, GRUB's commands (`measurement.md` 6.5 to 7.5)."""

from pathlib import Path

import pytest

from builder.measure import parse_ccel
from builder.measure.boot.disk import disk_boot_events, image_event
from builder.measure.boot.gpt import EFI_SYSTEM_PARTITION, encode_gpt_event, gpt_event, parse_gpt_event
from builder.measure.boot.grub import GrubStep, GrubStepKind, grub_events
from builder.measure.boot.shim import default_shim_lists, shim_events
from builder.measure.firmware.efi_variables import parse_variable_data
from builder.measure.profile import firmware_rules
from builder.model.digest import sha384_hex
from builder.model.event import (
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_GPT_EVENT,
    EV_EFI_VARIABLE_AUTHORITY,
    EV_IPL,
    ParsedEvent,
    PredictedEvent,
)
from builder.model.launch_profile import CcMeasurement, SecureBootVariable
from tests.fakes.efi_images import kernel, shim

UKI_ON_GCE, SHIM_AND_GRUB, COS_ON_GCE = "ccel/CCEL_data_gcp", "ccel/CCEL_data_grub", "pairs/gcp-cos113/ccel.bin"
ENTRIES = {UKI_ON_GCE: 3, SHIM_AND_GRUB: 4, COS_ON_GCE: 12}


def log(vectors: Path, name: str) -> tuple[ParsedEvent, ...]:
    return tuple(parse_ccel((vectors / name).read_bytes()))


def of_type(events: tuple[ParsedEvent, ...], event_type: int) -> list[ParsedEvent]:
    return [event for event in events if event.event_type == event_type]


@pytest.mark.parametrize(("name", "entries"), ENTRIES.items())
def test_partition_tables_read_back_as_they_were_and_hash_to_their_digest(
    vectors: Path, name: str, entries: int
) -> None:
    (event,) = of_type(log(vectors, name), EV_EFI_GPT_EVENT)
    gpt = parse_gpt_event(event.data)
    assert len(gpt.partitions) == entries
    assert encode_gpt_event(gpt) == event.data
    assert gpt_event(gpt).digest == event.digest
    assert [partition.type_guid for partition in gpt.partitions].count(EFI_SYSTEM_PARTITION) == 1


@pytest.mark.parametrize("name", [UKI_ON_GCE, COS_ON_GCE])
def test_rtmr1_of_a_disk_boot_has_the_predicted_order(vectors: Path, name: str) -> None:
    """With the images of the log in the places of images, everything else is predicted."""
    rules = firmware_rules(
        "202411", secure_boot_variable=SecureBootVariable.DISABLED, cc_measurement=CcMeasurement.PRESENT
    )
    events = [event for event in log(vectors, name) if event.register == "rtmr1"]
    (table,) = (event for event in events if event.event_type == EV_EFI_GPT_EVENT)
    images = [event for event in events if event.event_type == EV_EFI_BOOT_SERVICES_APPLICATION]
    chain = [image_event(str(position), kernel(bytes((position,)))) for position in range(len(images))]
    expected = disk_boot_events(rules, gpt=parse_gpt_event(table.data), chain=chain, boot_variables=())
    assert [event.event_type for event in expected] == [event.event_type for event in events]
    for wanted, found in zip(expected, events, strict=True):
        assert isinstance(wanted, PredictedEvent)
        assert (wanted.digest == found.digest) == (found not in images)


def lists_of(vectors: Path, name: str) -> list[tuple[str, str]]:
    events = of_type(log(vectors, name), EV_IPL)
    return [(event.name, event.digest) for event in events if event.name.startswith("MokList")]


def test_a_shim_without_a_vendors_key_measures_what_googles_shim_does(vectors: Path) -> None:
    found = [(event.name, getattr(event, "digest", "")) for event in shim_events(shim(b"", b""))]
    assert [entry for entry in found if entry in lists_of(vectors, COS_ON_GCE)] == lists_of(vectors, COS_ON_GCE)


def test_a_shim_with_a_vendors_key_measures_what_ubuntus_shim_does(vectors: Path) -> None:
    """The log shows the certificate: the authority that vouched for GRUB is the one of the list."""
    authorities = [
        parse_variable_data(event.data) for event in of_type(log(vectors, SHIM_AND_GRUB), EV_EFI_VARIABLE_AUTHORITY)
    ]
    certificate = next(variable.data[16:] for variable in authorities if variable.name == "MokListRT")
    lists = default_shim_lists(shim(certificate, b""))
    mok_list, mok_list_x, trusted, *again = lists_of(vectors, SHIM_AND_GRUB)
    assert mok_list == ("MokList", sha384_hex(lists.mok_list))
    assert mok_list_x == ("MokListX", sha384_hex(lists.mok_list_x))
    assert trusted == ("MokListTrusted", sha384_hex(lists.mok_list_trusted))
    assert again == [mok_list, mok_list_x, trusted], "fallback starts shim once more"


@pytest.mark.parametrize("name", [SHIM_AND_GRUB, COS_ON_GCE])
def test_authorities_are_measured_as_variables(vectors: Path, name: str) -> None:
    found = of_type(log(vectors, name), EV_EFI_VARIABLE_AUTHORITY)
    variables = [parse_variable_data(event.data) for event in found]
    events = [event for event in shim_events(shim(b"", b""), authorities=variables) if event.register == "rtmr0"]
    assert [(event.name, getattr(event, "digest", "")) for event in events] == [
        (event.name, event.digest) for event in found
    ]
    assert "SbatLevel" in [event.name for event in found]


def test_every_command_of_grub_hashes_to_its_digest(vectors: Path) -> None:
    checked = 0
    for event in of_type(log(vectors, COS_ON_GCE), EV_IPL):
        text = event.data.decode("ascii").rstrip("\0")
        kind, mark, words = text.partition(": ")
        if mark and kind in set(GrubStepKind):
            (wanted,) = grub_events([GrubStep(GrubStepKind(kind), words)])
            assert (wanted.name, wanted.digest) == (text, event.digest)
            checked += 1
    assert checked == 15
