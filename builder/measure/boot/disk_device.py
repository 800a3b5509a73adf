"""Which device of a machine its boot disk is, and the boot variables that follow (`measurement.md` 5.9).

Only machines are taken whose other devices certainly bring no boot option: a network card or a second disk would.
"""

from collections.abc import Mapping, Sequence

from builder.errors import DocumentError
from builder.measure.acpi.topology import PlacedDevice, place_devices
from builder.measure.boot.ready_to_boot import Events, boot_variable_events
from builder.measure.firmware.boot_options import BootDisk, DiskKind, disk_boot_variables
from builder.model.event import EV_EFI_VARIABLE_BOOT, UnpredictedEvent
from builder.model.launch_profile import FirmwareRules

_SERIAL = "serial"
_CONTROLLERS = {
    **{f"virtio-blk-pci{form}": DiskKind.VIRTIO_BLK for form in ("", "-transitional", "-non-transitional")},
    **{f"virtio-scsi-pci{form}": DiskKind.SCSI for form in ("", "-transitional", "-non-transitional")},
    "nvme": DiskKind.NVME,
}
_SCSI_DISK = "scsi-hd"
_NOT_BOOTED = frozenset(
    (
        *("pcie-root-port", "pxb-pcie", "virtconsole", "virtserialport"),
        *(
            f"{kind}-pci{form}"
            for kind in ("vhost-user-fs", "vhost-vsock", "virtio-9p", "virtio-balloon", "virtio-rng", "virtio-serial")
            for form in ("", "-transitional", "-non-transitional")
        ),
    )
)


def disk_variable_events(rules: FirmwareRules, devices: Sequence[str], *, has_shell: bool | None) -> Events:
    """BootOrder and Boot#### of a machine with these -device values and no kernel, in the register of these rules.

    Unpredicted where the boot disk cannot be told, or whether the firmware has a shell (None).
    """
    try:
        disk = boot_disk(devices)
        if has_shell is None:
            raise DocumentError("it cannot be told from the firmware file whether it has a shell, which is an option")
        return boot_variable_events(rules, disk_boot_variables(rules.boot_options, [disk], has_shell=has_shell))
    except DocumentError as error:
        reason = f"they name the disks of the machine: {error.message}"
        return (
            UnpredictedEvent(
                rules.boot_variables_register, EV_EFI_VARIABLE_BOOT, "BootOrder, Boot####", reason, repeats=True
            ),
        )


def boot_disk(devices: Sequence[str]) -> BootDisk:
    """The only disk of a machine, on pcie.0. DocumentError if there is none, or something else that may be booted."""
    texts = [device for device in devices if device != _SERIAL]
    unknown = [text for text in texts if not _is_known(text.partition(",")[0])]
    if unknown:
        raise DocumentError(f"device {unknown[0]!r} may add boot options of its own, which no rule here covers")
    controllers = [device for device in place_devices(texts) if device.kind in _CONTROLLERS]
    if len(controllers) != 1 or sum(text.partition(",")[0] in _CONTROLLERS for text in texts) != 1:
        raise DocumentError("the machine has no disk on pcie.0 that is its only one")
    return _disk(controllers[0], [text for text in texts if text.partition(",")[0] == _SCSI_DISK])


def _is_known(kind: str) -> bool:
    return kind in _CONTROLLERS or kind in _NOT_BOOTED or kind == _SCSI_DISK


def _disk(controller: PlacedDevice, scsi_disks: Sequence[str]) -> BootDisk:
    kind = _CONTROLLERS[controller.kind]
    properties = controller.properties
    if len(scsi_disks) != (kind is DiskKind.SCSI):
        raise DocumentError(f"{len(scsi_disks)} devices {_SCSI_DISK} with a {controller.kind}")
    if kind is DiskKind.SCSI:
        properties = dict(pair.partition("=")[::2] for pair in scsi_disks[0].split(",")[1:])
        if properties.get("channel", "0") != "0":
            raise DocumentError(f"device {scsi_disks[0]!r}: a channel other than 0, which no rule here covers")
    target, lun, index = (_number(properties, name) for name in ("scsi-id", "lun", "bootindex"))
    return BootDisk(
        kind,
        controller.devfn >> 3,
        controller.devfn & 7,
        serial=properties.get("serial", ""),
        target=target or 0,
        lun=lun or 0,
        bootindex=index,
    )


def _number(properties: Mapping[str, str], name: str) -> int | None:
    """A property that QEMU reads as a decimal number here; None if it is not there."""
    text = properties.get(name)
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 6):
        raise DocumentError(f"property {name}={text}: wanted a decimal number")
    return None if text is None else int(text)
