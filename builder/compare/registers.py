"""Which register a difference changes, with direct kernel boot or with a UKI from a disk (`determinism.md` 1.3)."""

from builder.compare.formats.firmware import BOOT_VOLUME, VARIABLE_STORE
from builder.compare.formats.squashfs import VERITY_SUPERBLOCK
from builder.model.comparison import Measured, Register

_COMMAND_LINE = Measured(Register.RTMR2, "the kernel command line")
_UNKNOWN = Measured(Register.UNKNOWN, "not known which component this is")
_ROOT_FILE_SYSTEM = Measured(Register.RTMR2, "the dm-verity root hash on the command line")
_BY_COMPONENT = {
    "kernel": Measured(Register.RTMR1, "the Authenticode digest of the kernel"),
    "initrd": Measured(Register.RTMR2, "the initrd"),
    "guest_os": _ROOT_FILE_SYSTEM,
    "app_image": Measured(Register.RTMR2, "the root file system it is part of, by its dm-verity root hash"),
}
_BY_DISK_FILE = {
    "uki.efi": Measured(Register.RTMR1, "the Authenticode digest of the UKI; its sections are in RTMR2 as well"),
    "disk.img": Measured(Register.UNKNOWN, "rtmr1 or none: of a disk, partition table and UKI are measured"),
}
_BY_VOLUME = {
    BOOT_VOLUME.decode(): Measured(Register.MRTD, "the boot volume (BFV)"),
    VARIABLE_STORE.decode(): Measured(Register.RTMR0, "the variable store (CFV)"),
}
_FIRMWARE = Measured(Register.UNKNOWN, "mrtd or rtmr0: it cannot be told in which firmware volume this lies")


def measured(component: str, path: tuple[str, ...], field: str = "") -> Measured:
    """The register for a difference at `path` (artefact name first) of an artefact of `component`.

    Whether a kernel's bytes are inside its Authenticode digest is not checked: checksum and signature are not.
    """
    if component == "firmware":
        return _BY_VOLUME.get(path[1], _FIRMWARE) if len(path) > 1 else _FIRMWARE
    if component == "guest_os" and "cmdline" in path[0]:
        return _COMMAND_LINE
    if component == "guest_os" and path[1:] == (VERITY_SUPERBLOCK.decode(),) and field == "uuid":
        return Measured(Register.UNMEASURED, "the root hash does not depend on the UUID of dm-verity's superblock")
    if component == "disk_image":
        return _BY_DISK_FILE.get(path[0], _UNKNOWN)
    return _BY_COMPONENT.get(component, _UNKNOWN)
