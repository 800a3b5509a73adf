"""The boot variables of a boot from disk: what OVMF makes of the disks of a machine (`measurement.md` 5.9).

The firmware registers its own programs, then an option for every disk it finds, then its shell if it has one. A disk's
option is the whole disk's device path, a description, and a mark of being made automatically; what is on the disk shows
in nothing but the description of virtio-blk disks that hold a file system and no partitions.
"""

import struct
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from builder.errors import DocumentError
from builder.measure.firmware.efi_variables import (
    EfiVariable,
    firmware_option,
    load_option,
    numbered_options,
    own_options,
)
from builder.model.launch_profile import BootOptions

EFI_SHELL = uuid.UUID("7c04a583-9e3e-4f1c-ad65-e05268d0b4d1")
AUTOMATIC = uuid.UUID("8108ac4e-9f11-4d59-850e-e21a522c59b2")  # marks options that the firmware made by itself
ROOT_BRIDGE = bytes.fromhex("02010c00d041030a00000000")  # ACPI node: PNP0A03, unit 0
_ACTIVE, _APPLICATION = 0x001, 0x100


class DiskKind(StrEnum):
    """The controllers whose disks are covered, by QEMU's device: virtio-blk-pci, nvme, scsi-hd on virtio-scsi-pci."""

    VIRTIO_BLK = "virtio-blk"
    NVME = "nvme"
    SCSI = "scsi"


@dataclass(frozen=True)
class BootDisk:
    """A disk on pcie.0, by the slot and function of its controller.

    `serial` is NVMe's; `target` and `lun` are SCSI's; `bare` says that the disk holds a file system and no partition
    table; `bootindex` is QEMU's property, None without one.
    """

    kind: DiskKind
    device: int
    function: int = 0
    serial: str = ""
    target: int = 0
    lun: int = 0
    bare: bool = False
    bootindex: int | None = None


def disk_boot_variables(
    boot_options: BootOptions, disks: Sequence[BootDisk], *, has_shell: bool
) -> tuple[EfiVariable, ...]:
    """BootOrder and the Boot#### that it lists, in the order of measuring; only their data is measured.

    `has_shell` says whether the firmware holds the EFI shell (`FirmwareBuild.shell`). DocumentError for two disks in
    one place or with one bootindex, and for no disk. Not covered: disks behind bridges, removable media, firmware that
    restricts its options, and network cards, each of which adds up to four options in builds with a network stack.
    """
    _check(disks)
    own = own_options(boot_options)
    ordered = sorted(disks, key=_place)
    options = [*own, *_disk_options(ordered), *([_shell_option(boot_options)] if has_shell else [])]
    first = len(own)
    numbers = {disk: first + position for position, disk in enumerate(ordered)}
    return numbered_options(dict(enumerate(options)), order=tuple(_order(numbers, len(options))))


def _order(numbers: dict[BootDisk, int], count: int) -> Iterator[int]:
    """QEMU's list of boot indices decides, where it has one: its disks first, disks without an index left out."""
    indexed = sorted((disk.bootindex, number) for disk, number in numbers.items() if disk.bootindex is not None)
    yield from (number for _, number in indexed)
    left_out = set(numbers.values()) if indexed else set()
    yield from (number for number in range(count) if number not in left_out)


def _disk_options(disks: Sequence[BootDisk]) -> Iterator[bytes]:
    """Descriptions that are there already get a number, from 2 on."""
    seen: dict[str, int] = {}
    for disk in disks:
        text = f"UEFI {_description(disk)}"
        seen[text] = seen.get(text, 0) + 1
        unique = text if seen[text] == 1 else f"{text} {seen[text]}"
        yield load_option(unique, _path(disk), data=AUTOMATIC.bytes_le)


def _description(disk: BootDisk) -> str:
    if disk.kind is DiskKind.NVME:
        return " ".join(f"QEMU NVMe Ctrl {disk.serial} 1".split())
    if disk.kind is DiskKind.SCSI:
        return "QEMU QEMU HARDDISK "  # vendor and product are padded; of several spaces one stays
    return "Non-Block Boot Device" if disk.bare else "Misc Device"


def _path(disk: BootDisk) -> bytes:
    controller = ROOT_BRIDGE + struct.pack("<BBHBB", 0x01, 0x01, 6, disk.function, disk.device)
    if disk.kind is DiskKind.NVME:
        return controller + struct.pack("<BBHI8s", 0x03, 0x17, 16, 1, bytes(8))
    if disk.kind is DiskKind.SCSI:
        return controller + struct.pack("<BBHHH", 0x03, 0x02, 8, disk.target, disk.lun)
    return controller


def _shell_option(boot_options: BootOptions) -> bytes:
    """An application since 202505, as edk2 stopped starting the shell by itself (commit 896907b53b)."""
    application = 0 if boot_options is BootOptions.UI_APP else _APPLICATION
    return firmware_option("EFI Internal Shell", EFI_SHELL, attributes=_ACTIVE | application)


def _place(disk: BootDisk) -> tuple[int, int, int, int]:
    return disk.device, disk.function, disk.target, disk.lun


def _check(disks: Sequence[BootDisk]) -> None:
    if not disks:
        raise DocumentError("boot disks: none, so that nothing would boot")
    places = [_place(disk) for disk in disks]
    indices = [disk.bootindex for disk in disks if disk.bootindex is not None]
    if len(set(places)) != len(places) or len(set(indices)) != len(indices):
        raise DocumentError("boot disks: two have the same place or the same bootindex")
    for disk in disks:
        if not (0 <= disk.device < 32 and 0 <= disk.function < 8 and disk.serial.isascii()):
            raise DocumentError(f"boot disk {disk}: wanted slot 0 to 31, function 0 to 7 and an ASCII serial number")
