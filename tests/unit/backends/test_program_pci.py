"""Numbering and programming the PCI buses of a QEMU in memory."""

import struct

import pytest

from builder.backends.emulator.qemu_firmware import program_chipset
from builder.backends.emulator.qemu_functions import ConfigSpace
from builder.backends.emulator.qemu_pci import program_pci
from builder.backends.emulator.qtest import Qtest
from builder.errors import DocumentError
from builder.measure.acpi.pci_resources import Kind, Placement, apertures_for
from tests.fakes.fake_qtest import FakeFunction, FakeQemu, acpi_tables, root_port, virtio_device

MMCONFIG = 0xE0000000
WINDOW = 0x380000000000
NETWORK_ID = 0x10411AF4


@pytest.fixture
def qemu() -> FakeQemu:
    return FakeQemu(build=lambda _: {"etc/acpi/tables": acpi_tables(1)})


def program(qemu: FakeQemu, *, extra_roots: int = 0, option_roms: bool = False) -> tuple[Placement, ...]:
    qtest = Qtest(qemu)
    program_chipset(qtest, MMCONFIG)
    apertures = apertures_for("202502", 2 << 30)
    config = ConfigSpace(qtest, MMCONFIG)
    return program_pci(config, apertures, "202502", extra_roots=extra_roots, option_roms=option_roms)


def numbers(bridge: FakeFunction) -> tuple[int, ...]:
    """Primary, secondary and subordinate bus number."""
    return tuple(bridge.space[0x18:0x1B])


def test_bridges_are_numbered_depth_first(qemu: FakeQemu) -> None:
    inner = root_port(virtio_device())
    first, second = root_port(inner), root_port()
    qemu.functions[2, 0], qemu.functions[3, 0] = first, second
    program(qemu)
    assert numbers(first) == (0, 1, 2)
    assert numbers(inner) == (1, 2, 2)
    assert numbers(second) == (0, 3, 3)


def test_windows_are_written_as_a_firmware_does(qemu: FakeQemu) -> None:
    port = root_port(virtio_device())
    qemu.functions[2, 0] = port
    program(qemu)
    assert port.dword(0x20) == 0x801F8000, "limit and base of the 32-bit window, in MiB"
    assert port.dword(0x24) & 0xFFF0FFF0 == 0xFFF00000
    assert (port.dword(0x28), port.dword(0x2C)) == (0x3800, 0x3807)
    assert (port.space[0x1C], port.space[0x1D], port.dword(0x30)) == (0xFF, 0, 0xFFFF), "closed: nothing asks for I/O"
    assert port.children[0, 0].dword(0x24) == 0x3800


def test_an_io_window_is_open_where_something_behind_asks_for_one(qemu: FakeQemu) -> None:
    legacy = FakeFunction(NETWORK_ID, bars={0: (1, 64)})
    port = root_port(legacy)
    qemu.functions[2, 0] = port
    program(qemu)
    assert (port.space[0x1C], port.space[0x1D]) == (0x60, 0x6F)
    assert legacy.dword(0x10) == 0x6001


def test_everything_decodes_and_other_command_bits_stay(qemu: FakeQemu) -> None:
    qemu.functions[2, 0] = root_port(virtio_device())
    qemu.functions[1, 0].write(0x04, b"\x04\x01")
    program(qemu)
    assert qemu.functions[1, 0].dword(0x04) == 0x0103
    assert qemu.functions[2, 0].dword(0x04) == 3
    assert qemu.functions[2, 0].children[0, 0].dword(0x04) == 3


def test_bars_of_every_kind_are_recognised(qemu: FakeQemu) -> None:
    qemu.functions[1, 0] = FakeFunction(
        NETWORK_ID, bars={0: (1, 128), 1: (0, 8192), 2: (0b1000, 65536), 4: (0b1100, 1 << 37)}
    )
    qemu.functions[2, 0] = FakeFunction(NETWORK_ID, bars={0: (0b100, 1 << 20)})
    found = {(str(each.place), each.register): (each.kind, each.size) for each in program(qemu)}
    assert (
        found.items()
        >= {
            ("00:01.0", 0x10): (Kind.IO, 128),
            ("00:01.0", 0x14): (Kind.MEM32, 8192),
            ("00:01.0", 0x18): (Kind.PMEM32, 65536),
            ("00:01.0", 0x20): (Kind.PMEM64, 1 << 37),
            ("00:02.0", 0x10): (Kind.MEM64, 1 << 20),
        }.items()
    )


def test_a_bar_below_one_mib_and_one_without_size_are_none(qemu: FakeQemu) -> None:
    qemu.functions[1, 0] = FakeFunction(NETWORK_ID, bars={0: (0b010, 4096), 1: (1, 1 << 32)})
    assert not [each for each in program(qemu) if each.place.device == 1]


def test_the_upper_half_of_a_64_bit_bar_is_not_a_bar_of_its_own(qemu: FakeQemu) -> None:
    qemu.functions[1, 0] = FakeFunction(NETWORK_ID, bars={0: (0b1100, 4096), 2: (0b1100, 4096)})
    registers = [each.register for each in program(qemu) if each.place.device == 1]
    assert sorted(register or 0 for register in registers) == [0x10, 0x18]


