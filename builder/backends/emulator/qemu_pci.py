"""PCI buses of a stopped QEMU, numbered and programmed as OVMF does it before it reads the ACPI tables (`acpi.md` 2.6).

QEMU's tables show what is in the registers: bus numbers, bridge windows, the lowest and highest 64-bit address. Which
bridges and BARs there are is read from the machine itself; where they go is `builder.measure.acpi.pci_resources`.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from builder.backends.emulator.qemu_functions import (
    ENDPOINT,
    FROM_A_REHEARSAL,
    ConfigSpace,
    PciFunction,
    bars_of,
    check_function,
    first_functions,
    functions_on,
    is_there,
    rom_size_of,
    takes_hotplug,
)
from builder.errors import DocumentError
from builder.measure.acpi.pci_resources import Apertures, Kind, PciAddress, PciDevice, Placement, place_resources

_BUSES = 256
_MAX_DEPTH = 32
_COMMAND, _BUS_NUMBERS = 0x04, 0x18
_OWNED, _DECODING, _MEMORY = 0b111, 0b11, 0b10  # of the command register: I/O, memory and bus master; two; one
_CLOSED_WINDOWS = ((0x1C, b"\xff\0"), (0x20, b"\xff\xff\0\0\xff\xff\0\0\xff\xff\xff\xff\0\0\0\0\xff\xff\0\0"))


def program_pci(
    config: ConfigSpace, apertures: Apertures, edk2: str, *, extra_roots: int, option_roms: bool
) -> tuple[Placement, ...]:
    """Number all buses, place all resources, switch on decoding; gives where everything went.

    `extra_roots` is QEMU's number of root buses besides 0; `option_roms` whether the firmware looks at them (not in a
    TD). DocumentError for devices whose resources no rule here covers, and for a machine that OVMF could not set up.
    """
    roots = _root_buses(config, extra_roots)
    limits = [*(root - 1 for root in roots[1:]), _BUSES - 1]
    buses = [
        _Enumeration(config, root, limit, option_roms).bus(root) for root, limit in zip(roots, limits, strict=True)
    ]
    placements = place_resources(buses, apertures, edk2)
    for write in _register_writes(placements):
        config.write(*write)
    _switch_on(config, buses)
    config.finish()
    return placements


def place_one_bar(config: ConfigSpace, address: int) -> None:
    """Put the first 64-bit BAR on bus 0 at `address`; all bridges stay as they are after reset, which no firmware does.

    Enough where the tables show no bridge (`acpi.md` 2.5). Nothing is written if there is no such BAR.
    """
    devices = [function for function in functions_on(config, 0) if function.kind == ENDPOINT]
    wide = ((each.place, bar) for each in devices for bar in bars_of(each) if bar.kind in (Kind.MEM64, Kind.PMEM64))
    for place, bar in islice(wide, 1):
        config.write(place, bar.register, struct.pack("<Q", address))
        config.write(place, _COMMAND, struct.pack("<H", _MEMORY))
    config.finish()


class _Enumeration:
    """PciScanBus: depth first, each bridge gets the next number of its root bus's range."""

    def __init__(self, config: ConfigSpace, root: int, limit: int, option_roms: bool) -> None:
        self._config = config
        self._last = root
        self._limit = limit
        self._option_roms = option_roms

    def bus(self, number: int, depth: int = 0) -> tuple[PciDevice, ...]:
        return tuple(self._device(function, depth) for function in functions_on(self._config, number))

    def _device(self, function: PciFunction, depth: int) -> PciDevice:
        check_function(self._config, function)
        rom = rom_size_of(function) if self._option_roms else 0
        if function.kind == ENDPOINT:
            return PciDevice(function.place, bars_of(function), rom)
        hotplug = takes_hotplug(function)
        children = self._behind(function.place, depth + 1)
        return PciDevice(function.place, bars_of(function), rom, children, function.wide_window, hotplug)

    def _behind(self, bridge: PciAddress, depth: int) -> tuple[PciDevice, ...]:
        if depth > _MAX_DEPTH:
            raise DocumentError(f"PCI bridge {bridge}: lies behind {_MAX_DEPTH} others", hint=FROM_A_REHEARSAL)
        if self._last == self._limit:
            raise DocumentError(
                f"PCI bridge {bridge}: no bus number up to {self._limit} is left for it: the firmware would stop here",
                hint="give the next root bus (`bus_nr`) a higher number",
            )
        self._last += 1
        number = self._last
        for register, data in _CLOSED_WINDOWS:
            self._config.write(bridge, register, data)
        self._config.write(bridge, _BUS_NUMBERS, bytes((bridge.bus, number, self._limit)))
        children = self.bus(number, depth)
        self._config.write(bridge, _BUS_NUMBERS + 2, bytes((self._last,)))
        return children


def _root_buses(config: ConfigSpace, extra: int) -> list[int]:
    """Bus 0 and the buses on which something is there before any bridge has a number (PciHostBridgeUtilityLib)."""
    found = [0]
    for bus in range(1, _BUSES):
        if len(found) > extra:
            break
        if any(is_there(header) for header in config.read((place, 0, 2) for place in first_functions(bus))):
            found.append(bus)
    return found


def _register_writes(placements: Iterable[Placement]) -> Iterator[tuple[PciAddress, int, bytes]]:
    """ProgramBar and ProgramPpbApperture."""
    for each in placements:
        end = each.base + each.size - 1
        if each.register is not None:
            wide = each.kind in (Kind.MEM64, Kind.PMEM64)
            yield each.place, each.register, struct.pack("<Q" if wide else "<I", each.base)
        elif each.kind is Kind.IO:
            yield each.place, 0x1C, bytes((each.base >> 8 & 0xFF, end >> 8 & 0xFF))
            yield each.place, 0x30, struct.pack("<HH", each.base >> 16, end >> 16)
        elif each.kind is Kind.MEM32:
            yield each.place, 0x20, struct.pack("<HH", each.base >> 16, end >> 16)
        else:
            low = struct.pack("<HH", each.base >> 16 & 0xFFFF, end >> 16 & 0xFFFF)
            yield each.place, 0x24, low + struct.pack("<II", each.base >> 32, end >> 32)


def _switch_on(config: ConfigSpace, buses: Sequence[Sequence[PciDevice]]) -> None:
    """EnablePciDecoding of OVMF's AcpiPlatformDxe: while it reads the tables, every function decodes."""
    places = [device.place for devices in buses for device in _with_children(devices)]
    commands = config.read((place, _COMMAND, 2) for place in places)
    for place, command in zip(places, commands, strict=True):
        value = int.from_bytes(command, "little") & ~_OWNED | _DECODING
        config.write(place, _COMMAND, struct.pack("<H", value))


def _with_children(devices: Iterable[PciDevice]) -> Iterator[PciDevice]:
    for device in devices:
        yield device
        yield from _with_children(device.children or ())
