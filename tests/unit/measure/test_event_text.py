"""Event data for people."""

import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure import ParsedEvent
from builder.measure.evidence.event_text import event_text, load_option_text
from builder.measure.firmware.efi_variables import (
    EFI_GLOBAL_VARIABLE,
    EfiVariable,
    boot_variables,
    encode_variable_data,
)
from builder.model.event import (
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
    EVENT_TYPE_NAMES,
)
from builder.model.launch_profile import BootOptions

GUID = uuid.UUID("1428f772-b64a-441e-b8c3-9ebdd7f893c7")
KERNEL_PATH = b"\x04\x03\x14\0" + GUID.bytes_le + b"\x04\x04\x12\0" + "kernel\0".encode("utf-16-le") + b"\x7f\xff\x04\0"


def text(event_type: int, data: bytes) -> str:
    return event_text(ParsedEvent(0, 1, "rtmr0", event_type, "ab" * 48, data, ""))


def variable(name: str, data: bytes) -> bytes:
    return encode_variable_data(EfiVariable(EFI_GLOBAL_VARIABLE, name, data))


def partition(name: str) -> bytes:
    return GUID.bytes_le + bytes(40) + name.encode("utf-16-le").ljust(72, b"\0")


def gpt(*names: str, count: int | None = None) -> bytes:
    header = bytes(56) + GUID.bytes_le + bytes(20)
    return header + struct.pack("<Q", len(names) if count is None else count) + b"".join(map(partition, names))


