"""TDs of td-shim, such as under Cloud Hypervisor: MRTD and the events of RTMR[0] and RTMR[1] (`measurement.md` 8).

td-shim measures its HOB list, the memory that the kernel was loaded to, and its command line; RTMR[2] stays zero until
the kernel or user space extend it. One real log has these events; its kernel and image are not public. Read, not run:
td-shim's specification and source.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from builder.errors import DocumentError
from builder.measure.firmware.mrtd import mrtd_for
from builder.measure.firmware.tdvf import SectionType, TdvfMetadata, TdvfSection, parse_tdvf
from builder.model.digest import sha384_hex
from builder.model.event import (
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_PLATFORM_CONFIG_FLAGS,
    EV_SEPARATOR,
    ExpectedEvent,
    PredictedEvent,
    UnpredictedEvent,
)
from builder.model.launch_profile import PageOrder

_SEPARATOR_DIGEST = sha384_hex(bytes(4))
_ZEROS = bytes(1 << 20)
_NO_HOB = "the HOB list was not given; it holds the VMM's ACPI tables, which no rule derives"


class PayloadExtent(StrEnum):
    """What the payload's digest covers: all of its section, as td-shim's source says and its log shows, or the file."""

    SECTION = "section"
    FILE = "file"


@dataclass(frozen=True)
class TdShimBoot:
    """What the VMM gives to td-shim: a Linux kernel (bzImage), its command line, and the HOB list.

    `hob_list` is the whole list with its end-of-list HOB (`td_shim_hob_list`), None if it is not known.
    """

    kernel: bytes
    command_line: str
    hob_list: bytes | None
    payload_extent: PayloadExtent = PayloadExtent.SECTION


def td_shim_mrtd(firmware: bytes, kernel: bytes) -> Mapping[PageOrder, str]:
    """MRTD (hex) in both page orders; the kernel counts if the image marks its PAYLOAD section as extended.

    DocumentError for an image that has not exactly one PAYLOAD section, or one that is too small.
    """
    _section(parse_tdvf(firmware), SectionType.PAYLOAD, len(kernel))
    written = {SectionType.PAYLOAD: kernel}
    return {order: mrtd_for(firmware, order, written=written).hex() for order in PageOrder}


def td_shim_events(firmware: bytes, boot: TdShimBoot) -> tuple[ExpectedEvent, ...]:
    """RTMR[0] and RTMR[1] of a TD whose td-shim starts a Linux kernel, register by register.

    DocumentError for an image without PAYLOAD and PAYLOAD_PARAM sections, for files that do not fit them, and for a
    command line that is not printable ASCII. Not covered: a payload inside the image, secure boot, and images built
    without event log or TD HOB.
    """
    metadata = parse_tdvf(firmware)
    return (
        _hob_event(metadata, boot.hob_list),
        _separator("rtmr0"),
        _separator("rtmr1"),
        *_payload_events(metadata, boot),
        _parameter_event(metadata, boot.command_line),
    )


def _hob_event(metadata: TdvfMetadata, hob_list: bytes | None) -> ExpectedEvent:
    if hob_list is None:
        return UnpredictedEvent("rtmr0", EV_PLATFORM_CONFIG_FLAGS, "td_hob", _NO_HOB)
    _section(metadata, SectionType.TD_HOB, len(hob_list))
    return PredictedEvent("rtmr0", EV_PLATFORM_CONFIG_FLAGS, "td_hob", sha384_hex(hob_list), "firmware, hob_list")


def _payload_events(metadata: TdvfMetadata, boot: TdShimBoot) -> tuple[PredictedEvent, ...]:
    """The kernel is measured only if the VMM adds it without extending MRTD (td-shim since November 2023)."""
    section = _section(metadata, SectionType.PAYLOAD, len(boot.kernel))
    if section.extends or section.augments:
        return ()
    size = section.memory_size if boot.payload_extent is PayloadExtent.SECTION else len(boot.kernel)
    digest = _padded_digest(boot.kernel, size)
    return (PredictedEvent("rtmr1", EV_EFI_PLATFORM_FIRMWARE_BLOB2, "td_payload", digest, "firmware, kernel"),)


def _parameter_event(metadata: TdvfMetadata, command_line: str) -> PredictedEvent:
    """All of the section counts: 4096 bytes in every image seen."""
    if not command_line.isascii() or not all(character.isprintable() for character in command_line):
        raise DocumentError(f"command line {command_line!r} is not printable ASCII")
    encoded = command_line.encode("ascii") + b"\0"
    section = _section(metadata, SectionType.PAYLOAD_PARAM, len(encoded))
    if section.extends or section.augments:
        raise DocumentError("firmware: its PAYLOAD_PARAM section has attributes, wanted none")
    digest = _padded_digest(encoded, section.memory_size)
    return PredictedEvent("rtmr1", EV_PLATFORM_CONFIG_FLAGS, "td_payload_info", digest, "firmware, command_line")


def _section(metadata: TdvfMetadata, kind: SectionType, size: int) -> TdvfSection:
    """The one section of a kind, which has to have room for `size` bytes."""
    sections = metadata.of_type(kind)
    if len(sections) != 1:
        raise DocumentError(
            f"firmware: {len(sections)} {kind.name} sections, wanted exactly one",
            hint="take an image of td-shim that was built to start a Linux kernel",
        )
    if size > sections[0].memory_size:
        raise DocumentError(f"firmware: {size} bytes do not fit its {kind.name} of {sections[0].memory_size}")
    return sections[0]


def _padded_digest(data: bytes, size: int) -> str:
    """SHA-384 (hex) of `data` with zeros up to `size` bytes, never all at once: a section may have 1 GiB."""
    digest = hashlib.sha384(data)
    left = size - len(data)
    while left > 0:
        digest.update(_ZEROS[:left])
        left -= len(_ZEROS)
    return digest.hexdigest()


def _separator(register: str) -> PredictedEvent:
    return PredictedEvent(register, EV_SEPARATOR, "separator", _SEPARATOR_DIGEST, "firmware")
