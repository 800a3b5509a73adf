"""The events of a direct kernel boot, register by register (`measurement.md` 5.2, 6.1, 7.1).

Digests in, events out. Other ways to boot (UKI, shim and GRUB) extend other events and get modules of their own.
"""

from builder.errors import DocumentError
from builder.measure.efi_variables import boot_variable_digest, boot_variables, secure_boot_variables, variable_digest
from builder.model.digest import sha384_hex
from builder.model.event import (
    EV_EFI_ACTION,
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_HANDOFF_TABLES2,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_EFI_VARIABLE_BOOT,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_EVENT_TAG,
    EV_PLATFORM_CONFIG_FLAGS,
    EV_SEPARATOR,
    PredictedEvent,
)
from builder.model.launch_profile import FirmwareRules, KernelForm
from builder.model.reference_values import AcpiDigests

_SEPARATOR_DIGEST = sha384_hex(bytes(4))
_CALLING = "Calling EFI Application from Boot Option"
_EXIT = ("Exit Boot Services Invocation", "Exit Boot Services Returned with Success")
_ACPI_INPUT = "profile.vmm, profile.vcpus, profile.memory"

Events = tuple[PredictedEvent, ...]


def rtmr0_events(rules: FirmwareRules, *, td_hob: str, variable_store: str, acpi: AcpiDigests) -> Events:
    """RTMR[0] from the SHA-384 digests (hex) of the TD HOB list, the firmware's CFV section and the ACPI blobs.

    DocumentError for edk2 202505 and later: no rule derives the digest of its SMBIOS event (`measurement.md` 5.8).
    """
    if rules.fw_cfg_events:
        raise DocumentError(
            f"firmware of edk2 {rules.edk2}: RTMR0 holds an SMBIOS event whose digest cannot be predicted",
            hint="use firmware built from edk2 202502 or earlier",
        )
    return (
        PredictedEvent("rtmr0", EV_EFI_HANDOFF_TABLES2, "TD HOB", td_hob, "firmware, profile.memory"),
        PredictedEvent("rtmr0", EV_EFI_PLATFORM_FIRMWARE_BLOB2, "variable store", variable_store, "firmware"),
        *_secure_boot_events(rules),
        _separator("rtmr0"),
        *(_acpi_events(acpi) if rules.acpi_measured else ()),
        *_boot_variable_events(rules, "rtmr0"),
        *_boot_separator(rules, "rtmr0"),
    )


def rtmr1_events(rules: FirmwareRules, *, kernel: str, kernel_form: KernelForm) -> Events:
    """RTMR[1] from the kernel's Authenticode digest (hex), taken of the bytes that the firmware loads."""
    kernel_input = "kernel" if kernel_form is KernelForm.RAW else "kernel, initrd, command_line, profile.memory"
    return (
        PredictedEvent("rtmr1", EV_EFI_BOOT_SERVICES_APPLICATION, "kernel", kernel, kernel_input),
        *_boot_variable_events(rules, "rtmr1"),
        _action(_CALLING),
        *_boot_separator(rules, "rtmr1"),
        *(_action(text) for text in _EXIT),
    )


def rtmr2_events(*, load_options: str, initrd: str | None) -> Events:
    """RTMR[2] from the digests (hex) of load options and initrd, as a Linux EFI stub extends it; initrd may be None."""
    options = PredictedEvent("rtmr2", EV_EVENT_TAG, "LOADED_IMAGE::LoadOptions", load_options, "command_line")
    if initrd is None:
        return (options,)
    return options, PredictedEvent("rtmr2", EV_EVENT_TAG, "Linux initrd", initrd, "initrd")


def _secure_boot_events(rules: FirmwareRules) -> Events:
    return tuple(
        PredictedEvent(
            "rtmr0", EV_EFI_VARIABLE_DRIVER_CONFIG, variable.name, variable_digest(variable).hex(), "firmware"
        )
        for variable in secure_boot_variables(rules.secure_boot_variable)
    )


def _acpi_events(acpi: AcpiDigests) -> Events:
    files = (("etc/table-loader", acpi.loader), ("etc/acpi/rsdp", acpi.rsdp), ("etc/acpi/tables", acpi.tables))
    return tuple(PredictedEvent("rtmr0", EV_PLATFORM_CONFIG_FLAGS, name, digest, _ACPI_INPUT) for name, digest in files)


def _boot_variable_events(rules: FirmwareRules, register: str) -> Events:
    if rules.boot_variables_register != register:
        return ()
    return tuple(
        PredictedEvent(register, EV_EFI_VARIABLE_BOOT, variable.name, boot_variable_digest(variable).hex(), "firmware")
        for variable in boot_variables(rules.boot_options)
    )


def _boot_separator(rules: FirmwareRules, register: str) -> Events:
    return (_separator(register),) if rules.boot_separator_register == register else ()


def _separator(register: str) -> PredictedEvent:
    return PredictedEvent(register, EV_SEPARATOR, "separator", _SEPARATOR_DIGEST, "firmware")


def _action(text: str) -> PredictedEvent:
    return PredictedEvent("rtmr1", EV_EFI_ACTION, text, sha384_hex(text.encode("ascii")), "firmware")
