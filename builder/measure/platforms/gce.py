"""TDs on Google Compute Engine: which of their first measurements follow from what (`measurement.md` 4.4, 8).

Google keeps the VMM to itself, so that the ACPI tables follow from nothing; the rest does. Events of the disk and of
what is started from it are those of `measurement.md` 6.5 to 7.5 and belong to the modules about booting from disks.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from builder.errors import DocumentError, RegisterDiffersError
from builder.measure.firmware.boot_options import AUTOMATIC, ROOT_BRIDGE
from builder.measure.firmware.efi_variables import (
    EFI_GLOBAL_VARIABLE,
    EFI_IMAGE_SECURITY_DATABASE,
    EfiVariable,
    boot_variable_digest,
    boot_variables,
    variable_digest,
)
from builder.measure.firmware.hob import END_OF_LIST
from builder.measure.firmware.mrtd import mrtd_for
from builder.measure.firmware.tdvf import SectionType, TdvfMetadata, TdvfSection, parse_tdvf
from builder.measure.platforms.gce_td_hob import EarlyAccept, GceMachineType, gce_ram_banks, gce_td_hob_list
from builder.model.digest import sha384_hex
from builder.model.event import (
    EV_EFI_HANDOFF_TABLES2,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_EFI_VARIABLE_BOOT,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_PLATFORM_CONFIG_FLAGS,
    EV_SEPARATOR,
    ExpectedEvent,
    PredictedEvent,
    UnpredictedEvent,
)
from builder.model.launch_profile import BootOptions, PageOrder

# SHA-384 of the firmware -> MRTD, as flashbots/dstack-mr-gcp states them from Google's bucket `gce_tcb_integrity`,
# where `ovmf_x64_csm/<SHA-384>.fd` is the firmware and `ovmf_x64_csm/tdx/<MRTD>.binarypb` Google's endorsement of it
GCE_ENDORSED_MRTDS: Mapping[str, str] = {
    "ff11d313b462e2c7b08143f54785f77f71f55f71673d934c8e209c086294548c8c61eff4b3a9dd0708e3e5d79e163f39": (
        "a5844e88897b70c318bef929ef4dfd6c7304c52c4bc9c3f39132f0fdccecf3eb5bab70110ee42a12509a31c037288694"
    ),
    "afa88de3952c1b3f696fb5c526493742ff25131848bd769305c69166103a53790d010ffb34149b5f428df6eaa39a2749": (
        "8370d8f6d02f2d13e211e91c93fde923049522b241425a29a7bf0071ef49b250af4ef49d852fa3e10065d1b51dfce8fb"
    ),
    "f53fdf89544e1e6d785eee42d0a4bb38e26b36e951be537ac22114d210f2d5239eba243dd71991afe8345e7020974a46": (
        "feb7486608382c1ff0e15b4648ddc0acea6ca974eb53e3529f4c4bd5ffbaa20bf335cb75965cea65fe473aed9647c162"
    ),
}

# The layout behind every published TD HOB digest of GCE: 2 MiB of firmware, layout S2 (`measurement.md` 4.2, 4.4)
GCE_LAYOUT = TdvfMetadata(
    tuple(
        TdvfSection(kind, offset, raw, address, memory, extends=kind is SectionType.BFV, augments=False)
        for kind, offset, raw, address, memory in (
            (SectionType.BFV, 0x20000, 0x1E0000, 0xFFE20000, 0x1E0000),
            (SectionType.CFV, 0, 0x20000, 0xFFE00000, 0x20000),
            (SectionType.TEMP_MEM, 0, 0, 0x810000, 0x10000),
            (SectionType.TEMP_MEM, 0, 0, 0x80B000, 0x2000),
            (SectionType.TD_HOB, 0, 0, 0x809000, 0x2000),
            (SectionType.TEMP_MEM, 0, 0, 0x800000, 0x6000),
        )
    )
)

_KEYS = ("PK", "KEK", "db", "dbx")
_ACPI_FILES = ("etc/table-loader", "etc/acpi/rsdp", "etc/acpi/tables")
_NO_ACPI = "Google's VMM is not public, and its ACPI tables change with it; no rule derives their digests"
_NO_KEYS = "the keys are part of the VM's image or of GCE's defaults, and this variable was not given"
_NO_STORE = "the variable store of the firmware was not given, or the VM's image brings its own keys"
# `measurement.md` 5.9: an NVMe disk as edk2 names it
_DISK_NAME = "UEFI nvme_card-pd"


@dataclass(frozen=True)
class GceMachine:
    """A VM: its type, whether Secure Boot is on, and what it starts from.

    `keys` are the data of PK, KEK, db and dbx, each None if not known. `disks` is how many persistent disks the
    firmware finds on the NVMe controller at PCI device `disk_controller`: 4 in the logs seen, 5 in digests of other
    machines.
    """

    machine_type: GceMachineType
    secure_boot: bool = False
    keys: tuple[bytes | None, bytes | None, bytes | None, bytes | None] = (None, None, None, None)
    disks: int = 1
    disk_controller: int = 4


def gce_mrtd(firmware: bytes, *, endorsed: Mapping[str, str] = GCE_ENDORSED_MRTDS) -> str:
    """MRTD (hex) of a GCE firmware file: single pass (`measurement.md` 3.2).

    DocumentError for a file that is not among the `endorsed`; RegisterDiffersError if it is, and the MRTD computed is
    not the endorsed one. Not checked: Google's signature over the endorsement.
    """
    digest = sha384_hex(firmware)
    if digest not in endorsed:
        raise DocumentError(
            f"firmware: SHA-384 {digest} is none of the {len(endorsed)} known ones of GCE",
            hint="look for Google's endorsement of it; mrtd_for computes the MRTD of any firmware",
        )
    computed = mrtd_for(firmware, PageOrder.SINGLE_PASS).hex()
    if computed != endorsed[digest]:
        raise RegisterDiffersError(f"firmware {digest}: MRTD {computed}, endorsed is {endorsed[digest]}")
    return computed


def gce_mrtd_of_all_sections(
    firmware: bytes, machine: GceMachineType, *, early_accept: EarlyAccept = EarlyAccept.BELOW_4_GIB
) -> str:
    """MRTD (hex) under the old VMM that extended every section, the TD HOB's content included (`measurement.md` 3.3).

    It depends on the machine type. As google/gce-tcb-verifier models it; no value of such a TD is public.
    """
    hobs = gce_td_hob_list(parse_tdvf(firmware), gce_ram_banks(machine), early_accept=early_accept) + END_OF_LIST
    written = {SectionType.TD_HOB: hobs}
    return mrtd_for(firmware, PageOrder.SINGLE_PASS, written=written, every_section=True).hex()


def gce_rtmr0_events(
    machine: GceMachine,
    *,
    metadata: TdvfMetadata = GCE_LAYOUT,
    variable_store: bytes | None = None,
    early_accept: EarlyAccept = EarlyAccept.ALL,
) -> tuple[ExpectedEvent, ...]:
    """What firmware and VMM extend into RTMR[0], up to the boot variables; a shim adds its own events after them.

    `metadata` and `variable_store` (the CFV section) come from the firmware file where there is one. The three ACPI
    events are never predicted, and with them the register is not.
    """
    hobs = gce_td_hob_list(metadata, gce_ram_banks(machine.machine_type), early_accept=early_accept)
    hob_input = "firmware, profile.machine_type"
    return (
        PredictedEvent("rtmr0", EV_EFI_HANDOFF_TABLES2, "TD HOB", sha384_hex(hobs), hob_input),
        _variable_store_event(variable_store),
        *_secure_boot_events(machine),
        PredictedEvent("rtmr0", EV_SEPARATOR, "separator", sha384_hex(bytes(4)), "firmware"),
        *(UnpredictedEvent("rtmr0", EV_PLATFORM_CONFIG_FLAGS, name, _NO_ACPI) for name in _ACPI_FILES),
        *_boot_events(machine),
    )


def gce_disk_option(number: int, *, controller: int = 4) -> bytes:
    """The load option that the firmware makes for the `number`th persistent disk, counted from 1.

    The NVMe namespace is the number; from the second on, the description says it too. Confirmed for disks 1 and 2 at
    PCI devices 4 and 5.
    """
    if not 1 <= number <= 128 or not 0 <= controller <= 31:
        raise DocumentError(f"GCE: disk {number} at PCI device {controller}; wanted 1 to 128, and 0 to 31")
    description = _DISK_NAME if number == 1 else f"{_DISK_NAME} {number}"
    pci = b"\x01\x01\x06\x00" + bytes((0, controller))
    namespace = b"\x03\x17\x10\x00" + struct.pack("<IQ", number, 0)
    path = ROOT_BRIDGE + pci + namespace + b"\x7f\xff\x04\x00"
    return struct.pack("<IH", 1, len(path)) + (description + "\0").encode("utf-16-le") + path + AUTOMATIC.bytes_le


def _variable_store_event(store: bytes | None) -> ExpectedEvent:
    name = "variable store"
    if store is None:
        return UnpredictedEvent("rtmr0", EV_EFI_PLATFORM_FIRMWARE_BLOB2, name, _NO_STORE)
    return PredictedEvent("rtmr0", EV_EFI_PLATFORM_FIRMWARE_BLOB2, name, sha384_hex(store), "firmware")


def _secure_boot_events(machine: GceMachine) -> tuple[ExpectedEvent, ...]:
    """`measurement.md` 8: keys are always enrolled, and SecureBoot is 00 where it is off."""
    return (
        _variable_event(
            EfiVariable(EFI_GLOBAL_VARIABLE, "SecureBoot", bytes((machine.secure_boot,))), "profile.secure_boot"
        ),
        *(_key_event(name, data) for name, data in zip(_KEYS, machine.keys, strict=True)),
    )


def _key_event(name: str, data: bytes | None) -> ExpectedEvent:
    if data is None:
        return UnpredictedEvent("rtmr0", EV_EFI_VARIABLE_DRIVER_CONFIG, name, _NO_KEYS)
    vendor = EFI_GLOBAL_VARIABLE if name in ("PK", "KEK") else EFI_IMAGE_SECURITY_DATABASE
    return _variable_event(EfiVariable(vendor, name, data), "profile.keys")


def _variable_event(variable: EfiVariable, source: str) -> PredictedEvent:
    digest = variable_digest(variable).hex()
    return PredictedEvent("rtmr0", EV_EFI_VARIABLE_DRIVER_CONFIG, variable.name, digest, source)


def _boot_events(machine: GceMachine) -> tuple[ExpectedEvent, ...]:
    """BootOrder with the disks first and the firmware's own program, Boot0000, last; the variables in that order."""
    if not 1 <= machine.disks <= 128:
        raise DocumentError(f"GCE: {machine.disks} disks, wanted 1 to 128", hint="a VM starts from a disk")
    numbers = range(1, machine.disks + 1)
    order = b"".join(number.to_bytes(2, "little") for number in (*numbers, 0))
    options = [(number, gce_disk_option(number, controller=machine.disk_controller)) for number in numbers]
    _, firmware_program = boot_variables(BootOptions.UI_APP)
    variables = (
        EfiVariable(EFI_GLOBAL_VARIABLE, "BootOrder", order),
        *(EfiVariable(EFI_GLOBAL_VARIABLE, f"Boot{number:04X}", data) for number, data in options),
        firmware_program,
    )
    return tuple(
        PredictedEvent(
            "rtmr0", EV_EFI_VARIABLE_BOOT, variable.name, boot_variable_digest(variable).hex(), "profile.disks"
        )
        for variable in variables
    )
