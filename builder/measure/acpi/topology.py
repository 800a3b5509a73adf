"""Where QEMU puts the devices of a q35 machine, from the values of its -device options in order (`acpi.md` 2.7, 7).

Only kinds are taken that are known to show in the tables by their place alone; of their properties, those that choose a
place are followed and those that would show otherwise are refused.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from builder.errors import DocumentError
from builder.measure.acpi.hardware import READ_HINT

_ROOT_BUS = "pcie.0"
_CHIPSET = {0x00: False, 0xF8: True, 0xFA: True, 0xFB: True}  # place -> multifunction
_SLOTS = 32
ROOT_PORT, EXPANDER = "pcie-root-port", "pxb-pcie"
_ADDRESS = re.compile(r"(?:0x)?([0-9a-fA-F]{1,2})(?:\.(?:0x)?([0-7]))?")  # QEMU reads both numbers as hexadecimal
_SWITCH = {"on": True, "off": False}
_MAX_DEVICES = 512
VIRTIO_BAR = 0x4000


class Bars(Enum):
    """What is known of a device's 64-bit memory BARs, which decide QEMU's 64-bit window (`acpi.md` 2.5).

    VIRTIO: one of VIRTIO_BAR bytes, prefetchable.
    """

    NONE = auto()
    VIRTIO = auto()
    UNKNOWN = auto()


_VIRTIO = (
    *("virtio-9p", "virtio-balloon", "virtio-blk", "virtio-net", "virtio-rng", "virtio-scsi", "virtio-serial"),
    *("vhost-scsi", "vhost-user-blk", "vhost-user-fs", "vhost-vsock"),
)
_PCI_DEVICES = {
    **{f"{kind}-pci{form}": Bars.VIRTIO for kind in _VIRTIO for form in ("", "-transitional", "-non-transitional")},
    "e1000": Bars.NONE,
    "e1000e": Bars.NONE,
    "nvme": Bars.UNKNOWN,
    "vfio-pci": Bars.UNKNOWN,
}
_OTHER_BUSES = frozenset(  # of controllers: neither a slot nor AML
    ("ide-cd", "ide-hd", "scsi-block", "scsi-cd", "scsi-generic", "scsi-hd", "virtconsole", "virtserialport")
)
# properties that show in the tables, hide a device, or change its BARs
_SHOWN = ("acpi-index", "disable-modern", "failover", "failover_pair_id", "hotpluggable", "page-per-vq")
_BRIDGE_PROPERTIES = {
    ROOT_PORT: ("addr", "bus", "chassis", "id", "multifunction", "port", "slot", "x-speed", "x-width"),
    EXPANDER: ("addr", "bus", "bus_nr", "id", "numa_node"),
}


@dataclass(frozen=True)
class PlacedDevice:
    """A function at its place; `children` are those behind a bridge in order of place, None where it is no bridge."""

    devfn: int
    kind: str
    properties: Mapping[str, str]
    bars: Bars
    children: tuple["PlacedDevice", ...] | None = None


@dataclass(frozen=True)
class _Device:
    kind: str
    properties: Mapping[str, str]
    bars: Bars

    @property
    def identity(self) -> str | None:
        return self.properties.get("id")


class _Bus:
    """The places of one PCI bus, taken in the order of plugging."""

    def __init__(self, name: str, occupied: Mapping[int, bool], slots: int, *, for_ports: bool = True) -> None:
        self.name = name
        self.for_ports = for_ports
        self.plugged: dict[int, _Device] = {}
        self._multifunction = dict(occupied)
        self._slots = slots

    def plug(self, device: _Device) -> None:
        address = device.properties.get("addr")
        devfn = self._free_slot(device) if address is None else _devfn(device, address)
        if devfn in self._multifunction or devfn >> 3 >= self._slots:
            raise _refused(device, f"place {devfn >> 3:02x}.{devfn & 7} of bus {self.name} is taken or does not exist")
        self._multifunction[devfn] = _switch(device, "multifunction")
        self.plugged[devfn] = device

    def check(self) -> None:
        """Functions beside function 0 need one that says so; QEMU and the guest do not see them otherwise."""
        for devfn, device in self.plugged.items():
            if devfn & 7 and not self._multifunction.get(devfn & ~7, False):
                raise _refused(device, f"function 0 of its slot on {self.name} is not there with multifunction=on")

    def _free_slot(self, device: _Device) -> int:
        for slot in range(self._slots):
            if slot << 3 not in self._multifunction:
                return slot << 3
        raise _refused(device, f"bus {self.name} has no free slot")


def place_devices(devices: Sequence[str]) -> tuple[PlacedDevice, ...]:
    """What values of -device put on pcie.0 beside the chipset, in order of creation.

    DocumentError for a kind, bus or property that is not certain.
    """
    if len(devices) > _MAX_DEVICES:
        raise DocumentError(f"{len(devices)} devices, wanted {_MAX_DEVICES} at most", hint=READ_HINT)
    buses = {_ROOT_BUS: _Bus(_ROOT_BUS, _CHIPSET, _SLOTS)}
    identities = {"", _ROOT_BUS}
    for device in map(_parse, devices):
        if device.identity in identities:
            raise _refused(device, f"id {device.identity!r} is used twice or is no id")
        identities |= {device.identity} if device.identity else set()
        if device.kind not in _OTHER_BUSES:
            _plug(device, buses)
    for bus in buses.values():
        bus.check()
    return tuple(_placed(devfn, device, buses) for devfn, device in buses[_ROOT_BUS].plugged.items())


def _plug(device: _Device, buses: dict[str, _Bus]) -> None:
    # without `bus`, QEMU takes the first bus it finds, and it looks into the newest root bus first
    bus = device.properties.get("bus") or next(name for name in reversed(buses) if buses[name].for_ports)
    if bus not in buses:
        raise _refused(device, f"bus {bus!r} is neither {_ROOT_BUS} nor of a bridge that is there by then")
    if device.kind in _BRIDGE_PROPERTIES:
        _check_bridge(device, buses[bus])
        if device.identity is not None:
            slots = _SLOTS if device.kind == EXPANDER else 1
            buses[device.identity] = _Bus(device.identity, {}, slots, for_ports=device.kind == EXPANDER)
    elif buses[bus].for_ports and bus != _ROOT_BUS:
        raise _refused(device, "a device beside the root ports of a PCI expander")
    buses[bus].plug(device)


def _check_bridge(device: _Device, bus: _Bus) -> None:
    unknown = sorted(set(device.properties).difference(_BRIDGE_PROPERTIES[device.kind]))
    if unknown:
        raise _refused(device, f"no rule here says what {unknown[0]!r} changes")
    if not bus.for_ports or (device.kind == EXPANDER and bus.name != _ROOT_BUS):
        raise _refused(device, "a bridge behind a bridge")


def _placed(devfn: int, device: _Device, buses: Mapping[str, _Bus]) -> PlacedDevice:
    children = None
    if device.kind in _BRIDGE_PROPERTIES:
        behind = buses[device.identity].plugged if device.identity else {}
        children = tuple(_placed(place, behind[place], buses) for place in sorted(behind))
    return PlacedDevice(devfn, device.kind, device.properties, device.bars, children)


def _parse(text: str) -> _Device:
    kind, *pairs = text.split(",")
    properties = dict(pair.partition("=")[::2] for pair in pairs)
    bars = Bars.NONE if kind in _OTHER_BUSES or kind in _BRIDGE_PROPERTIES else _PCI_DEVICES.get(kind)
    if bars is None:
        raise DocumentError(f"device {text!r}: no rule here says how a {kind!r} shows in the tables", hint=READ_HINT)
    device = _Device(kind, properties, bars)
    if len(properties) != len(pairs) or not all("=" in pair for pair in pairs):
        raise _refused(device, f"{text!r} is not a list of different properties with values")
    shown = [name for name in _SHOWN if name in properties]
    if shown:
        raise _refused(device, f"no rule here says what {shown[0]!r} changes")
    return device


def _devfn(device: _Device, address: str) -> int:
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[1], 16) > 31:
        raise _refused(device, f"addr={address} is no place on a PCI bus")
    return int(match[1], 16) << 3 | int(match[2] or "0")


def _switch(device: _Device, name: str) -> bool:
    value = device.properties.get(name, "off")
    if value not in _SWITCH:
        raise _refused(device, f"{name}={value}, wanted on or off")
    return _SWITCH[value]


def _refused(device: _Device, reason: str) -> DocumentError:
    return DocumentError(f"device {device.kind!r}: {reason}", hint=READ_HINT)
