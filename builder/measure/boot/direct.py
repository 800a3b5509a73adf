"""The events of a direct kernel boot, register by register (`measurement.md` 5.2, 6.1, 7.1).

Digests in, events out. RTMR[0] is that of every way to boot, but for what FirmwareState says; UKIs, disks, shim and
GRUB extend other events in RTMR[1] and [2] and have modules of their own.
"""

from dataclasses import dataclass

from builder.measure.boot.ready_to_boot import (
    Events,
    boot_separator,
    boot_variable_events,
    exit_events,
    of_register,
    option_events,
    separator,
)
from builder.measure.firmware.efi_variables import (
    EFI_IMAGE_SECURITY_DATABASE,
    NO_KEYS,
    EfiVariable,
    SecureBootKeys,
    secure_boot_variables,
    variable_digest,
)
from builder.measure.firmware.efi_variables import (
    boot_variables as kernel_boot_variables,
)
from builder.measure.firmware.fw_cfg import fw_cfg_events
from builder.model.event import (
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_HANDOFF_TABLES,
    EV_EFI_HANDOFF_TABLES2,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_EFI_VARIABLE_AUTHORITY,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_EVENT_TAG,
    EV_PLATFORM_CONFIG_FLAGS,
    ExpectedEvent,
    PredictedEvent,
    UnpredictedEvent,
)
from builder.model.launch_profile import FirmwareRules, KernelForm
from builder.model.recipe import VmmSpec
from builder.model.reference_values import AcpiDigests

SMBIOS_EVENT = "SMBIOS tables"

_ACPI_INPUT = "profile.vmm, profile.vcpus, profile.memory"
_SMBIOS_INPUT = "profile.vmm, profile.vcpus, profile.memory, processor, firmware"


@dataclass(frozen=True)
class FirmwareState:
    """What RTMR[0] depends on besides FirmwareRules; the defaults are those of a firmware without variables.

    `authorities` are the events of secure boot for what is loaded before the boot option is taken, as a kernel is;
    `smbios` is SHA-384 (hex) of the SMBIOS tables as they are measured, None if it is not known, for `smbios_reason`;
    `smbios_measured` is False for builds without that driver; `boot_variables` are the events of BootOrder and
    Boot####, None for those of a VMM that gives a kernel, which `kernel_given` says.
    """

    keys: SecureBootKeys = NO_KEYS
    authorities: Events = ()
    smbios: str | None = None
    smbios_reason: str = "it covers the VMM's SMBIOS tables, which name the processor, and none were given"
    smbios_measured: bool = True
    boot_variables: Events | None = None
    kernel_given: bool = True


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
        *(fw_cfg_events(vmm, kernel_given=state.kernel_given) if rules.fw_cfg_events else ()),
        *_secure_boot_events(rules, state.keys),
        separator("rtmr0"),
        *(_acpi_events(acpi) if rules.acpi_measured else ()),
        *state.authorities,
        *((_smbios_event(state),) if rules.fw_cfg_events and state.smbios_measured else ()),
        *of_register("rtmr0", direct_boot_variables(rules) if state.boot_variables is None else state.boot_variables),
        *boot_separator(rules, "rtmr0"),
    )


def authority_event(signature: bytes) -> PredictedEvent:
    """RTMR[0] for the entry of db (EFI_SIGNATURE_DATA) that let the kernel start (`measurement.md` 5.10)."""
    variable = EfiVariable(EFI_IMAGE_SECURITY_DATABASE, "db", signature)
    return PredictedEvent("rtmr0", EV_EFI_VARIABLE_AUTHORITY, "db", variable_digest(variable).hex(), "firmware, kernel")


def unknown_authority_event(reason: str) -> UnpredictedEvent:
    """The same where no rule tells which entry it is."""
    return UnpredictedEvent("rtmr0", EV_EFI_VARIABLE_AUTHORITY, "db", reason)


def rtmr1_events(
    rules: FirmwareRules, *, kernel: str, kernel_form: KernelForm, boot_variables: Events | None = None
) -> Events:
    """RTMR[1] from the kernel's Authenticode digest (hex), taken of the bytes that the firmware loads.

    `boot_variables` as in FirmwareState.
    """
    kernel_input = "kernel" if kernel_form is KernelForm.RAW else "kernel, initrd, command_line, profile.memory"
    return (
        PredictedEvent("rtmr1", EV_EFI_BOOT_SERVICES_APPLICATION, "kernel", kernel, kernel_input),
        *option_events(rules, direct_boot_variables(rules) if boot_variables is None else boot_variables),
        *exit_events(),
    )


def direct_boot_variables(rules: FirmwareRules) -> Events:
    """BootOrder and Boot#### of a VMM that gives a kernel, in the register of these rules."""
    return boot_variable_events(rules, kernel_boot_variables(rules.boot_options))


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
