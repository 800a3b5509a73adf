"""Acting as the firmware to a QEMU in memory."""

from collections.abc import Callable

import pytest

from builder.backends.qemu_firmware import (
    MMIO64_BASE,
    mmconfig_base,
    place_window,
    program_chipset,
    read_acpi_files,
    read_directory,
    read_item,
    scan_root_bus,
)
from builder.backends.qtest import PciFunction, Qtest
from builder.errors import DocumentError, NotProvenError
from builder.measure.acpi import LOADER_FILE, RSDP_FILE, TABLES_FILE, AcpiBlobs, check_acpi
from builder.measure.acpi_loader import blobs_for
from tests.fakes.fake_qtest import (
    PCI_BRIDGE_ID,
    PXB_PCIE_ID,
    ROOT_PORT_ID,
    FakeFunction,
    FakeQemu,
    acpi_tables,
    virtio_device,
)

GIB = 1 << 30


def programmed(qemu: FakeQemu) -> bytes:
    """What the real tables depend on, in the place of a DSDT."""
    bridge, lpc = qemu.functions[0, 0], qemu.functions[31, 0]
    seen = bridge.space[0x60:0x68] + lpc.space[0x40:0x48]
    device = qemu.functions.get((1, 0))
    return bytes(seen + device.space[0x04:0x28] if device else seen)


def files_of(qemu: FakeQemu) -> dict[str, bytes]:
    blobs = blobs_for(acpi_tables(2, programmed(qemu)))
    return {
        "bootorder": b"",
        LOADER_FILE: blobs.loader,
        RSDP_FILE: blobs.rsdp,
        TABLES_FILE: blobs.tables,
    }


def read_all(qemu: FakeQemu, pci_hole64: int | None = None) -> AcpiBlobs:
    qtest = Qtest(qemu)
    program_chipset(qtest, mmconfig_base("202502"))
    place_window(qtest, scan_root_bus(qtest), pci_hole64)
    return read_acpi_files(qtest)


@pytest.fixture
def qemu() -> FakeQemu:
    return FakeQemu(build=files_of)


def test_the_blobs_are_those_of_the_programmed_machine(qemu: FakeQemu) -> None:
    blobs = read_all(qemu)
    assert check_acpi(blobs, 2)
    assert blobs.tables == files_of(qemu)[TABLES_FILE]
    assert blobs.tables != files_of(FakeQemu(build=files_of))[TABLES_FILE], "nothing was programmed"


def test_the_chipset_is_programmed_as_by_ovmf(qemu: FakeQemu) -> None:
    program_chipset(Qtest(qemu), 0xE0000000)
    assert qemu.functions[0, 0].dword(0x60) == 0xE0000001
    assert qemu.functions[0, 0].dword(0x64) == 0
    assert qemu.functions[31, 0].dword(0x40) == 0x600
    assert qemu.functions[31, 0].dword(0x44) == 0x80


@pytest.mark.parametrize(("edk2", "base"), [("202211", 0xB0000000), ("202302", 0xB0000000), ("202305", 0xE0000000)])
def test_mmconfig_moved_with_edk2_202305(edk2: str, base: int) -> None:
    assert mmconfig_base(edk2) == base


def test_one_64_bit_bar_is_placed_and_made_visible(qemu: FakeQemu) -> None:
    qemu.functions[2, 0] = virtio_device()
    read_all(qemu)
    device = qemu.functions[1, 0]
    assert device.dword(0x20) | device.dword(0x24) << 32 == MMIO64_BASE
    assert device.dword(0x04) == 2
    assert qemu.functions[2, 0].space == virtio_device().space, "a second device must not be touched"


def test_without_a_64_bit_bar_no_device_is_touched(qemu: FakeQemu) -> None:
    untouched = FakeFunction(0x100E8086, bars=(0, 1, 0x8))
    qemu.functions[1, 0] = untouched
    before = bytes(untouched.space)
    read_all(qemu)
    assert bytes(untouched.space) == before


def test_the_upper_half_of_a_64_bit_bar_is_not_a_bar_of_its_own(qemu: FakeQemu) -> None:
    qemu.functions[1, 0] = FakeFunction(0x100E8086, bars=(0x4, 0x4, 0x4, 0x4, 0, 0))
    assert scan_root_bus(Qtest(qemu)).bars == ((PciFunction(1, 0), 0x10), (PciFunction(1, 0), 0x18))


