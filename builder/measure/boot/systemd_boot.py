"""What systemd-boot, the boot menu, measures before it starts a unified kernel image.

Versions 257 and 262 were booted under emulation with a TPM. A menu entry that is no UKI, or whose command line was
edited at the menu, has load options that are measured too: such boots are not covered.
"""

from builder.measure.boot.disk import image_event
from builder.measure.boot.systemd_stub import (
    MEASURES_SMBIOS_TO_CC,
    TAGS_TO_CC,
    TAGS_TO_CC_UNCERTAIN,
    smbios_event,
    stub_version,
)
from builder.measure.images.loader_info import loader_version
from builder.model.digest import sha384_hex
from builder.model.event import EV_EVENT_TAG, ExpectedEvent, PredictedEvent, UnpredictedEvent

# Before, whether it hands on the command line of a UKI as load options, which are measured, was not looked at.
HANDS_ON_NO_OPTIONS = 257

_NAME = "loader.conf"


def systemd_boot_events(
    loader: bytes, *, loader_conf: bytes | None, version: int | None = None
) -> tuple[ExpectedEvent, ...]:
    """systemd-boot's image and what it measures up to the start of a UKI, which then measures no SMBIOS table again.

    `loader_conf` is the file `loader/loader.conf` of the disk, None if there is none; `version` stands for the one that
    the program states. DocumentError if it is no PE image, or no rule covers its version.
    """
    text = loader_version(loader, "systemd-boot") if version is None else str(version)
    number = stub_version(text, program="systemd-boot")
    smbios = (smbios_event(),) if number >= MEASURES_SMBIOS_TO_CC else ()
    return (image_event("systemd-boot", loader), *smbios, *_configuration_events(loader_conf, number))


def _configuration_events(loader_conf: bytes | None, number: int) -> tuple[ExpectedEvent, ...]:
    """PCR 5, hence RTMR[1]; to a TPM only before systemd-boot logged tagged events for TDs as well."""
    if loader_conf is None or number < TAGS_TO_CC_UNCERTAIN:
        return ()
    if number < TAGS_TO_CC:
        reason = f"not known whether systemd-boot {number} extends RTMR1 with its configuration"
        return (UnpredictedEvent("rtmr1", EV_EVENT_TAG, _NAME, reason, repeats=True),)
    return (PredictedEvent("rtmr1", EV_EVENT_TAG, _NAME, sha384_hex(loader_conf), _NAME),)