TEXTS = {
    "SecureBoot: absent": (EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"")),
    "SecureBoot: 00 (off)": (EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\0")),
    "SecureBoot: 01 (on)": (EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\1")),
    "SecureBoot: 02": (EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\2")),
    "db: 3 bytes": (EV_EFI_VARIABLE_DRIVER_CONFIG, variable("db", b"abc")),
    "SbatLevel: 4 bytes": (EV_EFI_VARIABLE_AUTHORITY, variable("SbatLevel", b"abcd")),
    "BootOrder: 0001, 0000": (EV_EFI_VARIABLE_BOOT, variable("BootOrder", b"\1\0\0\0")),
    "the end of the firmware's configuration": (EV_SEPARATOR, bytes(4)),
    "an error": (EV_SEPARATOR, b"\1\0\0\0"),
    "ffffffff": (EV_SEPARATOR, b"\xff" * 4),
    "Linux initrd (tag 0x8f3b22ec)": (EV_EVENT_TAG, struct.pack("<II", 0x8F3B22EC, 13) + b"Linux initrd\0"),
    "LOADED_IMAGE::LoadOptions": (EV_EVENT_TAG, b"LOADED_IMAGE::LoadOptions\0"),
    f"VenMedia({GUID})/kernel, 10 bytes": (
        EV_EFI_BOOT_SERVICES_APPLICATION,
        struct.pack("<QQQQ", 1, 10, 0, len(KERNEL_PATH)) + KERNEL_PATH,
    ),
    "no device path, 7 bytes": (EV_EFI_BOOT_SERVICES_APPLICATION, struct.pack("<QQQQ", 1, 7, 0, 0)),
    f"disk {GUID}, 2 partitions: esp, {GUID}": (EV_EFI_GPT_EVENT, gpt("esp", "")),
    "Fv(a): 0x84000 bytes at 0xffc00000": (
        EV_EFI_PLATFORM_FIRMWARE_BLOB2,
        b"\x05Fv(a)" + struct.pack("<QQ", 0xFFC00000, 0x84000),
    ),
    "0x10 bytes at 0x20": (0x80000008, struct.pack("<QQ", 0x20, 0x10)),
    f"TdxTable: {GUID} at 0x809000": (
        EV_EFI_HANDOFF_TABLES2,
        b"\x09TdxTable\0" + struct.pack("<Q", 1) + GUID.bytes_le + struct.pack("<Q", 0x809000),
    ),
    f"{GUID} at 0x1": (0x80000009, struct.pack("<Q", 1) + GUID.bytes_le + struct.pack("<Q", 1)),
    "fw_cfg BootMenu": (EV_PLATFORM_CONFIG_FLAGS, b"QEMU FW CFG\0" + b"BootMenu".ljust(56, b"\0")),
    "ACPI DATA": (EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA"),
    "td_hob: 2 bytes": (EV_PLATFORM_CONFIG_FLAGS, b"td_hob".ljust(16, b"\0") + b"\2\0\0\0ab"),
    "GCE": (EV_S_CRTM_VERSION, "GCE\0".encode("utf-16-le")),
    "grub_cmd: set": (EV_IPL, b"grub_cmd: set\0"),
    "3 bytes": (EV_IPL, b"\x80\x81\x82"),
    "": (EV_EFI_ACTION, b""),
}


@pytest.mark.parametrize(("expected", "event"), TEXTS.items(), ids=list(TEXTS))
def test_each_kind_of_data_is_said_in_words(expected: str, event: tuple[int, bytes]) -> None:
    assert text(*event) == expected


def test_a_boot_option_shows_its_description_and_path() -> None:
    option = boot_variables(BootOptions.UI_APP)[1]
    shown = text(EV_EFI_VARIABLE_BOOT, encode_variable_data(option))
    assert shown.startswith('Boot0000: "UiApp" Fv(7cb8bdc9-')
    inactive = EfiVariable(option.vendor, option.name, bytes(4) + option.data[4:])
    assert text(EV_EFI_VARIABLE_BOOT, encode_variable_data(inactive)).endswith("(inactive)")


MALFORMED = {
    "no variable": (EV_EFI_VARIABLE_BOOT, b"short"),
    "boot option without end": (EV_EFI_VARIABLE_BOOT, variable("Boot0000", b"\1\0\0\0\4\0ab")),
    "boot option without path": (EV_EFI_VARIABLE_BOOT, variable("Boot0000", b"\1\0\0\0\4\0\0\0")),
    "image of nothing": (EV_EFI_BOOT_SERVICES_APPLICATION, b"short"),
    "image with a long path": (EV_EFI_BOOT_SERVICES_APPLICATION, struct.pack("<QQQQ", 1, 1, 0, 1 << 60)),
    "GPT header alone": (EV_EFI_GPT_EVENT, bytes(92)),
    "GPT of too many": (EV_EFI_GPT_EVENT, gpt(count=129)),
    "GPT entry missing": (EV_EFI_GPT_EVENT, gpt("a", count=2)),
    "blob": (EV_EFI_PLATFORM_FIRMWARE_BLOB2, b"\xffabc"),
    "handoff": (EV_EFI_HANDOFF_TABLES2, b"\1a" + struct.pack("<Q", 1 << 60)),
}


@pytest.mark.parametrize("event", MALFORMED.values(), ids=MALFORMED)
def test_data_that_is_not_what_its_type_asks_for_is_named_and_never_raises(event: tuple[int, bytes]) -> None:
    shown = text(*event)
    assert shown.startswith("malformed: ")
    assert len(shown) <= 200


def test_the_end_of_a_description_is_not_sought_forever() -> None:
    with pytest.raises(DocumentError, match="without end in its first 4096 bytes"):
        load_option_text(b"\1\0\0\0\4\0" + b"a\0" * 2045 + b"\0\0\x7f\xff\4\0")
    longest = "a" * 2044
    assert load_option_text(b"\1\0\0\0\4\0" + longest.encode("utf-16-le") + b"\0\0\x7f\xff\4\0") == f'"{longest}" '


def test_long_text_is_cut_and_hostile_text_cannot_forge_a_line() -> None:
    assert len(text(EV_EFI_ACTION, b"x" * 5000)) == 200
    assert "\n" not in text(EV_IPL, b"grub_cmd: a\nregister rtmr0\x1b[31m")
    assert text(EV_EFI_VARIABLE_BOOT, variable("Boot\u202e000", b"a")) == "Boot.000: 1 bytes"


@given(event_type=st.sampled_from(sorted(EVENT_TYPE_NAMES)), data=st.binary(max_size=300))
def test_any_data_can_be_shown(event_type: int, data: bytes) -> None:
    shown = text(event_type, data)
    assert shown.isascii()
    assert shown == "" or shown.isprintable()
    assert len(shown) <= 200
