"""The events of boots other than direct kernel boot: from a GPT disk, or of a UKI given to QEMU as its kernel.

What the firmware adds around a chain of programs: the action, the separator, the partition table, the end of boot
services (`measurement.md` 6.5). The chain is put together, as in `builder.measure.boot.chain`, from `image_event`,
`systemd_stub.uki_events`, `systemd_boot.systemd_boot_events`, `shim.shim_events`, `grub.grub_events` and, for what
nobody can derive, UnpredictedEvent.
"""

from collections.abc import Iterable

from builder.measure.boot.gpt import Gpt, gpt_event
from builder.measure.boot.ready_to_boot import Events, exit_events, option_events
from builder.measure.images.authenticode import authenticode_digest
from builder.model.event import EV_EFI_BOOT_SERVICES_APPLICATION, ExpectedEvent, PredictedEvent
from builder.model.launch_profile import FirmwareRules


def image_event(name: str, image: bytes) -> PredictedEvent:
    """EV_EFI_BOOT_SERVICES_APPLICATION of an EFI program that firmware loads; `name` says which one.

    DocumentError if it is no PE image, as for `authenticode_digest`.
    """
    digest = authenticode_digest(image).hex()
    return PredictedEvent("rtmr1", EV_EFI_BOOT_SERVICES_APPLICATION, name, digest, name)


def disk_boot_events(
    rules: FirmwareRules, *, gpt: Gpt, chain: Iterable[ExpectedEvent], boot_variables: Events
) -> Events:
    """A boot from a GPT disk: its table once, then `chain`, which begins with the first image of the boot option.

    Of RTMR[0] only what the chain has; what comes before it is that of any boot, but for Boot#### variables, which
    name the disk: of `boot_variables` those that these rules put into RTMR[1]. The first boot option must be the one
    that starts: each other one adds an action.
    """
    return (*option_events(rules, boot_variables), gpt_event(gpt), *chain, *exit_events())


def kernel_boot_events(
    rules: FirmwareRules, *, kernel: ExpectedEvent, chain: Iterable[ExpectedEvent], boot_variables: Events
) -> Events:
    """An EFI program such as a UKI given to QEMU with `-kernel`: the firmware loads it before it takes the option."""
    return (kernel, *option_events(rules, boot_variables), *chain, *exit_events())
