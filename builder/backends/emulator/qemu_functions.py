"""PCI functions of a stopped QEMU, as software finds them: configuration space, BARs and capabilities.

What is read here, the PCI bus driver of edk2 reads too, and by the same rules (MdeModulePkg/Bus/Pci/PciBusDxe).
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from builder.backends.emulator.qtest import Qtest
from builder.errors import DocumentError
from builder.measure.acpi.pci_resources import Bar, Kind, PciAddress

ENDPOINT, BRIDGE = 0, 1
FROM_A_REHEARSAL = "take the tables from a rehearsal of this machine"
_DEVICES, _FUNCTIONS = 32, 8
_HEADER, _ALL = 16, 256  # up to the type of the header; all of a conventional device
_ABSENT = 0xFFFF
_BARS, _CAPABILITIES = 0x10, 0x34
_BAR_COUNT = {ENDPOINT: 6, BRIDGE: 2}
_ROM = {ENDPOINT: 0x30, BRIDGE: 0x38}
_ONES = 0xFFFFFFFF
_ROM_MASK = 0xFFFFF800
_VENDOR_SPECIFIC, _SHPC, _PCI_EXPRESS, _SR_IOV = 0x09, 0x0C, 0x10, 0x10
_RED_HAT, _RESERVATION_LENGTH = 0x1B36, 32
_PORTS_WITH_SLOT = (4, 6)  # root port, downstream port
_MEMORY_TYPE, _MEMORY_32, _MEMORY_64, _PREFETCHABLE = 0b110, 0b000, 0b100, 0b1000


@dataclass(frozen=True)
class PciFunction:
    """What is at `place`: its configuration space (256 bytes) while there were ones in its BARs."""

    place: PciAddress
    probed: bytes

    @property
    def kind(self) -> int:
        """The type of its header: ENDPOINT, BRIDGE or something else."""
        return _kind(self.probed)

    @property
    def wide_window(self) -> bool:
        """Of a bridge: whether its prefetchable window can have 64-bit addresses."""
        return self.probed[0x24] & 0xF == self.probed[0x26] & 0xF == 1


class ConfigSpace:
    """Configuration space through MMCONFIG at `base`, which has to be switched on.

    Writes wait for the next `read`, or for `finish`: every answer that is waited for costs time.
    """

    def __init__(self, qtest: Qtest, base: int) -> None:
        self._qtest = qtest
        self._base = base
        self._writes: list[tuple[int, bytes]] = []

    def write(self, place: PciAddress, register: int, data: bytes) -> None:
        """Bytes to a register."""
        self._writes.append((self._address(place) + register, data))

    def read(self, reads: Iterable[tuple[PciAddress, int, int]]) -> list[bytes]:
        """What is at each place and register, of this size, after all that was written."""
        places = [(self._address(place) + register, size) for place, register, size in reads]
        found = self._qtest.transfer(self._writes, places)
        self._writes.clear()
        return found

    def finish(self) -> None:
        """Nothing waits any more."""
        self.read(())

    def _address(self, place: PciAddress) -> int:
        return self._base | place.bus << 20 | place.device << 15 | place.function << 12


def functions_on(config: ConfigSpace, bus: int) -> list[PciFunction]:
    """All functions on a bus, in the order of their numbers."""
    headers = _headers(config, first_functions(bus))
    several = [place.device for place, header in headers.items() if header[0x0E] & 0x80]
    if several:
        others = [PciAddress(device, function, bus) for device in several for function in range(1, _FUNCTIONS)]
        headers |= _headers(config, others)
    return _probed(config, sorted(headers.items(), key=lambda item: (item[0].device, item[0].function)))


def first_functions(bus: int) -> list[PciAddress]:
    """Function 0 of every place on a bus."""
    return [PciAddress(device, 0, bus) for device in range(_DEVICES)]


def _headers(config: ConfigSpace, places: Sequence[PciAddress]) -> dict[PciAddress, bytes]:
    """Those of the functions that are there."""
    headers = config.read((place, 0, _HEADER) for place in places)
    return {place: header for place, header in zip(places, headers, strict=True) if is_there(header)}


def is_there(header: bytes) -> bool:
    """Whether something answered: its first two bytes are a vendor."""
    return int.from_bytes(header[:2], "little") != _ABSENT


def _probed(config: ConfigSpace, headers: Sequence[tuple[PciAddress, bytes]]) -> list[PciFunction]:
    """What stays of ones in a BAR is its type and size. All is put back."""
    for place, header in headers:
        for register, size in _probes(header):
            ones = _ONES - 1 if register in _ROM.values() else _ONES  # its lowest bit would switch the ROM on
            config.write(place, register, struct.pack("<I", ones) * (size // 4))
    spaces = config.read((place, 0, _ALL) for place, _ in headers)
    for place, header in headers:
        for register, size in _probes(header):
            config.write(place, register, bytes(size))
    return [PciFunction(place, space) for (place, _), space in zip(headers, spaces, strict=True)]


def _probes(header: bytes) -> tuple[tuple[int, int], ...]:
    """Registers and sizes of the BARs, which follow each other, and of the option ROM."""
    kind = _kind(header)
    return ((_BARS, 4 * _BAR_COUNT[kind]), (_ROM[kind], 4)) if kind in _BAR_COUNT else ()


def _kind(header: bytes) -> int:
    return header[0x0E] & 0x7F


def bars_of(function: PciFunction) -> tuple[Bar, ...]:
    """PciParseBar. The function must be an ENDPOINT or a BRIDGE."""
    count = _BAR_COUNT[function.kind]
    registers = range(_BARS, _BARS + 4 * count, 4)
    values = iter(zip(registers, struct.unpack_from(f"<{count}I", function.probed, _BARS), strict=True))
    bars = (_bar(register, value, values) for register, value in values)
    return tuple(bar for bar in bars if bar is not None and bar.size)


def _bar(register: int, value: int, following: Iterator[tuple[int, int]]) -> Bar | None:
    """From what stayed of the ones; a 64-bit BAR takes the following register too."""
    if value & 1:
        return Bar(register, Kind.IO, -(value & ~0b11) & (_ONES if value >> 16 else 0xFFFF))
    prefetchable = bool(value & _PREFETCHABLE)
    if value & _MEMORY_TYPE == _MEMORY_64:
        _, upper = next(following, (0, 0))
        upper |= -1 << upper.bit_length() if upper else _ONES
        size = -(upper << 32 | value & ~0xF) & (1 << 64) - 1
        return Bar(register, Kind.PMEM64 if prefetchable else Kind.MEM64, size)
    if value & _MEMORY_TYPE == _MEMORY_32:
        return Bar(register, Kind.PMEM32 if prefetchable else Kind.MEM32, -(value & ~0xF) & _ONES)
    return None


def rom_size_of(function: PciFunction) -> int:
    """GetOpRomInfo: bytes, 0 without an option ROM."""
    value = int.from_bytes(function.probed[_ROM[function.kind] :][:4], "little") & _ROM_MASK
    return 0 if value == _ROM_MASK else -value & _ONES


def check_function(config: ConfigSpace, function: PciFunction) -> None:
    """DocumentError for what `builder.measure.acpi.pci_resources` has no rule for."""
    if function.kind not in _BAR_COUNT:
        raise DocumentError(
            f"PCI function {function.place} has a header of type {function.kind}, wanted a device or a PCI bridge",
            hint=FROM_A_REHEARSAL,
        )
    if function.kind == ENDPOINT and _SR_IOV in _extended_capabilities(config, function):
        raise DocumentError(
            f"PCI function {function.place} has virtual functions (SR-IOV): their resources are not predicted",
            hint=FROM_A_REHEARSAL,
        )


def takes_hotplug(bridge: PciFunction) -> bool:
    """IsPciHotPlugBus: a hotplug controller of its own, or a PCI Express port whose slot says so.

    DocumentError if the bridge asks for reserved resources, which would then be the padding.
    """
    space = bridge.probed
    vendor = int.from_bytes(space[:2], "little")
    answer = False
    for kind, offset in _capabilities(space):
        if kind == _VENDOR_SPECIFIC and vendor == _RED_HAT and space[offset + 2] == _RESERVATION_LENGTH:
            raise DocumentError(
                f"PCI bridge {bridge.place} asks for reserved resources (`mem-reserve` and the like): no rule here"
                " predicts them",
                hint=FROM_A_REHEARSAL,
            )
        answer |= kind == _SHPC or (kind == _PCI_EXPRESS and _has_hotplug_slot(space, offset))
    return answer


def _has_hotplug_slot(space: bytes, offset: int) -> bool:
    flags, slot = struct.unpack_from("<H16xI", space, offset + 2)
    return (flags >> 4 & 0xF) in _PORTS_WITH_SLOT and bool(flags >> 8 & 1) and bool(slot >> 6 & 1)


def _capabilities(space: bytes) -> Iterator[tuple[int, int]]:
    """Kind and offset of each capability; a chain that turns back ends where it does."""
    seen: set[int] = set()
    offset = space[_CAPABILITIES] & 0xFC
    while 0x40 <= offset <= _ALL - 0x18 and offset not in seen:
        seen.add(offset)
        yield space[offset], offset
        offset = space[offset + 1] & 0xFC


def _extended_capabilities(config: ConfigSpace, function: PciFunction) -> Iterator[int]:
    """Kinds of the capabilities above 256 bytes, which only PCI Express has; zero or ones where there are none."""
    seen: set[int] = set()
    express = any(kind == _PCI_EXPRESS for kind, _ in _capabilities(function.probed))
    offset = _ALL if express else 0
    while offset >= _ALL and offset not in seen:
        seen.add(offset)
        (data,) = config.read([(function.place, offset, 4)])
        entry = int.from_bytes(data, "little")
        if entry in (0, _ONES):
            return
        yield entry & 0xFFFF
        offset = entry >> 20 & 0xFFC
