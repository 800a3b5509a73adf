"""What firmware gives to PCI, as far as ACPI tables show it: the 64-bit window, and what expanders get (`acpi.md` 2.6).

Where BARs and bridge windows go is `pci_resources`; what BARs there are is known here of some kinds.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from builder.errors import DocumentError
from builder.measure.acpi.hardware import GIB, READ_HINT, Expander, low_memory
from builder.measure.acpi.pci_resources import (
    PHYSICAL_BITS,
    Bar,
    Kind,
    PciAddress,
    PciDevice,
    Placement,
    apertures_for,
    place_resources,
)
from builder.measure.acpi.topology import EXPANDER, VIRTIO_BAR, Bars, PlacedDevice

# all that OVMF gives out above 4 GiB with 46 physical address bits: no BAR, whatever its size, is beyond it
FIRMWARE_WINDOW = 1 << PHYSICAL_BITS - 3
_FOUR_GIB = 4 * GIB
_LAST_BUS, _BEHIND_PORTS = 255, 256  # the latter for all buses whose numbers do not matter
_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,2}|0|[1-9][0-9]{0,2}", re.ASCII)
_SATA = PciDevice(PciAddress(0x1F, 2), (Bar(0x24, Kind.MEM32, 0x1000),))
_PORT_BARS = (Bar(0x10, Kind.MEM32, 0x1000),)
_VIRTIO_BARS = (Bar(0x14, Kind.MEM32, 0x1000), Bar(0x20, Kind.PMEM64, VIRTIO_BAR))
_OTHER_BARS = {
    "e1000": (Bar(0x10, Kind.MEM32, 0x20000),),
    "e1000e": (Bar(0x10, Kind.MEM32, 0x20000), Bar(0x14, Kind.MEM32, 0x20000), Bar(0x1C, Kind.MEM32, 0x4000)),
}
_NO_IO_WINDOWS_SINCE = "202308"  # edk2 commit 27727338b2: before it, the firmware gave root ports I/O windows
_MANY_VCPUS = 64  # from some number on, virtio devices have more interrupt vectors, and a larger BAR for them


@dataclass(frozen=True)
class PciWindows:
    """QEMU's 64-bit window, and the expanders in order of creation with what the firmware gave them."""

    base: int
    size: int
    expanders: tuple[Expander, ...]


def pci_windows(devices: Sequence[PlacedDevice], *, vcpus: int, memory: int, hole: int, edk2: str) -> PciWindows:
    """For what is on pcie.0, with a 64-bit hole of `hole` bytes. DocumentError where that is not certain."""
    unknown = [each.bars for each in _all(devices)].count(Bars.UNKNOWN)
    if unknown:
        check_unknown_bars(hole)
    expanders = [_expander(devices, place) for place, device in enumerate(devices) if device.kind == EXPANDER]
    if expanders:
        _check_certain(devices, vcpus=vcpus, unknown=unknown, edk2=edk2)
    buses = {0: [device for device in devices if device.kind != EXPANDER]}
    buses |= {expander.bus: list(behind) for expander, behind in expanders}
    if len(buses) <= len(expanders):
        raise DocumentError("two PCI expanders with the same bus number, or one with 0", hint="change its `bus_nr`")
    _check_numbers(buses)
    placements = _placements(buses, memory, edk2)
    base, size = _window(placements, memory, hole=hole, unknown=unknown)
    return PciWindows(base, size, tuple(_programmed(each, behind, placements) for each, behind in expanders))


def check_unknown_bars(hole: int) -> None:
    """DocumentError for a 64-bit hole that devices might not fit in whose BARs only their host knows."""
    if hole < FIRMWARE_WINDOW:
        raise DocumentError(
            f"a 64-bit PCI hole of {hole >> 30} GiB with devices whose BARs are not known: they may not fit, and the"
            " window would show it",
            hint=f"give the machine a pci-hole64-size of {FIRMWARE_WINDOW >> 40} TiB or more, or {READ_HINT}",
        )


