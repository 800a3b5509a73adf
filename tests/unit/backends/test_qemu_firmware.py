"""Acting as the firmware to a QEMU in memory."""

from collections.abc import Callable

import pytest

from builder.backends.emulator.qemu_firmware import (
    mmconfig_base,
    program_chipset,
    program_machine,
    program_without_bridges,
    read_acpi_files,
    read_directory,
    read_item,
)
from builder.backends.emulator.qtest import Qtest
from builder.errors import DocumentError, NotProvenError
from builder.measure.acpi.blobs import LOADER_FILE, RSDP_FILE, TABLES_FILE, AcpiBlobs, check_acpi
from builder.measure.acpi.loader import blobs_for
from tests.fakes.fake_qtest import FakeFunction, FakeQemu, acpi_tables, root_port, virtio_device

GIB = 1 << 30
MMIO64_BASE = 0x380000000000


def programmed(qemu: FakeQemu) -> bytes:
    """What the real tables depend on, in the place of a DSDT."""
    bridge, lpc = qemu.functions[0, 0], qemu.functions[31, 0]
    seen = bridge.space[0x60:0x68] + lpc.space[0x40:0x48]
    device = qemu.functions.get((1, 0))
    return bytes(seen + device.space[0x04:0x28] if device else seen)


def address_of(device: FakeFunction) -> int:
    """Where BAR 4 is."""
    return (device.dword(0x20) & ~0xF) | device.dword(0x24) << 32


def files_of(qemu: FakeQemu) -> dict[str, bytes]:
    blobs = blobs_for(acpi_tables(2, programmed(qemu)))
    return {
        "bootorder": b"",
        LOADER_FILE: blobs.loader,
        RSDP_FILE: blobs.rsdp,
        TABLES_FILE: blobs.tables,
    }


def read_all(qemu: FakeQemu) -> AcpiBlobs:
    qtest = Qtest(qemu)
    program_machine(qtest, edk2="202502", memory=2 * GIB)
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


def test_every_bar_is_placed_and_made_visible(qemu: FakeQemu) -> None:
    qemu.functions[2, 0] = virtio_device()
    read_all(qemu)
    first, second = qemu.functions[1, 0], qemu.functions[2, 0]
    assert [address_of(first), address_of(second)] == [MMIO64_BASE, MMIO64_BASE + 16384]
    assert [first.dword(0x14), second.dword(0x14)] == [0x80001000, 0x80000000], "of equals, the younger comes first"
    assert [function.dword(0x04) & 7 for function in (first, second)] == [3, 3]


def test_without_a_64_bit_bar_there_is_nothing_in_the_64_bit_window(qemu: FakeQemu) -> None:
    qemu.functions[1, 0] = FakeFunction(0x100E8086, bars={0: (0, 0x20000), 1: (1, 64)})
    read_all(qemu)
    assert qemu.functions[1, 0].dword(0x10) == 0x80000000
    assert all(function.dword(0x24) == 0 for function in qemu.functions.values())


def test_without_bridges_programmed_one_bar_is_placed_and_nothing_else_is_touched(qemu: FakeQemu) -> None:
    qemu.functions[2, 0], qemu.functions[3, 0] = virtio_device(), root_port(virtio_device())
    program_without_bridges(Qtest(qemu), edk2="202502", memory=2 * GIB)
    assert address_of(qemu.functions[1, 0]) == MMIO64_BASE
    assert qemu.functions[1, 0].dword(0x04) == 2
    assert qemu.functions[2, 0].space == virtio_device().space
    assert qemu.functions[3, 0].space == root_port().space


def test_host_bridges_of_the_vmm_s_own_are_refused() -> None:
    qemu = FakeQemu(build=lambda fake: {**files_of(fake), "etc/hardware-info": b"x"})
    with pytest.raises(DocumentError, match="etc/hardware-info"):
        read_all(qemu)


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
