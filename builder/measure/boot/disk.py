"""The events of boots other than direct kernel boot: from a GPT disk, or of a UKI given to QEMU as its kernel.

What the firmware adds around a chain of programs: the action, the separator, the partition table, the end of boot
services (`measurement.md` 6.5). The chain is put together from `image_event`, `systemd_stub.uki_events`,
`systemd_boot.systemd_boot_events`, `shim.shim_events`, `grub.grub_events` and, for what nobody can derive,
UnpredictedEvent.
"""

from collections.abc import Iterable

from builder.measure.boot.gpt import Gpt, gpt_event
from builder.measure.images.authenticode import authenticode_digest
from builder.model.digest import sha384_hex
from builder.model.event import (
    EV_EFI_ACTION,
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_VARIABLE_BOOT,
    EV_SEPARATOR,
    ExpectedEvent,
    PredictedEvent,
    UnpredictedEvent,
)
from builder.model.launch_profile import FirmwareRules

Events = tuple[ExpectedEvent, ...]

_CALLING = "Calling EFI Application from Boot Option"
_EXIT = ("Exit Boot Services Invocation", "Exit Boot Services Returned with Success")


def image_event(name: str, image: bytes) -> PredictedEvent:
    """EV_EFI_BOOT_SERVICES_APPLICATION of an EFI program that firmware loads; `name` says which one.

    DocumentError if it is no PE image, as for `authenticode_digest`.
    """
    digest = authenticode_digest(image).hex()
    return PredictedEvent("rtmr1", EV_EFI_BOOT_SERVICES_APPLICATION, name, digest, name)


def disk_boot_events(rules: FirmwareRules, *, gpt: Gpt, chain: Iterable[ExpectedEvent]) -> Events:
    """A boot from a GPT disk: its table once, then `chain`, which begins with the first image of the boot option.

    Of RTMR[0] only what the chain has; what comes before it is that of any boot, but for Boot#### variables, which
    name the disk. The first boot option must be the one that starts: each other one adds an action.
    """
    return (*_before(rules), gpt_event(gpt), *chain, *_after())


def kernel_boot_events(rules: FirmwareRules, *, kernel: ExpectedEvent, chain: Iterable[ExpectedEvent]) -> Events:
    """An EFI program such as a UKI given to QEMU with `-kernel`: the firmware loads it before it takes the option."""
    return (kernel, *_before(rules), *chain, *_after())


def _before(rules: FirmwareRules) -> Events:
    boot_variables: Events = ()
    if rules.boot_variables_register == "rtmr1":
        reason = "the boot variables name the boot disk, whose device path is not given"
        boot_variables = (UnpredictedEvent("rtmr1", EV_EFI_VARIABLE_BOOT, "BootOrder, Boot####", reason),)
    separator = PredictedEvent("rtmr1", EV_SEPARATOR, "separator", sha384_hex(bytes(4)), "firmware")
    return (
        *boot_variables,
        _action(_CALLING),
        *((separator,) if rules.boot_separator_register == "rtmr1" else ()),
    )


def _after() -> Events:
    return tuple(_action(text) for text in _EXIT)


def _action(text: str) -> PredictedEvent:
    return PredictedEvent("rtmr1", EV_EFI_ACTION, text, sha384_hex(text.encode("ascii")), "firmware")
