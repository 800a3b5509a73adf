"""The fw_cfg items that a TD's firmware measures, as QEMU has them (`measurement.md` 5.6).

From edk2 202505 on (`QemuFwCfgCacheInit.c`): each item if it is there, in a fixed order, before anything reads it.
"""

from collections.abc import Iterator

from builder.model.digest import sha384_hex
from builder.model.event import EV_PLATFORM_CONFIG_FLAGS, ExpectedEvent, PredictedEvent, UnpredictedEvent
from builder.model.recipe import VmmSpec

EXTRA_PCI_ROOTS, BOOT_MENU, RESERVED_MEMORY_END, BOOT_ORDER = (
    "etc/extra-pci-roots",
    "BootMenu",
    "etc/reserved-memory-end",
    "bootorder",
)
_NO_BOOT_MENU = bytes(2)
_KERNEL_FIRST = b"/rom@genroms/linuxboot_dma.bin\0"
_EXPANDERS = {"pxb", "pxb-pcie", "pxb-cxl"}
_RESERVES_MEMORY = ("sgx-epc", "cxl", "cxl-fmw")


def fw_cfg_events(vmm: VmmSpec | None, *, kernel_given: bool = True) -> tuple[ExpectedEvent, ...]:
    """The events of RTMR[0] for a VMM started with a kernel or without; None is one of which nothing is known.

    Without one, and without boot indices, QEMU's `bootorder` is empty, and the firmware measures no empty item: read in
    both sources.

    `etc/boot-menu-wait` and `opt/ovmf/X-PciMmio64Mb` are there only with `-boot menu=on` and `-fw_cfg`, which a VmmSpec
    cannot say; memory for hotplug (`-m maxmem=`) neither.
    """
    devices = () if vmm is None else vmm.devices
    machine = "" if vmm is None else vmm.machine
    return tuple(_events(devices, machine, kernel_given=kernel_given))


def _events(devices: tuple[str, ...], machine: str, *, kernel_given: bool) -> Iterator[ExpectedEvent]:
    roots = sum(device.partition(",")[0] in _EXPANDERS for device in devices)
    if roots:
        yield _predicted(EXTRA_PCI_ROOTS, roots.to_bytes(8, "little"), "profile.vmm")
    yield _predicted(BOOT_MENU, _NO_BOOT_MENU, "profile.vmm")
    if any(option.partition("=")[0].partition(".")[0] in _RESERVES_MEMORY for option in machine.split(",")):
        reason = "the machine has memory besides its RAM, and no rule here says where that ends"
        yield UnpredictedEvent("rtmr0", EV_PLATFORM_CONFIG_FLAGS, RESERVED_MEMORY_END, reason, repeats=True)
    if any(word.startswith("bootindex=") for device in devices for word in device.split(",")):
        reason = "a device has a bootindex, and no rule here says how QEMU spells its path in the list"
        yield UnpredictedEvent("rtmr0", EV_PLATFORM_CONFIG_FLAGS, BOOT_ORDER, reason)
    elif kernel_given:
        yield _predicted(BOOT_ORDER, _KERNEL_FIRST, "profile.vmm")


def _predicted(name: str, data: bytes, source: str) -> PredictedEvent:
    return PredictedEvent("rtmr0", EV_PLATFORM_CONFIG_FLAGS, name, sha384_hex(data), source)
