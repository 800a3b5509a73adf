"""The machine that a VMM's options make, as its ACPI tables show it, read as QEMU reads them.

`acpi_machine` is for any q35 machine, `dstack_machine` for dstack's (`acpi.md` 7). Whatever is not known for certain is
refused (`acpi.md` 11.1): read such tables over qtest, or take them from a rehearsal.
"""

import re
from collections.abc import Mapping

from builder.errors import DocumentError
from builder.measure.acpi.hardware import (
    DEFAULT_HOLE64,
    GIB,
    MAX_ROOT_DEVICES,
    MIB,
    MMCONFIG,
    MMCONFIG_BEFORE_202305,
    READ_HINT,
    AcpiMachine,
    AcpiProfile,
    Expander,
    PciFunction,
    acpi_profile,
)
from builder.measure.acpi.topology import EXPANDER, PlacedDevice, place_devices
from builder.measure.acpi.windows import check_unknown_bars, pci_windows, rounded
from builder.measure.firmware.edk2 import checked_edk2
from builder.model.recipe import VmmSpec

__all__ = ["AcpiMachine", "AcpiProfile", "Expander", "PciFunction", "acpi_machine", "acpi_profile", "dstack_machine"]

_SERIAL = "serial"
_SWITCHES = ("pic", "smm", "hpet")
_HPET_DEFAULT = "on"
_FIXED = {"acpi": "on", "hmat": "off", "i8042": "on", "nvdimm": "off", "sata": "on", "smbus": "on", "usb": "off"}
# who starts it and where its memory comes from: nothing of that is in the tables
_NOT_SHOWN = (
    *("accel", "confidential-guest-support", "dump-guest-core", "kernel-irqchip", "kernel_irqchip", "mem-merge"),
    *("memory-backend", "memory-encryption", "vmport"),
)
# models of TDX hosts: Intel (QEMU moves the memory of others, `acpi.md` 5.7), with pages of 1 GiB (2.5)
_MODELS = (
    *("host", "Skylake-Server", "Cascadelake-Server", "Cooperlake", "Icelake-Server", "SapphireRapids"),
    *("GraniteRapids", "SierraForest", "ClearwaterForest"),
)
_MODEL_VERSION = re.compile(r"(-v[0-9]{1,2})?", re.ASCII)
_OTHER_MACHINE = ("vendor", "pdpe1gb", "-pdpe1gb", "+pdpe1gb", "host-phys-bits", "phys-bits")  # features that decide
_PHYSICAL_BITS = "phys-bits=46"
_FIRST_WINDOW, _FIRST_MMCONFIG = "202211", "202305"  # edk2 commits ecb778d0ac, 82c1aa87f9
_DSTACK_EXPANDER = Expander(devfn=0x80, bus=5, node=0)


def acpi_machine(vmm: VmmSpec, *, vcpus: int, memory: int, edk2: str) -> AcpiMachine:
    """The machine as a firmware of edk2 release `edk2` (`202502`) leaves it. DocumentError for what is not certain.

    Not checked: whether QEMU accepts the options that do not show in the tables, and whether it is an unmodified QEMU.
    """
    if vmm.name != "qemu":
        raise DocumentError(f"VMM {vmm.name!r}: tables are generated for qemu only", hint=READ_HINT)
    if memory % MIB:
        raise DocumentError(f"memory of {memory} bytes, wanted a whole number of MiB", hint="write for example 2G")
    _check_cpu(vmm.cpu)
    mmconfig = _mmconfig(edk2)
    switches = _switches(vmm.machine, version=vmm.version)
    devices = place_devices([device for device in vmm.devices if device != _SERIAL])
    windows = pci_windows(devices, vcpus=vcpus, memory=memory, hole=_hole(vmm.pci_hole64), edk2=edk2)
    return AcpiMachine(
        profile=acpi_profile(vmm.version),
        vcpus=vcpus,
        memory=memory,
        functions=tuple(_function(device) for device in devices if device.kind != EXPANDER),
        window_base=windows.base,
        window_size=windows.size,
        expanders=windows.expanders,
        numa_nodes=vmm.numa_nodes,
        hotplug=vmm.bridge_hotplug,
        pic=switches["pic"],
        smm=switches["smm"],
        hpet=switches["hpet"],
        serial=_serial(vmm.devices),
        mmconfig=mmconfig,
    )


