"""Measured events: what we predict that a register is extended with, and what a log says it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

REGISTERS = ("rtmr0", "rtmr1", "rtmr2", "rtmr3")

EV_NO_ACTION = 0x3
EV_SEPARATOR = 0x4
EV_EVENT_TAG = 0x6
EV_S_CRTM_VERSION = 0x8
EV_PLATFORM_CONFIG_FLAGS = 0xA
EV_IPL = 0xD
EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
EV_EFI_VARIABLE_BOOT = 0x80000002
EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
EV_EFI_GPT_EVENT = 0x80000006
EV_EFI_ACTION = 0x80000007
EV_EFI_HANDOFF_TABLES = 0x80000009
EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
EV_EFI_HANDOFF_TABLES2 = 0x8000000B
EV_EFI_VARIABLE_AUTHORITY = 0x800000E0
DSTACK_RUNTIME_EVENT = 0x08000001

# `quotes.md` 3.4; the rest from the TCG PC Client Platform Firmware Profile 1.06, 10.4.1
EVENT_TYPE_NAMES: Mapping[int, str] = {
    0x0: "EV_PREBOOT_CERT",
    0x1: "EV_POST_CODE",
    EV_NO_ACTION: "EV_NO_ACTION",
    EV_SEPARATOR: "EV_SEPARATOR",
    0x5: "EV_ACTION",
    EV_EVENT_TAG: "EV_EVENT_TAG",
    0x7: "EV_S_CRTM_CONTENTS",
    EV_S_CRTM_VERSION: "EV_S_CRTM_VERSION",
    0x9: "EV_CPU_MICROCODE",
    EV_PLATFORM_CONFIG_FLAGS: "EV_PLATFORM_CONFIG_FLAGS",
    0xB: "EV_TABLE_OF_DEVICES",
    0xC: "EV_COMPACT_HASH",
    EV_IPL: "EV_IPL",
    0xE: "EV_IPL_PARTITION_DATA",
    0xF: "EV_NONHOST_CODE",
    0x10: "EV_NONHOST_CONFIG",
    0x11: "EV_NONHOST_INFO",
    0x12: "EV_OMIT_BOOT_DEVICE_EVENTS",
    0x13: "EV_POST_CODE2",
    EV_EFI_VARIABLE_DRIVER_CONFIG: "EV_EFI_VARIABLE_DRIVER_CONFIG",
    EV_EFI_VARIABLE_BOOT: "EV_EFI_VARIABLE_BOOT",
    EV_EFI_BOOT_SERVICES_APPLICATION: "EV_EFI_BOOT_SERVICES_APPLICATION",
    0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER",
    0x80000005: "EV_EFI_RUNTIME_SERVICES_DRIVER",
    EV_EFI_GPT_EVENT: "EV_EFI_GPT_EVENT",
    EV_EFI_ACTION: "EV_EFI_ACTION",
    0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
    EV_EFI_HANDOFF_TABLES: "EV_EFI_HANDOFF_TABLES",
    EV_EFI_PLATFORM_FIRMWARE_BLOB2: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
    EV_EFI_HANDOFF_TABLES2: "EV_EFI_HANDOFF_TABLES2",
    0x8000000C: "EV_EFI_VARIABLE_BOOT2",
    0x8000000D: "EV_EFI_GPT_EVENT2",
    0x80000010: "EV_EFI_HCRTM_EVENT",
    EV_EFI_VARIABLE_AUTHORITY: "EV_EFI_VARIABLE_AUTHORITY",
    0x800000E1: "EV_EFI_SPDM_FIRMWARE_BLOB",
    0x800000E2: "EV_EFI_SPDM_FIRMWARE_CONFIG",
    0x800000E3: "EV_EFI_SPDM_DEVICE_POLICY",
    0x800000E4: "EV_EFI_SPDM_DEVICE_AUTHORITY",
    DSTACK_RUNTIME_EVENT: "dstack runtime event",
}


def event_type_name(event_type: int) -> str:
    """The name of an event type, or its number in hex where it has none here."""
    return EVENT_TYPE_NAMES.get(event_type, f"{event_type:#x}")


class MeasuredEvent(Protocol):
    """What replaying and comparing need to know of an event, wherever it comes from."""

    @property
    def register(self) -> str | None:
        """One of REGISTERS, or None if no RTMR is extended."""

    @property
    def event_type(self) -> int:
        """The TCG event type; EV_NO_ACTION extends nothing."""

    @property
    def digest(self) -> str:
        """SHA-384, 96 hex digits."""

    @property
    def name(self) -> str:
        """What the event is about, for people; may be empty."""


@dataclass(frozen=True)
class PredictedEvent:
    """An event that a launch profile leads to. `input` names the artefacts and profile fields that decide `digest`."""

    register: str
    event_type: int
    name: str
    digest: str
    input: str

    @property
    def type_name(self) -> str:
        """The name of `event_type`."""
        return event_type_name(self.event_type)


@dataclass(frozen=True)
class UnpredictedEvent:
    """An event that the boot leads to and whose digest no rule here derives: its register cannot be predicted.

    Never guessed, never taken from a log of the guest: whoever compares a register that has one, compares nothing.
    `repeats` says that it stands for any number of events of any type, none included, so that what comes after it in
    its register has no place that could be compared.
    """

    register: str
    event_type: int
    name: str
    reason: str
    repeats: bool = False

    @property
    def type_name(self) -> str:
        """The name of `event_type`."""
        return event_type_name(self.event_type)


ExpectedEvent = PredictedEvent | UnpredictedEvent


@dataclass(frozen=True)
class ParsedEvent:
    """A record of an event log: Evidence, to be believed no further than a replay against a quote reaches.

    `position` counts the records from 0, header not counted; `index` is what the record itself names: the MR index of
    a CCEL, the PCR of a TPM log, the RTMR index of a dstack log. `data` is the event data, which the digest need not
    cover (`builder.measure.evidence.event_data`); `name` is derived from it.
    """

    position: int
    index: int
    register: str | None
    event_type: int
    digest: str
    data: bytes
    name: str

    @property
    def type_name(self) -> str:
        """The name of `event_type`."""
        return event_type_name(self.event_type)
