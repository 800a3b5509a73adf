"""RTMR[1] around the programs of a boot (`measurement.md` 6.5, 6.6)."""

from dataclasses import replace

import pytest

from builder.errors import DocumentError
from builder.measure.boot.disk import disk_boot_events, image_event, kernel_boot_events
from builder.measure.boot.gpt import gpt_event, parse_gpt
from builder.measure.boot.systemd_stub import UkiStart, uki_events
from builder.measure.images.authenticode import authenticode_digest
from builder.measure.images.uki import parse_uki
from builder.measure.profile import firmware_rules
from builder.model.event import EV_EFI_VARIABLE_BOOT, UnpredictedEvent
from builder.model.launch_profile import CcMeasurement, FirmwareRules, SecureBootVariable
from tests.fakes.efi_images import Disk, Section, kernel, reader, uki

GPT = parse_gpt(reader(Disk().encode()))
LOADER = image_event("loader", kernel(b"loader"))
CALLING = "Calling EFI Application from Boot Option"
EXIT = ["Exit Boot Services Invocation", "Exit Boot Services Returned with Success"]


def rules(edk2: str) -> FirmwareRules:
    return firmware_rules(edk2, secure_boot_variable=SecureBootVariable.ABSENT, cc_measurement=CcMeasurement.PRESENT)


def test_a_program_is_measured_by_its_authenticode_digest() -> None:
    assert LOADER.digest == authenticode_digest(kernel(b"loader")).hex()
    assert (LOADER.register, LOADER.type_name) == ("rtmr1", "EV_EFI_BOOT_SERVICES_APPLICATION")
    with pytest.raises(DocumentError, match="no MZ and PE"):
        image_event("loader", b"MZ" + bytes(100))


def test_the_partition_table_comes_before_the_first_program() -> None:
    events = disk_boot_events(rules("202502"), gpt=GPT, chain=[LOADER], boot_variables=())
    assert [event.name for event in events] == [CALLING, "separator", "GPT", "loader", *EXIT]
    assert gpt_event(GPT) in events
    assert {event.register for event in events} == {"rtmr1"}


def test_older_firmware_has_its_separator_in_rtmr0() -> None:
    events = disk_boot_events(rules("202402"), gpt=GPT, chain=[LOADER], boot_variables=())
    assert [event.name for event in events] == [CALLING, "GPT", "loader", *EXIT]


def test_old_firmware_has_its_boot_variables_in_rtmr1() -> None:
    unknown = (UnpredictedEvent("rtmr1", EV_EFI_VARIABLE_BOOT, "BootOrder", "?"),)
    events = disk_boot_events(rules("202502"), gpt=GPT, chain=[LOADER], boot_variables=unknown)
    assert events[:1] == unknown
    elsewhere = (replace(unknown[0], register="rtmr0"),)
    assert elsewhere[0] not in disk_boot_events(rules("202502"), gpt=GPT, chain=[LOADER], boot_variables=elsewhere)


def test_a_uki_given_as_kernel_is_loaded_before_the_boot_option_is_called() -> None:
    image = uki("257", Section(".cmdline", b"quiet"))
    chain = uki_events(parse_uki(image), UkiStart(from_disk=False))
    events = kernel_boot_events(rules("202502"), kernel=image_event("UKI", image), chain=chain, boot_variables=())
    rtmr1 = [event.name for event in events if event.register == "rtmr1"]
    assert rtmr1 == ["UKI", CALLING, "separator", "kernel of the UKI", *EXIT]
