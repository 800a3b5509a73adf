"""From versions and files to launch profiles: which rules hold, and how well each is known.

The rules are those of `measurement.md` 3.2, 5.1, 5.4, 6.2, 7.1 and 9.1. One that nothing real has confirmed puts a
caveat into the profile.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from builder.errors import DocumentError
from builder.measure.acpi.blobs import MAX_VCPUS
from builder.measure.boot.program import BootProgram, boot_program
from builder.measure.firmware.build import firmware_build
from builder.measure.firmware.edk2 import checked_edk2
from builder.measure.firmware.efi_variables import SecureBootKeys
from builder.measure.firmware.state import secure_boot_of
from builder.model.launch_profile import (
    BootFiles,
    BootMethod,
    BootOptions,
    CcMeasurement,
    FirmwareRules,
    InitrdArgument,
    KernelForm,
    LaunchProfile,
    PageOrder,
    SecureBootVariable,
)
from builder.model.recipe import VmmSpec
from builder.model.size import format_size

Version = tuple[int, int, int]

_VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")
_OLDEST_VMM = (7, 2, 0)
_FIRST_UPSTREAM_TDX = (10, 1, 0)


@dataclass(frozen=True)
class VmmRules:
    """What follows from a QEMU version. `pic` is the default that a machine option without `pic=` stands for on TDX."""

    page_order: PageOrder
    pic: bool
    caveats: tuple[str, ...]


def vmm_rules(version: str) -> VmmRules:
    """The rules of a QEMU version, three decimal numbers such as `10.0.2`; DocumentError below 7.2.0.

    Only the page order of 8.2 was confirmed by a quote.
    """
    parsed = parse_version(version)
    if parsed < _OLDEST_VMM:
        raise DocumentError(f"QEMU {version}: no rule covers versions before 7.2.0")
    is_8 = parsed[0] == 8
    caveats = [] if parsed[:2] == (8, 2) else ["page_order_unverified"]
    if parsed < _FIRST_UPSTREAM_TDX:
        caveats.append("vmm_without_tdx")
    return VmmRules(
        page_order=PageOrder.TWO_PASS if is_8 else PageOrder.SINGLE_PASS,
        pic=parsed[0] < 9,
        caveats=tuple(caveats),
    )


def parse_version(text: str) -> Version:
    """Exactly three decimal numbers; DocumentError for two, for suffixes and for everything else."""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise DocumentError(f"version {text!r} is not three decimal numbers", hint="write for example 10.0.2")
    return int(match[1]), int(match[2]), int(match[3])


def kernel_form_for(version: str, edk2: str) -> tuple[KernelForm, bool]:
    """Which kernel bytes are measured under this pair of versions, and whether a boot has confirmed it.

    `measurement.md` 6.2: it takes both versions to tell.
    """
    parsed = parse_version(version)
    new_firmware = checked_edk2(edk2) >= "202502"
    if parsed < (10, 0, 0):
        return KernelForm.PATCHED, parsed[:2] in ((7, 2), (8, 2))
    if new_firmware:
        return KernelForm.RAW, True
    return (KernelForm.PATCHED, True) if parsed < (10, 2, 0) else (KernelForm.RAW, False)


def firmware_rules(
    edk2: str, *, secure_boot_variable: SecureBootVariable, cc_measurement: CcMeasurement
) -> FirmwareRules:
    """The columns of `measurement.md` 5.1 for an edk2 tag `YYYYMM`; DocumentError if it is none.

    Distributions backport: where a build is known to differ, replace the column (`dataclasses.replace`). Before 202302
    the TDX driver extended boot variables into RTMR[1], unlike the TPM driver (edk2 commit e0dcfb31fb; read, not run).
    """
    tag = checked_edk2(edk2)
    old_tdx_driver = tag < "202302" and cc_measurement is CcMeasurement.PRESENT
    return FirmwareRules(
        edk2=tag,
        acpi_measured=tag >= "202302",
        boot_separator_register="rtmr1" if tag >= "202411" else "rtmr0",
        boot_variables_register="rtmr1" if old_tdx_driver else "rtmr0",
        fw_cfg_events=tag >= "202505",
        boot_options=BootOptions.BOOT_MANAGER_MENU_APP if tag >= "202505" else BootOptions.UI_APP,
        initrd_argument=InitrdArgument.PREFIX if tag >= "202508" else InitrdArgument.SUFFIX,
        secure_boot_variable=secure_boot_variable,
        cc_measurement=cc_measurement,
    )


def launch_profiles(
    files: BootFiles,
    *,
    vmm: VmmSpec,
    edk2: str,
    shapes: Iterable[tuple[int, int]],
    secure_boot_variable: SecureBootVariable | None = None,
    keys: SecureBootKeys | None = None,
) -> tuple[LaunchProfile, ...]:
    """A profile for every shape (vCPUs, memory in bytes) of one image under one VMM.

    Without `secure_boot_variable` the firmware file tells by its drivers and its own variables, or by `keys` if the TD
    finds those instead; where it does not tell, absent is assumed, with a caveat. DocumentError for versions, kernels
    and shapes that no rule covers.
    """
    checked_edk2(edk2)
    build = firmware_build(files.firmware)
    known = secure_boot_variable or secure_boot_of(files.firmware, build, edk2=edk2, keys=keys)
    rules = firmware_rules(
        edk2, secure_boot_variable=known or SecureBootVariable.ABSENT, cc_measurement=build.cc_measurement
    )
    program = boot_program(files)
    machine = vmm_rules(vmm.version)
    form, confirmed = _form_of(program, vmm.version, edk2)
    caveats = (
        *_firmware_caveats(rules, known=known is not None),
        *machine.caveats,
        *(() if confirmed else ("kernel_form_unverified",)),
        *_machine_caveats(vmm.machine),
        *program.caveats,
    )
    return tuple(
        LaunchProfile(
            name=_name(vcpus, memory),
            vmm=vmm,
            vcpus=vcpus,
            memory=memory,
            page_order=machine.page_order,
            kernel_form=form,
            kernel_release=program.release,
            firmware=rules,
            caveats=caveats,
            boot=program.method,
        )
        for vcpus, memory in shapes
    )


def _form_of(program: BootProgram, version: str, edk2: str) -> tuple[KernelForm, bool]:
    """As `kernel_form_for`; QEMU rewrites nothing but Linux kernels."""
    return kernel_form_for(version, edk2) if program.method is BootMethod.KERNEL else (KernelForm.RAW, True)


def _name(vcpus: int, memory: int) -> str:
    if not 1 <= vcpus <= MAX_VCPUS:
        raise DocumentError(f"vCPU count {vcpus}, wanted 1 to {MAX_VCPUS}")
    return f"{vcpus}cpu-{format_size(memory)}"


def _firmware_caveats(rules: FirmwareRules, *, known: bool) -> Iterator[str]:
    if rules.cc_measurement is CcMeasurement.ABSENT:
        yield "cc_measurement_absent"
    elif rules.cc_measurement is CcMeasurement.UNKNOWN:
        yield "cc_measurement_unknown"
    if not known:
        yield "secure_boot_variable_assumed"
    if rules.fw_cfg_events:
        yield "smbios_processor"


def _machine_caveats(machine: str) -> Iterator[str]:
    options = {option.partition("=")[0] for option in machine.split(",")}
    if not {"pic", "smm"} <= options:
        yield "machine_defaults"
