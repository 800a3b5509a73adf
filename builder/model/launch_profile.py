"""Launch profiles: everything besides the image's own files that changes a register, stated with every value.

A rule that is not known for certain is not left out: the profile carries a caveat, and the caveat is published.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from builder.model.recipe import VmmSpec


class PageOrder(StrEnum):
    """The order of the records of MRTD, which depends on the VMM (`measurement.md` 3.2)."""

    SINGLE_PASS = "single_pass"  # noqa: S105 - not a secret
    TWO_PASS = "two_pass"  # noqa: S105 - not a secret


class KernelForm(StrEnum):
    """Whether the firmware measures the kernel file, or QEMU's rewritten copy of it (`measurement.md` 6.2)."""

    RAW = "raw"
    PATCHED = "patched"


class CcMeasurement(StrEnum):
    """Whether the firmware has the driver that extends RTMRs (`measurement.md` 5.1)."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class SecureBootVariable(StrEnum):
    """What the firmware measures as the SecureBoot variable (`measurement.md` 5.4): of a build without secure boot, of
    one where it is off, and of one that enforces it."""

    ABSENT = "absent"
    DISABLED = "00"
    ENABLED = "01"


class BootOptions(StrEnum):
    """The Boot#### variables of a guest without a boot disk (`measurement.md` 5.9)."""

    UI_APP = "ui_app"
    BOOT_MANAGER_MENU_APP = "boot_manager_menu_app"


class InitrdArgument(StrEnum):
    """Where the firmware puts `initrd=initrd` on the command line (`measurement.md` 7.2)."""

    SUFFIX = "suffix"
    PREFIX = "prefix"


class BootMethod(StrEnum):
    """What the VMM starts the firmware with: a Linux kernel, a unified kernel image in its place, or a disk alone."""

    KERNEL = "kernel"
    UKI = "uki"
    DISK = "disk"


@dataclass(frozen=True)
class DiskFiles:
    """What is read of a disk besides the loader that its firmware starts.

    `partition_table` is the data of EV_EFI_GPT_EVENT. `next_image` is what the loader starts: the UKI of systemd-boot's
    menu, `grubx64.efi` of shim; None if that is not known. `loader_conf` is systemd-boot's configuration, None if there
    is none; `beside` names files that a UKI's stub would take in addition to what is in the UKI.
    """

    partition_table: bytes = field(repr=False)
    next_image: bytes | None = field(default=None, repr=False)
    loader_conf: bytes | None = None
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class BootFiles:
    """What a TD is started with: the bytes of its files, and its command line as QEMU gets it.

    `kernel` is the EFI program that the firmware starts first: the kernel or UKI that QEMU is given, or with `disk` the
    loader of that disk. A UKI's `command_line` is load options besides its own, empty if none are given.
    """

    firmware: bytes
    kernel: bytes
    initrd: bytes | None
    command_line: str
    disk: DiskFiles | None = None


@dataclass(frozen=True)
class FirmwareRules:
    """What a firmware build measures, and where: the columns of `measurement.md` 5.1, stated one by one.

    `boot_separator_register` is where ReadyToBoot puts its separator; `fw_cfg_events` stands for the fw_cfg items and
    the SMBIOS tables; `boot_variables_register` is where BootOrder and Boot#### go.
    """

    edk2: str
    acpi_measured: bool
    boot_separator_register: str
    boot_variables_register: str
    fw_cfg_events: bool
    boot_options: BootOptions
    initrd_argument: InitrdArgument
    secure_boot_variable: SecureBootVariable
    cc_measurement: CcMeasurement

    @property
    def store_used(self) -> bool:
        """Whether the firmware starts with the variables in its own file, and not with none.

        Builds with secure boot do; others from 202511 on (edk2 commit a51255072e; both seen in boots).
        """
        return self.secure_boot_variable is not SecureBootVariable.ABSENT or self.edk2 >= "202511"


@dataclass(frozen=True)
class LaunchProfile:
    """One machine shape under one VMM with one firmware. `memory` in bytes; `caveats` are keys of CAVEATS.

    `kernel_release` is what the kernel says of itself, that inside a UKI too; empty if it says nothing or is not known.
    Only caveats depend on it. `kernel_form` is raw for whatever is no Linux kernel: nobody rewrites that.
    """

    name: str
    vmm: VmmSpec
    vcpus: int
    memory: int
    page_order: PageOrder
    kernel_form: KernelForm
    kernel_release: str
    firmware: FirmwareRules
    caveats: tuple[str, ...]
    boot: BootMethod = BootMethod.KERNEL


