"""Boot variables of boots from disk. Every digest was logged by an emulated boot of Debian's OVMF."""

from dataclasses import replace

import pytest

from builder.errors import DocumentError
from builder.measure.firmware.boot_options import BootDisk, DiskKind, disk_boot_variables
from builder.measure.firmware.efi_variables import boot_variable_digest, boot_variables
from builder.model.launch_profile import BootOptions

OLD, NEW = BootOptions.UI_APP, BootOptions.BOOT_MANAGER_MENU_APP  # 2025.02, 2026.08
BLOCK = BootDisk(DiskKind.VIRTIO_BLK, 5)
NVME = BootDisk(DiskKind.NVME, 7, serial="abc")
SCSI = BootDisk(DiskKind.SCSI, 6)


def digests(options: BootOptions, *disks: BootDisk, shell: bool = True) -> dict[str, str]:
    variables = disk_boot_variables(options, disks, has_shell=shell)
    return {variable.name: boot_variable_digest(variable).hex()[:16] for variable in variables}


UI_APP, OLD_SHELL, NEW_SHELL = "23ada07f5261f12f", "f0fb2cdcc47bf204", "af47986215d18083"
MENU_APP, SETUP = "5068e6a9ded2a1c3", "dd424f2eeb35f3e8"
ONE_DISK = "a86aca8abe40b92c"


@pytest.mark.parametrize(
    ("disk", "digest"),
    [
        (BLOCK, "3766a9ceccade3f5"),
        (replace(BLOCK, bare=True), "116ef4c6293a23bd"),
        (NVME, "39c98bf2848526f8"),
        (SCSI, "64de7e97305f4cd9"),
    ],
    ids=["virtio-blk", "virtio-blk without partitions", "nvme", "scsi"],
)
def test_one_disk(disk: BootDisk, digest: str) -> None:
    assert digests(OLD, disk) == {"BootOrder": ONE_DISK, "Boot0000": UI_APP, "Boot0001": digest, "Boot0002": OLD_SHELL}


def test_firmware_of_2026_with_two_disks() -> None:
    assert digests(NEW, replace(BLOCK, device=1), replace(NVME, device=2)) == {
        "BootOrder": "ede24e3f9f14bc8c",
        "Boot0000": MENU_APP,
        "Boot0001": SETUP,
        "Boot0002": "1f880024a6be9e72",
        "Boot0003": "8d1b6f523e5b304f",
        "Boot0004": NEW_SHELL,
    }


def test_boot_indices_put_their_disks_first_and_leave_out_the_others() -> None:
    assert digests(NEW, replace(BLOCK, bare=True, bootindex=1), NVME) == {
        "BootOrder": "f24e6d838fb41bbe",
        "Boot0002": "116ef4c6293a23bd",
        "Boot0000": MENU_APP,
        "Boot0001": SETUP,
        "Boot0004": NEW_SHELL,
    }


def test_disks_are_numbered_by_slot_whatever_their_kind_and_order() -> None:
    disks = [replace(NVME, device=3), replace(SCSI, device=4), BLOCK]
    found = digests(OLD, *disks)
    assert found == digests(OLD, *reversed(disks))
    assert found["BootOrder"] == "ede24e3f9f14bc8c"
    assert found["Boot0003"] == "3766a9ceccade3f5"  # the virtio-blk disk, at the highest slot


def test_the_second_disk_of_a_description_gets_a_number() -> None:
    first, second = BLOCK, replace(BLOCK, device=6)
    text = disk_boot_variables(OLD, [first, second], has_shell=False)[3].data
    assert "UEFI Misc Device 2\0".encode("utf-16-le") in text
    assert digests(OLD, replace(BLOCK, device=4), BLOCK)["Boot0002"] == "0c442681d96ec02d"


def test_without_disks_the_options_are_those_of_direct_boot() -> None:
    """A disk adds one option and moves none of the firmware's own."""
    for options in BootOptions:
        with_disk = disk_boot_variables(options, [BLOCK], has_shell=False)
        own = boot_variables(options)
        assert with_disk[1 : len(own)] == own[1:]
        assert len(with_disk) == len(own) + 1


@pytest.mark.parametrize(
    "disks",
    [
        [],
        [BLOCK, BLOCK],
        [replace(BLOCK, bootindex=1), replace(NVME, bootindex=1)],
        [replace(BLOCK, device=32)],
        [replace(BLOCK, function=8)],
        [replace(BLOCK, device=-1)],
        [replace(NVME, serial="ä")],
    ],
    ids=["none", "one place twice", "one index twice", "slot", "function", "negative", "serial"],
)
def test_impossible_disks_are_refused(disks: list[BootDisk]) -> None:
    with pytest.raises(DocumentError, match="boot disk"):
        disk_boot_variables(OLD, disks, has_shell=True)


@pytest.mark.parametrize(
    "change", [{"device": 6}, {"function": 1}, {"serial": "other"}, {"kind": DiskKind.SCSI}, {"bootindex": 3}]
)
def test_everything_about_a_disk_shows(change: dict[str, object]) -> None:
    assert digests(OLD, replace(NVME, **change)) != digests(OLD, NVME)  # type: ignore[arg-type]


def test_target_and_unit_of_a_scsi_disk_show() -> None:
    assert len({digests(OLD, disk)["Boot0001"] for disk in (SCSI, replace(SCSI, target=1), replace(SCSI, lun=1))}) == 3
