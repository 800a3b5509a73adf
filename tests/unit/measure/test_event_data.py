"""Whether a digest covers the data beside it (`quotes.md` 3.4), event type by event type."""

import hashlib
import struct

import pytest

from builder.measure import ParsedEvent, data_matches_digest
from builder.measure.evidence.event_data import event_name, logged_variable, td_shim_name
from builder.measure.firmware.efi_variables import EFI_GLOBAL_VARIABLE, EfiVariable, encode_variable_data
from builder.model.event import (
    DSTACK_RUNTIME_EVENT,
    EV_EFI_ACTION,
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_GPT_EVENT,
    EV_EFI_HANDOFF_TABLES2,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_EFI_VARIABLE_AUTHORITY,
    EV_EFI_VARIABLE_BOOT,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_EVENT_TAG,
    EV_IPL,
    EV_PLATFORM_CONFIG_FLAGS,
    EV_S_CRTM_VERSION,
    EV_SEPARATOR,
)

OVER_DATA = [
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_EFI_VARIABLE_AUTHORITY,
    EV_EFI_ACTION,
    EV_SEPARATOR,
    EV_EFI_GPT_EVENT,
    EV_S_CRTM_VERSION,
]
OVER_SOMETHING_ELSE = [
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_HANDOFF_TABLES2,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_PLATFORM_CONFIG_FLAGS,
    EV_EVENT_TAG,
    EV_IPL,
    1,
    0x80000009,
    0x80000008,
    0x1234,
    DSTACK_RUNTIME_EVENT,
]
VARIABLE = encode_variable_data(EfiVariable(EFI_GLOBAL_VARIABLE, "BootOrder", b"\0\0"))
TD_HOB = b"td_hob".ljust(16, b"\0") + struct.pack("<I", 5) + b"bytes"
AAEL = struct.pack("<II", 0x4141454C, 4) + b"text"


def verdict(event_type: int, data: bytes, measured: bytes) -> bool | None:
    digest = hashlib.sha384(measured).hexdigest()
    return data_matches_digest(ParsedEvent(0, 1, "rtmr0", event_type, digest, data, ""))


@pytest.mark.parametrize("event_type", OVER_DATA)
def test_what_is_measured_whole_is_believed_only_as_it_was_measured(event_type: int) -> None:
    assert verdict(event_type, VARIABLE, VARIABLE) is True
    assert verdict(event_type, VARIABLE, VARIABLE + b"\0") is False
    assert verdict(event_type, b"", VARIABLE) is False
    assert verdict(event_type, VARIABLE[:-1] + b"\1", VARIABLE) is False


@pytest.mark.parametrize("event_type", OVER_SOMETHING_ELSE)
def test_data_that_no_digest_covers_is_neither_right_nor_wrong(event_type: int) -> None:
    for data in (b"", b"name\0", VARIABLE, bytes(100)):
        assert verdict(event_type, data, data) is None


def test_of_a_boot_variable_the_data_alone_is_measured() -> None:
    assert verdict(EV_EFI_VARIABLE_BOOT, VARIABLE, b"\0\0") is True
    assert verdict(EV_EFI_VARIABLE_BOOT, VARIABLE, VARIABLE) is False
    assert verdict(EV_EFI_VARIABLE_BOOT, b"short", b"short") is False
    assert verdict(EV_EFI_VARIABLE_BOOT, VARIABLE + b"\0", b"\0\0") is False


@pytest.mark.parametrize("padding", [1, 6])
def test_an_old_shim_measures_all_but_the_last_byte_of_its_padding(padding: int) -> None:
    logged = VARIABLE + bytes(padding)
    assert verdict(EV_EFI_VARIABLE_AUTHORITY, logged, logged[:-1]) is True
    assert verdict(EV_EFI_VARIABLE_AUTHORITY, logged, logged) is True
    assert verdict(EV_EFI_VARIABLE_AUTHORITY, VARIABLE, VARIABLE[:-1]) is False
    assert verdict(EV_EFI_VARIABLE_DRIVER_CONFIG, logged, logged[:-1]) is False
    assert logged_variable(logged) == logged_variable(VARIABLE)


def test_a_variable_with_more_than_padding_behind_it_is_none() -> None:
    assert logged_variable(VARIABLE + bytes(9)) is None
    assert logged_variable(VARIABLE[:-1]) is None
    assert logged_variable(b"") is None


@pytest.mark.parametrize(
    ("data", "measured", "expected"),
    [
        (b"grub_cmd: set root=hd0\0", b"set root=hd0", True),
        (b"grub_cmd: set root=hd0", b"set root=hd0", True),
        (b"kernel_cmdline: /vmlinuz quiet\0", b"/vmlinuz quiet", True),
        (b"module_cmdline: /module\0", b"/module", True),
        (b"grub_cmd [ xy = xy ]\0p", b"[ xy = xy ]\0", True),  # Alibaba
        (b"grub_kernel_cmdline /vmlinuz\0", b"/vmlinuz", True),
        (b"grub_cmd: set root=hd1\0", b"set root=hd0", False),
        (b"kernel_cmdline: /vmlinuz quiet\0", b"/vmlinuz", False),
        (b"kernel_cmdline: /vmlinuz\0", b"kernel_cmdline: /vmlinuz\0", False),
        (b"/boot/grub/grub.cfg\0", b"/boot/grub/grub.cfg\0", None),
        (b"MokListTrusted\0", b"MokListTrusted\0", None),
    ],
)
def test_commands_of_grub_are_measured_without_what_stands_before_them(
    data: bytes, measured: bytes, expected: bool | None
) -> None:
    assert verdict(EV_IPL, data, measured) is expected


def test_of_tagged_events_only_alibabas_are_measured_as_they_are() -> None:
    assert verdict(EV_EVENT_TAG, AAEL, AAEL) is True
    assert verdict(EV_EVENT_TAG, AAEL[:-1] + b"!", AAEL) is False
    assert verdict(EV_EVENT_TAG, struct.pack("<II", 0x8F3B22EC, 4) + b"text", b"initrd") is None


def test_td_shim_logs_what_it_measures_behind_a_header() -> None:
    assert verdict(EV_PLATFORM_CONFIG_FLAGS, TD_HOB, b"bytes") is True
    assert verdict(EV_PLATFORM_CONFIG_FLAGS, TD_HOB[:-1] + b"!", b"bytes") is False
    assert verdict(EV_PLATFORM_CONFIG_FLAGS, TD_HOB, TD_HOB) is False
    assert verdict(EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA", b"tables") is None
    assert verdict(EV_PLATFORM_CONFIG_FLAGS, b"QEMU FW CFG\0" + b"BootMenu".ljust(56, b"\0"), b"\0\0") is None


@pytest.mark.parametrize(
    "data",
    [b"", TD_HOB[:-1], TD_HOB + b"!", bytes(16) + TD_HOB[16:], b"a\0b".ljust(16, b"\0") + TD_HOB[16:], TD_HOB[:19]],
    ids=["empty", "short", "long", "nameless", "two names", "header"],
)
def test_what_has_not_the_form_of_td_shim_is_not_taken_for_it(data: bytes) -> None:
    assert td_shim_name(data) is None


@pytest.mark.parametrize(
    "data",
    [b"\x1b[31mred", b"\xff\xfe", b"x" * 101, "\u202e".encode(), b"a\nb"],
    ids=["escape", "bytes", "long", "bidi", "line"],
)
def test_a_name_from_a_log_is_harmless_to_show(data: bytes) -> None:
    assert event_name(EV_EFI_ACTION, data) == ""
