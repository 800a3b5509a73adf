"""What the firmware does before it measures the ACPI tables, done from outside to a stopped QEMU (`acpi.md` 2.4, 2.6).

QEMU builds the tables anew when the firmware selects them, from what the firmware has programmed by then: so program
the same, then read the files.
"""

import struct
from collections.abc import Mapping

from builder.backends.emulator.qemu_functions import ConfigSpace
from builder.backends.emulator.qemu_pci import place_one_bar, program_pci
from builder.backends.emulator.qtest import Qtest
from builder.errors import DocumentError, NotProvenError
from builder.measure.acpi.blobs import LOADER_FILE, RSDP_FILE, TABLES_FILE, AcpiBlobs
from builder.measure.acpi.pci_resources import PciAddress, apertures_for

_HOST_BRIDGE = PciAddress(0, 0)
_LPC = PciAddress(31, 0)
_MMCONFIG_SINCE_202305, _MMCONFIG_BEFORE = 0xE0000000, 0xB0000000  # edk2 commit 82c1aa87f9
_MMCONFIG_ENABLE = 1  # 256 MiB
_PMBASE = 0x600
_ACPI_ENABLE = 0x80
# root buses besides pcie.0, and host bridges that the VMM describes itself
_EXTRA_ROOTS_FILE, _HARDWARE_FILE = "etc/extra-pci-roots", "etc/hardware-info"

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


def mmconfig_base(edk2: str) -> int:
    """Where a firmware of this edk2 release (`202502`) puts MMCONFIG (`acpi.md` 2.4)."""
    return _MMCONFIG_SINCE_202305 if edk2 >= "202305" else _MMCONFIG_BEFORE


def program_machine(qtest: Qtest, *, edk2: str, memory: int, option_roms: bool = False) -> None:
    """Chipset and PCI buses as a firmware of this edk2 release leaves them, with `memory` bytes of RAM.

    `option_roms` is for a machine that is no TD. DocumentError for PCI devices that no rule covers.
    """
    mmconfig = mmconfig_base(edk2)
    program_chipset(qtest, mmconfig)
    files = read_directory(qtest)
    if _HARDWARE_FILE in files:
        raise DocumentError(f"QEMU's fw_cfg has {_HARDWARE_FILE}: host bridges of the VMM's own are not covered")
    roots = int.from_bytes(read_item(qtest, *files[_EXTRA_ROOTS_FILE]), "little") if _EXTRA_ROOTS_FILE in files else 0
    config = ConfigSpace(qtest, mmconfig)
    program_pci(config, apertures_for(edk2, memory), edk2, extra_roots=roots, option_roms=option_roms)


def program_without_bridges(qtest: Qtest, *, edk2: str, memory: int) -> None:
    """Chipset and one BAR, all bridges as after reset: what upstream's published digests are of, and no TD has."""
    mmconfig = mmconfig_base(edk2)
    program_chipset(qtest, mmconfig)
    place_one_bar(ConfigSpace(qtest, mmconfig), apertures_for(edk2, memory).mem64[0])


def program_chipset(qtest: Qtest, mmconfig: int) -> None:
    """PCIEXBAR, PMBASE and ACPI_EN, as OVMF sets them (`acpi.md` 2.4)."""
    qtest.write_config(_HOST_BRIDGE, 0x64, 0)
    qtest.write_config(_HOST_BRIDGE, 0x60, mmconfig | _MMCONFIG_ENABLE)
    qtest.write_config(_LPC, 0x40, _PMBASE)
    qtest.write_config(_LPC, 0x44, _ACPI_ENABLE, size=1)


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