def rounded(size: int, unit: int) -> int:
    """The next multiple of `unit`."""
    return -(-size // unit) * unit


def _placements(buses: dict[int, list[PlacedDevice]], memory: int, edk2: str) -> tuple[Placement, ...]:
    requests = [[_request(device, bus) for device in buses[bus]] + [_SATA] * (bus == 0) for bus in sorted(buses)]
    ordered = [sorted(each, key=lambda request: (request.place.device, request.place.function)) for each in requests]
    return place_resources(ordered, apertures_for(edk2, memory), edk2)


def _request(device: PlacedDevice, bus: int) -> PciDevice:
    """What a function asks for, I/O ports aside."""
    place = PciAddress(device.devfn >> 3, device.devfn & 7, bus)
    if device.children is None:
        return PciDevice(place, _VIRTIO_BARS if device.bars is Bars.VIRTIO else _OTHER_BARS.get(device.kind, ()))
    behind = tuple(_request(child, _BEHIND_PORTS) for child in device.children)
    return PciDevice(place, _PORT_BARS, children=behind, wide=True, hotplug=True)


def _window(placements: Iterable[Placement], memory: int, *, hole: int, unknown: int) -> tuple[int, int]:
    """Base and size: QEMU includes all that is above 4 GiB on bus 0, and begins after the memory if that is nothing."""
    found = [(each.base, each.base + each.size) for each in placements if not each.place.bus and _is_wide(each)]
    if found:
        base = min(first for first, _ in found)
        return base, max(hole, max(end for _, end in found) - base)
    if unknown:
        raise DocumentError(
            "no device here is known to have a 64-bit BAR, and there are others that may: where the window begins is"
            " not certain",
            hint=f"put one virtio device on pcie.0, or {READ_HINT}",
        )
    return rounded(_FOUR_GIB + memory - low_memory(memory), GIB), hole


def _is_wide(placement: Placement) -> bool:
    return placement.kind in (Kind.MEM64, Kind.PMEM64)


def _all(devices: Iterable[PlacedDevice]) -> Iterator[PlacedDevice]:
    for device in devices:
        yield device
        yield from _all(device.children or ())


def _expander(devices: Sequence[PlacedDevice], place: int) -> tuple[Expander, tuple[PlacedDevice, ...]]:
    """The expander at a place in the order of creation, without what the firmware gives it, and the ports behind it."""
    device, behind = devices[place], devices[place].children or ()
    node = _number(device, "numa_node") if "numa_node" in device.properties else None
    older = sum(each.kind != EXPANDER and each.children is not None for each in devices[:place])
    number = _number(device, "bus_nr")
    return Expander(device.devfn, number, node, ports=len(behind), older_ports=older), behind


def _number(device: PlacedDevice, name: str) -> int:
    text = device.properties.get(name, "")
    if not _NUMBER.fullmatch(text) or int(text, 0) > _LAST_BUS:
        raise DocumentError(f"device {device.kind!r}: {name}={text!r}, wanted 0 to {_LAST_BUS}", hint=READ_HINT)
    return int(text, 0)


def _check_certain(devices: Iterable[PlacedDevice], *, vcpus: int, unknown: int, edk2: str) -> None:
    """What an expander gets depends on every BAR of every device."""
    behind = [device for root in devices if root.kind == EXPANDER for device in _all(root.children or ())]
    reasons = {
        f"firmware of edk2 {edk2}, which gives root ports I/O windows": edk2 < _NO_IO_WINDOWS_SINCE,
        f"{vcpus} vCPUs: virtio devices may have larger BARs": vcpus > _MANY_VCPUS,
        "a device whose BARs are not known": unknown > 0,
        "a device with another number of queues or interrupt vectors": any(map(_has_queues, _all(devices))),
        "a device with I/O ports behind it": any(map(_has_ports, behind)),
        "no root port behind it": any(root.kind == EXPANDER and not root.children for root in devices),
    }
    for reason, found in reasons.items():
        if found:
            raise DocumentError(f"a PCI expander, and {reason}: its windows are not certain", hint=READ_HINT)


def _has_queues(device: PlacedDevice) -> bool:
    return any("queues" in name or "vectors" in name for name in device.properties)


def _has_ports(device: PlacedDevice) -> bool:
    return device.children is None and (device.bars is not Bars.VIRTIO or device.kind.endswith("-transitional"))


def _check_numbers(buses: dict[int, list[PlacedDevice]]) -> None:
    """The firmware numbers the buses behind root ports from their root bus on."""
    limits = [*sorted(buses)[1:], _LAST_BUS + 1]
    for bus, limit in zip(sorted(buses), limits, strict=True):
        last = _last_bus(bus, buses[bus])
        if last >= limit:
            raise DocumentError(
                f"root bus {bus}: the buses behind its root ports would reach {last}, wanted below {limit}",
                hint="leave more room between the `bus_nr` of PCI expanders",
            )


def _last_bus(bus: int, devices: Iterable[PlacedDevice]) -> int:
    return bus + sum(device.children is not None for device in devices)


def _programmed(expander: Expander, behind: Sequence[PlacedDevice], placements: Iterable[Placement]) -> Expander:
    found = sorted((each.base, each.base + each.size - 1) for each in placements if each.place.bus == expander.bus)
    windows: list[tuple[int, int]] = []
    for first, last in found:
        if windows and windows[-1][1] + 1 == first:
            windows[-1] = (windows[-1][0], last)
        else:
            windows.append((first, last))
    last_bus = _last_bus(expander.bus, behind)
    return replace(expander, last_bus=last_bus, windows=tuple(windows))
