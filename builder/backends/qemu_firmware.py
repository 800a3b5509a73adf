"""What the firmware does before it measures the ACPI tables, done from outside to a stopped QEMU (`acpi.md` 2.4, 2.5).

QEMU builds the tables anew when the firmware selects them, from what the firmware has programmed by then: so program
the same, then read the files. Bridges are not programmed; the places where that would show are refused (`acpi.md` 2.6).
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from builder.backends.qtest import PciFunction, Qtest
from builder.errors import DocumentError, NotProvenError
from builder.measure.acpi import LOADER_FILE, RSDP_FILE, TABLES_FILE, AcpiBlobs

# the 64-bit window that OVMF chooses with 46 physical address bits, the only number seen on TDX hosts (`acpi.md` 2.5)
PHYSICAL_BITS = 46
MMIO64_BASE = 0x380000000000
DEFAULT_PCI_HOLE64 = 32 << 30
BRIDGE_WINDOW = 32 << 30

_HOST_BRIDGE = PciFunction(0, 0)
_LPC = PciFunction(31, 0)
_MMCONFIG_SINCE_202305, _MMCONFIG_BEFORE = 0xE0000000, 0xB0000000  # edk2 commit 82c1aa87f9
_MMCONFIG_ENABLE = 1  # 256 MiB
_PMBASE = 0x600
_ACPI_ENABLE = 0x80
_COMMAND, _MEMORY_SPACE = 0x04, 2
_BAR0, _BAR_COUNT = 0x10, 6
_BAR_TYPE, _BAR_64_BIT_MEMORY = 0b111, 0b100
_ABSENT = 0xFFFF
# device id, vendor id
_ROOT_PORT = 0x000C1B36
_EXPANDERS = (0x00091B36, 0x000B1B36)  # pxb and pxb-pcie

_DIRECTORY = 0x19
_MAX_FILES = 4096
_MAX_FILE_SIZE = 16 << 20
_READ, _SELECT = 2, 8
_DMA_HIGH, _DMA_LOW = 0x514, 0x518
_DMA_BLOCK = struct.Struct(">IIQ")  # control, length, address
_ENTRY = struct.Struct(">IHH56s")  # size, selector, reserved, name
# places in guest memory, which nobody else uses: below 640 KiB, and above 16 MiB for what is large
_BLOCK_ADDRESS = 0x8000
_BUFFER_ADDRESS = 16 << 20
MINIMUM_MEMORY = _BUFFER_ADDRESS + _MAX_FILE_SIZE


@dataclass(frozen=True)
class RootBus:
    """What is on PCI bus 0 and matters here: root ports, all other bridges (PXBs too), and devices' 64-bit BARs."""

    root_ports: tuple[PciFunction, ...]
    other_bridges: tuple[PciFunction, ...]
    bars: tuple[tuple[PciFunction, int], ...]


def mmconfig_base(edk2: str) -> int:
    """Where a firmware of this edk2 release (`202502`) puts MMCONFIG (`acpi.md` 2.4)."""
    return _MMCONFIG_SINCE_202305 if edk2 >= "202305" else _MMCONFIG_BEFORE


def program_chipset(qtest: Qtest, mmconfig: int) -> None:
    """PCIEXBAR, PMBASE and ACPI_EN, as OVMF sets them (`acpi.md` 2.4)."""
    qtest.write_config(_HOST_BRIDGE, 0x64, 0)
    qtest.write_config(_HOST_BRIDGE, 0x60, mmconfig | _MMCONFIG_ENABLE)
    qtest.write_config(_LPC, 0x40, _PMBASE)
    qtest.write_config(_LPC, 0x44, _ACPI_ENABLE, size=1)


def scan_root_bus(qtest: Qtest) -> RootBus:
    """Find what is on bus 0."""
    root_ports: list[PciFunction] = []
    other_bridges: list[PciFunction] = []
    bars: list[tuple[PciFunction, int]] = []
    for place in _functions(qtest):
        kind = qtest.read_config(place, 0)
        if kind == _ROOT_PORT:
            root_ports.append(place)
        elif kind in _EXPANDERS or _header_type(qtest, place) & 0x7F:
            other_bridges.append(place)
        else:
            bars += [(place, register) for register in _wide_bars(qtest, place)]
    return RootBus(tuple(root_ports), tuple(other_bridges), tuple(bars))


def place_window(qtest: Qtest, bus: RootBus, pci_hole64: int | None) -> None:
    """Put one BAR where OVMF begins its 64-bit window; without one, OVMF has no such window and nothing is written.

    DocumentError for bridges where what OVMF programs into them would show in the tables (`acpi.md` 2.6).
    """
    _check_bridges(bus, pci_hole64 or DEFAULT_PCI_HOLE64)
    if bus.bars:
        place, register = bus.bars[0]
        qtest.write_config(place, register, MMIO64_BASE & 0xFFFFFFFF)
        qtest.write_config(place, register + 4, MMIO64_BASE >> 32)
        qtest.write_config(place, _COMMAND, _MEMORY_SPACE, size=2)