def dstack_machine(
    version: str,
    *,
    vcpus: int,
    memory: int,
    nics: int = 1,
    verity_volumes: int = 0,
    gpus: int = 0,
    nvswitches: int = 0,
    hugepages: bool = False,
    root_verity: bool = True,
    hotplug_off: bool = False,
    pic: bool = False,
    pci_hole64: int | None = None,
    bridges_programmed: bool = True,
) -> AcpiMachine:
    """dstack's machine from the counts of its VmConfig (`acpi.md` 7, `measurement.md` 9.2); `pci_hole64` in bytes.

    `bridges_programmed=False` gives the values that dstack publishes for machines with GPUs, which are not those of a
    TD with stock firmware unless the hole is large and there is no PCI expander (`acpi.md` 2.6, 11.2).
    """
    behind_expander = hugepages and gpus > 0
    ports = (nvswitches, 0 if behind_expander else gpus)
    size = _hole(pci_hole64)
    if bridges_programmed and gpus + nvswitches:
        check_unknown_bars(size)
    return AcpiMachine(
        profile=acpi_profile(version),
        vcpus=vcpus,
        memory=memory,
        functions=_dstack_functions((3 + root_verity, nics, verity_volumes), ports),
        window_size=size,
        expanders=(_DSTACK_EXPANDER,) if behind_expander else (),
        numa_nodes=int(hugepages),
        hotplug=not hotplug_off,
        pic=pic,
        serial=True,
        bridges_programmed=bridges_programmed,
    )


def _dstack_functions(endpoints: tuple[int, ...], ports: tuple[int, ...]) -> tuple[PciFunction, ...]:
    """Endpoints from slot 1 on, then root ports with a device behind each, by the counts of their kinds."""
    if min(*endpoints, *ports) < 0:
        raise DocumentError("dstack machine: a count of devices is negative", hint="write 0 for none")
    first_port = 1 + sum(endpoints)
    slots = range(1, min(first_port + sum(ports), MAX_ROOT_DEVICES + 2))  # one too many is refused
    return tuple(PciFunction(slot << 3, None if slot < first_port else (0,)) for slot in slots)


def _check_cpu(cpu: str) -> None:
    """The CPU shows by its vendor and by where its address bits let the firmware put the 64-bit window."""
    model, *features = cpu.split(",")
    if not any(model.startswith(known) and _MODEL_VERSION.fullmatch(model[len(known) :]) for known in _MODELS):
        raise DocumentError(
            f"CPU {cpu!r} is not known as a model of TDX hosts: Intel, with pages of 1 GiB",
            hint="write for example `Skylake-Server,phys-bits=46`",
        )
    deciding = [each for each in features if each.partition("=")[0] in _OTHER_MACHINE]
    if deciding != [_PHYSICAL_BITS]:
        raise DocumentError(
            f"CPU {cpu!r} is not said to have 46 physical address bits, as TDX hosts do, and nothing else that decides",
            hint=f"write for example `Skylake-Server,{_PHYSICAL_BITS}`; another PCI window is not predicted",
        )


def _switches(machine: str, *, version: str) -> Mapping[str, bool]:
    """pic, smm and hpet of a -machine value; DocumentError for an option that may show in the tables.

    `q35` is an alias of the release's own `pc-q35-x.y`; older kinds keep older tables.
    """
    kind, *options = machine.split(",")
    if kind not in ("q35", f"pc-q35-{version.rpartition('.')[0]}"):
        raise DocumentError(f"machine {machine!r} is not the q35 of QEMU {version}", hint=READ_HINT)
    values = {"hpet": _HPET_DEFAULT} | dict(option.partition("=")[::2] for option in options)
    for name, value in values.items():
        wanted = ("on", "off") if name in _SWITCHES else (_FIXED.get(name),)
        if name not in _NOT_SHOWN and value not in wanted:
            raise DocumentError(f"machine {machine!r}: no rule here says what `{name}={value}` changes", hint=READ_HINT)
    missing = [name for name in _SWITCHES if name not in values]
    if missing:
        raise DocumentError(
            f"machine {machine!r} leaves {missing[0]} to QEMU, which decides otherwise in a TD than without one",
            hint=f"write `{missing[0]}=off` or `{missing[0]}=on`, as the VMM has it: the ACPI tables show it",
        )
    return {name: values[name] == "on" for name in _SWITCHES}


def _serial(devices: tuple[str, ...]) -> bool:
    count = devices.count(_SERIAL)
    if count > 1:
        raise DocumentError(f"{count} serial ports, wanted one at most", hint=READ_HINT)
    return count == 1


def _mmconfig(edk2: str) -> int:
    if checked_edk2(edk2) < _FIRST_WINDOW:
        raise DocumentError(
            f"edk2 {edk2}: before {_FIRST_WINDOW} its 64-bit PCI window was placed by another rule, which is not here",
            hint=READ_HINT,
        )
    return MMCONFIG if edk2 >= _FIRST_MMCONFIG else MMCONFIG_BEFORE_202305


def _hole(pci_hole64: int | None) -> int:
    """QEMU rounds the window's end up to a GiB."""
    size = DEFAULT_HOLE64 if pci_hole64 is None else pci_hole64
    if size < GIB:
        raise DocumentError(f"64-bit PCI hole of {size} bytes, wanted 1 GiB or more", hint=READ_HINT)
    return rounded(size, GIB)


def _function(device: PlacedDevice) -> PciFunction:
    children = None if device.children is None else tuple(child.devfn for child in device.children)
    return PciFunction(device.devfn, children)
