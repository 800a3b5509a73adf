"""What the firmware measures around every boot option that it starts, whatever that is (`measurement.md` 5.5, 6.1)."""

from collections.abc import Iterable

from builder.measure.firmware.efi_variables import EfiVariable, boot_variable_digest
from builder.model.digest import sha384_hex
from builder.model.event import (
    EV_EFI_ACTION,
    EV_EFI_VARIABLE_BOOT,
    EV_SEPARATOR,
    ExpectedEvent,
    PredictedEvent,
)
from builder.model.launch_profile import FirmwareRules

Events = tuple[ExpectedEvent, ...]

_CALLING = "Calling EFI Application from Boot Option"
_EXIT = ("Exit Boot Services Invocation", "Exit Boot Services Returned with Success")
_SEPARATOR_DIGEST = sha384_hex(bytes(4))


def option_events(rules: FirmwareRules, boot_variables: Events) -> Events:
    """RTMR[1] when the firmware takes an option; of `boot_variables` those that this firmware extends there."""
    return (*of_register("rtmr1", boot_variables), _action(_CALLING), *boot_separator(rules, "rtmr1"))


def exit_events() -> Events:
    """RTMR[1] when the kernel leaves boot services."""
    return tuple(_action(text) for text in _EXIT)


def boot_variable_events(rules: FirmwareRules, variables: Iterable[EfiVariable]) -> Events:
    """BootOrder and Boot####, in the register of these rules."""
    register = rules.boot_variables_register
    return tuple(
        PredictedEvent(register, EV_EFI_VARIABLE_BOOT, each.name, boot_variable_digest(each).hex(), "firmware")
        for each in variables
    )


def boot_separator(rules: FirmwareRules, register: str) -> Events:
    """The separator of ReadyToBoot, if `register` is where it goes."""
    return (separator(register),) if rules.boot_separator_register == register else ()


def separator(register: str) -> PredictedEvent:
    """A separator, whose digest never changes."""
    return PredictedEvent(register, EV_SEPARATOR, "separator", _SEPARATOR_DIGEST, "firmware")


def of_register(register: str, events: Events) -> Events:
    """Those of the events that extend `register`."""
    return tuple(event for event in events if event.register == register)


def _action(text: str) -> PredictedEvent:
    return PredictedEvent("rtmr1", EV_EFI_ACTION, text, sha384_hex(text.encode("ascii")), "firmware")