def test_functions_of_multifunction_devices_are_found(qemu: FakeQemu) -> None:
    qemu.functions[2, 0] = FakeFunction(0x100E8086, header_type=0x80)
    qemu.functions[2, 7] = virtio_device()
    assert (PciFunction(2, 7), 0x20) in scan_root_bus(Qtest(qemu)).bars


def root_port() -> FakeFunction:
    return FakeFunction(ROOT_PORT_ID, header_type=1, bars=(0x4,))


def test_root_ports_need_a_large_hole(qemu: FakeQemu) -> None:
    qemu.functions[2, 0] = root_port()
    with pytest.raises(DocumentError, match=r"1 root ports with a 64-bit PCI hole of 32 GiB.*wanted 64 GiB"):
        read_all(qemu)
    with pytest.raises(DocumentError, match="hole of 63 GiB"):
        read_all(qemu, 64 * GIB - 1)
    read_all(qemu, 64 * GIB)


def test_root_ports_beside_no_64_bit_bar_are_refused(qemu: FakeQemu) -> None:
    qemu.functions[1, 0] = root_port()
    with pytest.raises(DocumentError, match="no device with a 64-bit BAR beside them"):
        read_all(qemu, 1024 * GIB)


@pytest.mark.parametrize(
    "bridge",
    [FakeFunction(PXB_PCIE_ID), FakeFunction(PCI_BRIDGE_ID, header_type=1), FakeFunction(PCI_BRIDGE_ID, header_type=2)],
    ids=["pxb-pcie", "pci-bridge", "cardbus"],
)
def test_bridges_that_no_rule_covers_are_refused(qemu: FakeQemu, bridge: FakeFunction) -> None:
    qemu.functions[4, 0] = bridge
    with pytest.raises(DocumentError, match=r"PCI bridge at 04\.0"):
        read_all(qemu, 1024 * GIB)


@pytest.mark.parametrize("name", [LOADER_FILE, RSDP_FILE, TABLES_FILE])
def test_a_missing_file_is_named(name: str) -> None:
    qemu = FakeQemu(build=lambda fake: {key: data for key, data in files_of(fake).items() if key != name})
    with pytest.raises(DocumentError, match=f"no {name} among its 3 files"):
        read_all(qemu)


def test_an_empty_file_is_not_read_as_one_without_content() -> None:
    qemu = FakeQemu(build=lambda fake: {**files_of(fake), RSDP_FILE: b""})
    with pytest.raises(NotProvenError, match="0 bytes, wanted 1 to"):
        read_all(qemu)


@pytest.mark.parametrize("status", [1, 0x80000000, 0x0019000A])
def test_a_transfer_that_fails_is_an_error(qemu: FakeQemu, status: int) -> None:
    qemu.dma_status = status
    with pytest.raises(NotProvenError, match=f"ends with status {status:08x}"):
        read_directory(Qtest(qemu))


def test_a_directory_without_entries_is_an_error() -> None:
    with pytest.raises(NotProvenError, match="0 entries"):
        read_directory(Qtest(FakeQemu(build=lambda _: {})))


def test_a_directory_of_absurd_size_is_an_error(qemu: FakeQemu) -> None:
    qemu.answer = replace_answer("read 0x1000000 0x4", "OK 0xffffffff\n")
    with pytest.raises(NotProvenError, match="4294967295 entries"):
        read_directory(Qtest(qemu))


def test_two_files_of_one_name_are_an_error() -> None:
    qemu = FakeQemu(build=lambda _: {"etc/x": b"1", "etc/x\0": b"2"})
    with pytest.raises(NotProvenError, match="two files of the same name"):
        read_directory(Qtest(qemu))


@pytest.mark.parametrize("size", [-1, 0, (16 << 20) + 1, 0xFFFFFFFF])
def test_an_item_of_absurd_size_is_not_transferred(qemu: FakeQemu, size: int) -> None:
    with pytest.raises(NotProvenError, match=f"{size} bytes, wanted 1 to"):
        read_item(Qtest(qemu), 0x20, size)
    assert qemu.commands == []


def replace_answer(command: str, answer: str) -> Callable[[str, str], str]:
    return lambda line, honest: answer if line == command else honest