def test_functions_of_multifunction_devices_are_found_and_of_others_are_not(qemu: FakeQemu) -> None:
    qemu.functions[2, 0] = FakeFunction(NETWORK_ID, header_type=0x80)
    qemu.functions[2, 7] = virtio_device()
    qemu.functions[3, 0] = virtio_device()
    qemu.functions[3, 1] = virtio_device()
    found = {(each.place.device, each.place.function) for each in program(qemu)}
    assert (2, 7) in found
    assert (3, 1) not in found


def test_other_root_buses_are_found_by_what_is_on_them(qemu: FakeQemu) -> None:
    expander_port, main_port = root_port(virtio_device()), root_port()
    qemu.functions[2, 0] = main_port
    qemu.roots[5] = {(0, 0): expander_port}
    program(qemu, extra_roots=1)
    assert numbers(main_port) == (0, 1, 1)
    assert numbers(expander_port) == (5, 6, 6)
    assert (expander_port.dword(0x28), expander_port.dword(0x2C)) == (0x3810, 0x3817), "behind the first one's 33 GiB"


def test_a_root_bus_that_qemu_does_not_announce_is_not_looked_for(qemu: FakeQemu) -> None:
    qemu.roots[5] = {(0, 0): root_port()}
    program(qemu)
    assert numbers(qemu.roots[5][0, 0]) == (0, 0, 0)


def test_bridges_without_a_bus_number_are_refused(qemu: FakeQemu) -> None:
    qemu.functions[2, 0], qemu.functions[3, 0] = root_port(), root_port()
    qemu.roots[2] = {(0, 0): root_port()}
    with pytest.raises(DocumentError, match=r"PCI bridge 00:03\.0: no bus number up to 1 is left"):
        program(qemu, extra_roots=1)


def test_a_bridge_without_hotplug_gets_no_padding(qemu: FakeQemu) -> None:
    port = root_port(virtio_device())
    struct.pack_into("<I", port.space, 0x54, 0)
    qemu.functions[2, 0] = port
    program(qemu)
    assert (port.dword(0x28), port.dword(0x2C)) == (0x3800, 0x3800)
    assert port.dword(0x20) == 0x800F8000


def test_a_conventional_bridge_with_a_hotplug_controller_gets_it(qemu: FakeQemu) -> None:
    bridge = root_port()
    bridge.space[0x40] = 0x0C
    qemu.functions[2, 0] = bridge
    assert [each.kind for each in program(qemu) if each.register is None] == [Kind.MEM32, Kind.PMEM64]


def test_option_roms_count_only_where_the_firmware_looks_at_them(qemu: FakeQemu) -> None:
    device = FakeFunction(NETWORK_ID, bars={0: (0, 4096)}, rom_size=1 << 18)
    qemu.functions[1, 0] = device
    program(qemu)
    assert device.dword(0x10) == 0x80000000
    program(qemu, option_roms=True)
    assert device.dword(0x10) == 0x80040000


def test_a_request_for_reserved_resources_is_refused(qemu: FakeQemu) -> None:
    port = root_port()
    port.space[0x41] = 0x80
    port.space[0x80:0x84] = bytes((0x09, 0, 32, 1))
    qemu.functions[2, 0] = port
    with pytest.raises(DocumentError, match=r"PCI bridge 00:02\.0 asks for reserved resources"):
        program(qemu)


def test_virtual_functions_are_refused(qemu: FakeQemu) -> None:
    device = virtio_device()
    device.space[0x34] = 0x40
    device.space[0x40] = 0x10
    struct.pack_into("<I", device.space, 0x100, 0x140_0_0001)
    struct.pack_into("<I", device.space, 0x140, 0x000_1_0010)
    qemu.functions[2, 0] = device
    with pytest.raises(DocumentError, match=r"PCI function 00:02\.0 has virtual functions"):
        program(qemu)


@pytest.mark.parametrize("header_type", [2, 3, 0x7F])
def test_headers_of_another_type_are_refused(qemu: FakeQemu, header_type: int) -> None:
    qemu.functions[2, 0] = FakeFunction(NETWORK_ID, header_type=header_type)
    with pytest.raises(DocumentError, match=f"header of type {header_type}, wanted a device or a PCI bridge"):
        program(qemu)


@pytest.mark.parametrize("entry", [0x40, 0x44, 0xFF])
def test_capabilities_that_never_end_are_read_once(qemu: FakeQemu, entry: int) -> None:
    port = root_port()
    port.space[0x41] = entry
    port.space[0x45] = 0x40
    qemu.functions[2, 0] = port
    assert program(qemu)


def test_extended_capabilities_that_never_end_are_read_once(qemu: FakeQemu) -> None:
    device = virtio_device()
    device.space[0x34], device.space[0x40] = 0x40, 0x10
    struct.pack_into("<I", device.space, 0x100, 0x100_0_0001)
    qemu.functions[2, 0] = device
    assert program(qemu)


def test_bridges_behind_each_other_without_end_are_refused(qemu: FakeQemu) -> None:
    port = root_port()
    for _ in range(64):
        port = root_port(port)
    qemu.functions[2, 0] = port
    with pytest.raises(DocumentError, match=r"PCI bridge 20:00\.0: lies behind 32 others"):
        program(qemu)


def test_more_bridges_than_bus_numbers_are_refused(qemu: FakeQemu) -> None:
    for device in range(1, 31):
        qemu.functions[device, 0] = root_port(*(root_port() for _ in range(16)))
    with pytest.raises(DocumentError, match="no bus number up to 255 is left"):
        program(qemu)
