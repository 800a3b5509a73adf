"""The events of a direct kernel boot, register by register (`measurement.md` 5.2, 6.1, 7.1).

Digests in, events out. Other ways to boot (UKI, shim and GRUB) extend other events and get modules of their own.
"""

from dataclasses import dataclass

from builder.measure.firmware.efi_variables import (
    EFI_IMAGE_SECURITY_DATABASE,
    NO_KEYS,
    EfiVariable,
    SecureBootKeys,
    boot_variable_digest,
    boot_variables,
    secure_boot_variables,
    variable_digest,
)
from builder.measure.firmware.fw_cfg import fw_cfg_events
from builder.model.digest import sha384_hex
from builder.model.event import (
    EV_EFI_ACTION,
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_HANDOFF_TABLES2,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_EFI_VARIABLE_AUTHORITY,
    EV_EFI_VARIABLE_BOOT,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_EVENT_TAG,
    EV_PLATFORM_CONFIG_FLAGS,
    EV_SEPARATOR,
    ExpectedEvent,
    PredictedEvent,
    UnpredictedEvent,
)
from builder.model.launch_profile import FirmwareRules, KernelForm
from builder.model.recipe import VmmSpec
from builder.model.reference_values import AcpiDigests

EV_EFI_HANDOFF_TABLES = 0x80000009
SMBIOS_EVENT = "SMBIOS tables"

_SEPARATOR_DIGEST = sha384_hex(bytes(4))
_CALLING = "Calling EFI Application from Boot Option"
_EXIT = ("Exit Boot Services Invocation", "Exit Boot Services Returned with Success")
_ACPI_INPUT = "profile.vmm, profile.vcpus, profile.memory"
_SMBIOS_INPUT = "profile.vmm, profile.vcpus, profile.memory, processor, firmware"

Events = tuple[ExpectedEvent, ...]


@dataclass(frozen=True)
class FirmwareState:
    """What RTMR[0] depends on besides FirmwareRules; the defaults are those of a firmware without variables.

    `authorities` are the events of secure boot for the kernel; `smbios` is SHA-384 (hex) of the SMBIOS tables as they
    are measured, None if it is not known, for `smbios_reason`; `smbios_measured` is False for builds without that
    driver; `boot_order_stored` says that the firmware's own store has a BootOrder.
    """

    keys: SecureBootKeys = NO_KEYS
    authorities: Events = ()
    smbios: str | None = None
    smbios_reason: str = "it covers the VMM's SMBIOS tables, which name the processor, and none were given"
    smbios_measured: bool = True
    boot_order_stored: bool = False


DEFAULT_STATE = FirmwareState()


def rtmr0_events(
    rules: FirmwareRules,
    *,
    td_hob: str,
    variable_store: str,
    acpi: AcpiDigests,
    state: FirmwareState = DEFAULT_STATE,
    vmm: VmmSpec | None = None,
) -> Events:
    """RTMR[0] from the SHA-384 digests (hex) of the TD HOB list, the firmware's CFV section and the ACPI blobs.

    Without `vmm` the fw_cfg items are those of a QEMU without expander bridges and without boot indices.
    """
    return (
        PredictedEvent("rtmr0", EV_EFI_HANDOFF_TABLES2, "TD HOB", td_hob, "firmware, profile.memory"),
        PredictedEvent("rtmr0", EV_EFI_PLATFORM_FIRMWARE_BLOB2, "variable store", variable_store, "firmware"),
        *(fw_cfg_events(vmm) if rules.fw_cfg_events else ()),
        *_secure_boot_events(rules, state.keys),
        _separator("rtmr0"),
        *(_acpi_events(acpi) if rules.acpi_measured else ()),
        *state.authorities,
        *((_smbios_event(state),) if rules.fw_cfg_events and state.smbios_measured else ()),
        *_boot_variable_events(rules, "rtmr0", state),
        *_boot_separator(rules, "rtmr0"),
    )


def authority_event(signature: bytes) -> PredictedEvent:
    """RTMR[0] for the entry of db (EFI_SIGNATURE_DATA) that let the kernel start (`measurement.md` 5.10)."""
    variable = EfiVariable(EFI_IMAGE_SECURITY_DATABASE, "db", signature)
    return PredictedEvent("rtmr0", EV_EFI_VARIABLE_AUTHORITY, "db", variable_digest(variable).hex(), "firmware, kernel")


def unknown_authority_event(reason: str) -> UnpredictedEvent:
    """The same where no rule tells which entry it is."""
    return UnpredictedEvent("rtmr0", EV_EFI_VARIABLE_AUTHORITY, "db", reason)


def rtmr1_events(rules: FirmwareRules, *, kernel: str, kernel_form: KernelForm) -> Events:
    """RTMR[1] from the kernel's Authenticode digest (hex), taken of the bytes that the firmware loads."""
    kernel_input = "kernel" if kernel_form is KernelForm.RAW else "kernel, initrd, command_line, profile.memory"
    return (
        PredictedEvent("rtmr1", EV_EFI_BOOT_SERVICES_APPLICATION, "kernel", kernel, kernel_input),
        *_boot_variable_events(rules, "rtmr1", DEFAULT_STATE),
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


def _secure_boot_events(rules: FirmwareRules, keys: SecureBootKeys) -> Events:
    return tuple(
        PredictedEvent(
            "rtmr0", EV_EFI_VARIABLE_DRIVER_CONFIG, variable.name, variable_digest(variable).hex(), "firmware"
        )
        for variable in secure_boot_variables(rules.secure_boot_variable, keys)
    )


def _acpi_events(acpi: AcpiDigests) -> Events:
    files = (("etc/table-loader", acpi.loader), ("etc/acpi/rsdp", acpi.rsdp), ("etc/acpi/tables", acpi.tables))
    return tuple(PredictedEvent("rtmr0", EV_PLATFORM_CONFIG_FLAGS, name, digest, _ACPI_INPUT) for name, digest in files)


def _smbios_event(state: FirmwareState) -> ExpectedEvent:
    if state.smbios is None:
        return UnpredictedEvent("rtmr0", EV_EFI_HANDOFF_TABLES, SMBIOS_EVENT, state.smbios_reason)
    return PredictedEvent("rtmr0", EV_EFI_HANDOFF_TABLES, SMBIOS_EVENT, state.smbios, _SMBIOS_INPUT)


def _boot_variable_events(rules: FirmwareRules, register: str, state: FirmwareState) -> Events:
    if rules.boot_variables_register != register:
        return ()
    if state.boot_order_stored:
        reason = "the firmware's variable store has a BootOrder, and no rule here says what becomes of it"
        return (UnpredictedEvent(register, EV_EFI_VARIABLE_BOOT, "BootOrder", reason),)
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