def read_acpi_files(qtest: Qtest) -> AcpiBlobs:
    """The three files as QEMU builds them now. DocumentError if the machine has none; their content is not checked."""
    files = read_directory(qtest)
    missing = [name for name in (LOADER_FILE, RSDP_FILE, TABLES_FILE) if name not in files]
    if missing:
        raise DocumentError(
            f"QEMU's fw_cfg has no {', '.join(missing)} among its {len(files)} files", hint="is ACPI off (`acpi=off`)?"
        )
    loader, rsdp, tables = (read_item(qtest, *files[name]) for name in (LOADER_FILE, RSDP_FILE, TABLES_FILE))
    return AcpiBlobs(loader=loader, rsdp=rsdp, tables=tables)


def read_directory(qtest: Qtest) -> Mapping[str, tuple[int, int]]:
    """Selector and size of every fw_cfg file by name."""
    count = int.from_bytes(read_item(qtest, _DIRECTORY, 4), "big")
    if not 0 < count <= _MAX_FILES:
        raise NotProvenError(f"QEMU's fw_cfg directory has {count} entries, wanted 1 to {_MAX_FILES}")
    entries = read_item(qtest, _DIRECTORY, 4 + count * _ENTRY.size)[4:]
    files = {}
    for size, selector, _, name in _ENTRY.iter_unpack(entries):
        files[name.rstrip(b"\0").decode("ascii", "backslashreplace")] = (selector, size)
    if len(files) != count:
        raise NotProvenError("QEMU's fw_cfg directory has two files of the same name")
    return files


def read_item(qtest: Qtest, selector: int, size: int) -> bytes:
    """The first `size` bytes of a fw_cfg item, by DMA into guest memory."""
    if not 0 < size <= _MAX_FILE_SIZE:
        raise NotProvenError(f"fw_cfg item {selector:#x}: {size} bytes, wanted 1 to {_MAX_FILE_SIZE}")
    qtest.write_memory(_BLOCK_ADDRESS, _DMA_BLOCK.pack(selector << 16 | _SELECT | _READ, size, _BUFFER_ADDRESS))
    qtest.write_port(_DMA_HIGH, 0, size=4)
    qtest.write_port(_DMA_LOW, int.from_bytes(_BLOCK_ADDRESS.to_bytes(4, "big"), "little"), size=4)
    status = qtest.read_memory(_BLOCK_ADDRESS, 4)
    if any(status):
        raise NotProvenError(
            f"fw_cfg item {selector:#x}: the transfer ends with status {status.hex()}, wanted 00000000"
        )
    return qtest.read_memory(_BUFFER_ADDRESS, size)


def _functions(qtest: Qtest) -> Iterator[PciFunction]:
    for device in range(32):
        first = PciFunction(device, 0)
        if not _present(qtest, first):
            continue
        yield first
        if _header_type(qtest, first) & 0x80:
            others = (PciFunction(device, function) for function in range(1, 8))
            yield from (place for place in others if _present(qtest, place))


def _present(qtest: Qtest, place: PciFunction) -> bool:
    return qtest.read_config(place, 0) & 0xFFFF != _ABSENT


def _header_type(qtest: Qtest, place: PciFunction) -> int:
    return qtest.read_config(place, 0x0C) >> 16 & 0xFF


def _wide_bars(qtest: Qtest, place: PciFunction) -> Iterator[int]:
    registers = iter(range(_BAR0, _BAR0 + 4 * _BAR_COUNT, 4))
    for register in registers:
        if qtest.read_config(place, register) & _BAR_TYPE == _BAR_64_BIT_MEMORY:
            yield register
            next(registers, None)  # its upper half


def _check_bridges(bus: RootBus, pci_hole64: int) -> None:
    if bus.other_bridges:
        place = bus.other_bridges[0]
        raise DocumentError(
            f"PCI bridge at {place.device:02x}.{place.function}, which is no pcie-root-port: no rule here predicts what"
            " the firmware programs into it",
            hint="take the tables from a rehearsal of this machine",
        )
    needed = (len(bus.root_ports) + 1) * BRIDGE_WINDOW
    if bus.root_ports and pci_hole64 < needed:
        raise DocumentError(
            f"{len(bus.root_ports)} root ports with a 64-bit PCI hole of {pci_hole64 >> 30} GiB: the firmware's windows"
            f" would not fit, wanted {needed >> 30} GiB or more",
            hint="give the machine a larger `pci-hole64-size`, or take the tables from a rehearsal",
        )
    if bus.root_ports and not bus.bars:
        raise DocumentError(
            "root ports, but no device with a 64-bit BAR beside them: the 64-bit window would begin in a root port",
            hint="put one virtio device on pcie.0, or take the tables from a rehearsal",
        )