CAVEATS: Mapping[str, str] = {
    "cc_measurement_absent": (
        "This firmware has no confidential-computing measurement driver. By edk2's source (read, not run on TDX "
        "hardware) a TD started with it leaves RTMR1 and RTMR2 zero, and RTMR0 zero too (from edk2 202302 on it holds "
        "the TD HOB and the variable store, nothing else), so that a quote binds nothing but MRTD. The RTMR values "
        "given here are what the same firmware measures into the PCRs of a TPM, mapped to RTMRs; no TD started with it "
        "can show them."
    ),
    "cc_measurement_unknown": (
        "Whether this firmware has a confidential-computing measurement driver could not be told from the file. "
        "Without one, a TD leaves RTMR1 and RTMR2 zero, and a quote binds nothing but MRTD."
    ),
    "secure_boot_variable_assumed": (
        "Whether this build measures the SecureBoot variable as absent or as 00 is not known and was assumed; RTMR0 "
        "depends on it."
    ),
    "smbios_processor": (
        "The SMBIOS event covers CPUID leaf 1 (EAX, EDX) of the processor that the TD sees, in type 4. Where RTMR0 is "
        "given, it holds for the processor, machine type and `-smbios` options of the tables it was made from."
    ),
    "page_order_unverified": (
        "The MRTD page order of this VMM version follows public sources and was not confirmed by a quote; MRTD is "
        "published in both orders."
    ),
    "kernel_form_unverified": (
        "Whether this pair of VMM and firmware measures the kernel file or a rewritten copy follows from their sources "
        "and was not confirmed by a boot; RTMR1 depends on it."
    ),
    "vmm_without_tdx": (
        "Upstream releases of this VMM version have no TDX support. Forks of it that have may build other ACPI tables "
        "and load the kernel in another way."
    ),
    "machine_defaults": (
        "The machine option leaves pic or smm to the VMM, whose choice is not the same with and without TDX; the ACPI "
        "tables, and with them RTMR0, depend on both."
    ),
    "linux_stub_without_cc": (
        "This kernel says that it is older than Linux 6.9, the first whose EFI stub measures its command line and "
        "initrd in a TD. Unless its distributor backported that, RTMR2 stays zero; the value given is what the stub "
        "measures into PCR 9 of a TPM."
    ),
    "linux_stub_unknown": (
        "The kernel does not tell its release. Before Linux 6.9 the EFI stub does not measure the command line and "
        "the initrd in a TD, and RTMR2 stays zero."
    ),
    "uki_stub_without_cc": (
        "Before version 256, systemd-stub measures to a TPM only. In a TD without one, RTMR2 holds nothing of the UKI "
        "but what its kernel measures."
    ),
    "uki_stub_cc_unverified": (
        "That this version of systemd-stub extends RTMR2 with what it measures to a TPM was read in its source, and "
        "seen in an emulated boot with a TPM at most; no log of a TD confirmed it."
    ),
    "uki_stub_not_booted": (
        "This version of systemd-stub was not booted under emulation: its rules are those of the source, and of the "
        "versions before and after it."
    ),
    "uki_files_beside_it": (
        "The prediction holds where the partition has no addons, credentials or extensions for this UKI."
    ),
    "disk_as_given": (
        "The values hold while the disk is as it was measured, and is the first boot option that starts: a guest that "
        "grows its partitions or changes its EFI system partition measures something else at its next boot, and so "
        "does one with another disk to boot from."
    ),
    "disk_menu_untouched": (
        "The prediction holds for the entry that the boot menu starts by itself: who picks or edits another one at the "
        "menu changes RTMR1 and RTMR2."
    ),
}


def launch_profile_document(profile: LaunchProfile) -> dict[str, Any]:
    """The profile as plain values, for JSON; it stands on its own."""
    document = asdict(profile)
    document["vmm"]["devices"] = list(profile.vmm.devices)
    document["caveats"] = list(profile.caveats)
    return document


def parse_launch_profile(document: dict[str, Any]) -> LaunchProfile:
    """The reverse of `launch_profile_document`, for a document that already fits the schema `reference-values-v1`."""
    firmware = document["firmware"]
    vmm = document["vmm"]
    rules = FirmwareRules(
        edk2=firmware["edk2"],
        acpi_measured=firmware["acpi_measured"],
        boot_separator_register=firmware["boot_separator_register"],
        boot_variables_register=firmware["boot_variables_register"],
        fw_cfg_events=firmware["fw_cfg_events"],
        boot_options=BootOptions(firmware["boot_options"]),
        initrd_argument=InitrdArgument(firmware["initrd_argument"]),
        secure_boot_variable=SecureBootVariable(firmware["secure_boot_variable"]),
        cc_measurement=CcMeasurement(firmware["cc_measurement"]),
    )
    return LaunchProfile(
        name=document["name"],
        vmm=VmmSpec(**{**vmm, "devices": tuple(vmm["devices"])}),
        vcpus=document["vcpus"],
        memory=document["memory"],
        page_order=PageOrder(document["page_order"]),
        kernel_form=KernelForm(document["kernel_form"]),
        kernel_release=document["kernel_release"],
        firmware=rules,
        caveats=tuple(document["caveats"]),
        boot=BootMethod(document["boot"]),
    )
