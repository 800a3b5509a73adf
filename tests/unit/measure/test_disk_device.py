"""The boot disk among the devices of a machine, and the boot variables that follow."""

import pytest

from builder.errors import DocumentError
from builder.measure.boot.disk_device import boot_disk, disk_variable_events
from builder.measure.boot.ready_to_boot import boot_variable_events
from builder.measure.firmware.boot_options import BootDisk, DiskKind, disk_boot_variables
from builder.measure.profile import firmware_rules
from builder.model.event import UnpredictedEvent
from builder.model.launch_profile import CcMeasurement, SecureBootVariable

RULES = firmware_rules("202502", secure_boot_variable=SecureBootVariable.ABSENT, cc_measurement=CcMeasurement.PRESENT)
SCSI = ("virtio-scsi-pci,id=s", "scsi-hd,bus=s.0,drive=d")


@pytest.mark.parametrize(
    ("devices", "disk"),
    [
        (["virtio-blk-pci,drive=d"], BootDisk(DiskKind.VIRTIO_BLK, 1)),
        (["virtio-rng-pci", "virtio-blk-pci", "serial"], BootDisk(DiskKind.VIRTIO_BLK, 2)),
        (["virtio-blk-pci,addr=0x1e.0x0"], BootDisk(DiskKind.VIRTIO_BLK, 30)),
        (
            ["virtio-rng-pci,addr=4,multifunction=on", "virtio-blk-pci-non-transitional,addr=4.3"],
            BootDisk(DiskKind.VIRTIO_BLK, 4, 3),
        ),
        (["nvme,serial=abc,addr=5,bootindex=1"], BootDisk(DiskKind.NVME, 5, serial="abc", bootindex=1)),
        (SCSI, BootDisk(DiskKind.SCSI, 1)),
        ((SCSI[0], SCSI[1] + ",scsi-id=3,lun=2,bootindex=0"), BootDisk(DiskKind.SCSI, 1, target=3, lun=2, bootindex=0)),
        (["pcie-root-port,id=p,chassis=1", "virtio-rng-pci,bus=p", "virtio-blk-pci"], BootDisk(DiskKind.VIRTIO_BLK, 2)),
    ],
)
def test_the_only_disk_is_found_at_its_place(devices: list[str], disk: BootDisk) -> None:
    assert boot_disk(devices) == disk
    expected = disk_boot_variables(RULES.boot_options, [disk], has_shell=True)
    assert disk_variable_events(RULES, devices, has_shell=True) == boot_variable_events(RULES, expected)


@pytest.mark.parametrize(
    ("devices", "reason"),
    [
        ([], "no disk on pcie.0"),
        (["serial", "virtio-rng-pci"], "no disk on pcie.0"),
        (["virtio-blk-pci", "virtio-blk-pci"], "its only one"),
        (["virtio-blk-pci", "nvme,serial=a"], "its only one"),
        (["pcie-root-port,id=p,chassis=1", "virtio-blk-pci,bus=p"], "no disk on pcie.0"),
        (["pcie-root-port,id=p,chassis=1", "virtio-blk-pci,bus=p", "virtio-blk-pci"], "its only one"),
        (["virtio-blk-pci", "virtio-net-pci"], "may add boot options"),
        (["virtio-blk-pci", "vfio-pci"], "may add boot options"),
        (["virtio-blk-pci", "ide-cd"], "may add boot options"),
        (["virtio-blk-pci", "unheard-of"], "may add boot options"),
        (["virtio-blk-pci,addr=40"], "no place on a PCI bus"),
        (["virtio-blk-pci,bootindex=first"], "wanted a decimal number"),
        (SCSI[:1], "0 devices scsi-hd"),
        ((*SCSI, SCSI[1]), "2 devices scsi-hd"),
        (("virtio-blk-pci", SCSI[1]), "1 devices scsi-hd with a virtio-blk-pci"),
        ((SCSI[0], SCSI[1] + ",channel=1"), "a channel other than 0"),
    ],
)
def test_a_disk_that_cannot_be_told_leaves_the_boot_variables_open(devices: list[str], reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        boot_disk(devices)
    (event,) = disk_variable_events(RULES, devices, has_shell=True)
    assert isinstance(event, UnpredictedEvent)
    assert reason in event.reason


def test_without_knowing_of_a_shell_they_are_open() -> None:
    (event,) = disk_variable_events(RULES, ["virtio-blk-pci"], has_shell=None)
    assert isinstance(event, UnpredictedEvent)
