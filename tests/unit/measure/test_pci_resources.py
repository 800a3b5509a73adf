"""OVMF's allocation of PCI resources. The examples are real: `info pci` of booted machines (edk2 2025.02)."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure.acpi.pci_resources import (
    Bar,
    Kind,
    PciAddress,
    PciDevice,
    Placement,
    apertures_for,
    place_resources,
)

GIB = 1 << 30
WINDOW = 0x380000000000
APERTURES = apertures_for("202502", 2 * GIB)
PLAIN = (Bar(0x14, Kind.MEM32, 4096), Bar(0x20, Kind.PMEM64, 16384))  # a modern virtio device
LEGACY = (Bar(0x10, Kind.IO, 32), *PLAIN)
SATA = PciDevice(PciAddress(31, 2), (Bar(0x20, Kind.IO, 32), Bar(0x24, Kind.MEM32, 4096)))
SMBUS = PciDevice(PciAddress(31, 3), (Bar(0x20, Kind.IO, 64),))


def port(place: PciAddress, *children: PciDevice, hotplug: bool = True, wide: bool = True) -> PciDevice:
    return PciDevice(place, (Bar(0x10, Kind.MEM32, 4096),), children=children, wide=wide, hotplug=hotplug)


def placed(*buses: tuple[PciDevice, ...], edk2: str = "202502") -> dict[tuple[str, int | Kind], tuple[int, int]]:
    """By place and register, or kind of window: base and last address."""
    placements = place_resources(buses, apertures_for(edk2, 2 * GIB), edk2)
    return {
        (str(each.place), each.kind if each.register is None else each.register): (
            each.base,
            each.base + each.size - 1,
        )
        for each in placements
    }


def test_a_root_port_is_placed_as_in_a_real_boot() -> None:
    endpoint = PciDevice(PciAddress(1, 0), LEGACY)
    behind = PciDevice(PciAddress(0, 0, 1), PLAIN)
    found = placed((endpoint, port(PciAddress(2, 0), behind), SATA, SMBUS))
    assert found == {
        ("00:01.0", 0x10): (0x6060, 0x607F),
        ("00:1f.2", 0x20): (0x6040, 0x605F),
        ("00:1f.3", 0x20): (0x6000, 0x603F),
        ("01:00.0", 0x14): (0x80000000, 0x80000FFF),
        ("00:02.0", Kind.MEM32): (0x80000000, 0x801FFFFF),
        ("00:1f.2", 0x24): (0x80200000, 0x80200FFF),
        ("00:02.0", 0x10): (0x80201000, 0x80201FFF),
        ("00:01.0", 0x14): (0x80202000, 0x80202FFF),
        ("01:00.0", 0x20): (WINDOW, WINDOW + 0x3FFF),
        ("00:02.0", Kind.PMEM64): (WINDOW, WINDOW + 0x7FFFFFFFF),
        ("00:01.0", 0x20): (WINDOW + 0x800000000, WINDOW + 0x800003FFF),
    }


def test_another_root_bus_begins_behind_the_first_as_in_a_real_boot() -> None:
    network = PciDevice(PciAddress(2, 0), LEGACY, rom_size=1 << 18)
    first = (PciDevice(PciAddress(1, 0), LEGACY), network, SATA, SMBUS)
    second = (port(PciAddress(0, 0, 5), PciDevice(PciAddress(0, 0, 6), PLAIN)),)
    found = placed(first, second)
    assert found["00:1f.2", 0x24][0] == 0x80040000, "option ROMs have a place of their own before it"
    assert found["05:00.0", Kind.MEM32] == (0x80200000, 0x803FFFFF)
    assert found["05:00.0", 0x10][0] == 0x80400000
    assert found["05:00.0", Kind.PMEM64] == (WINDOW + 0x800000000, WINDOW + 0xFFFFFFFFF)
    assert found["00:02.0", 0x20][0] == WINDOW + 0x4000


def test_without_hotplug_a_window_is_as_large_as_what_is_behind_it() -> None:
    gpu = PciDevice(PciAddress(0, 0, 1), (Bar(0x10, Kind.MEM32, 1 << 24), Bar(0x14, Kind.PMEM64, 1 << 37)))
    found = placed((port(PciAddress(1, 0), gpu, hotplug=False),))
    assert found["00:01.0", Kind.PMEM64] == (WINDOW, WINDOW + (1 << 37) - 1)
    assert found["00:01.0", Kind.MEM32] == (0x80000000, 0x80FFFFFF)
    assert placed((port(PciAddress(1, 0), hotplug=False),)).keys() == {("00:01.0", 0x10)}, "nothing behind: no window"


def test_a_bar_larger_than_the_padding_takes_the_whole_window() -> None:
    gpu = PciDevice(PciAddress(0, 0, 1), (Bar(0x14, Kind.PMEM64, 1 << 37),))
    assert placed((port(PciAddress(1, 0), gpu),))["00:01.0", Kind.PMEM64] == (WINDOW, WINDOW + (1 << 37) - 1)


def test_behind_a_bridge_what_is_not_prefetchable_lies_below_4_gib() -> None:
    nvme = PciDevice(PciAddress(0, 0, 1), (Bar(0x10, Kind.MEM64, 16384),))
    assert placed((port(PciAddress(1, 0), nvme),))["01:00.0", 0x10][0] == 0x80000000
    assert placed((PciDevice(PciAddress(1, 0), nvme.bars),))["00:01.0", 0x10][0] == WINDOW


def test_a_bridge_without_64_bit_window_takes_everything_below_4_gib() -> None:
    device = PciDevice(PciAddress(0, 0, 1), (Bar(0x14, Kind.PMEM64, 16384), Bar(0x1C, Kind.PMEM32, 4096)))
    found = placed((port(PciAddress(1, 0), device, hotplug=False, wide=False),))
    assert {base >> 32 for base, _ in found.values()} == {0}
    assert ("00:01.0", Kind.PMEM64) not in found


@pytest.mark.parametrize(
    ("edk2", "memory", "mem32"),
    [
        ("202502", 1 * GIB, 0x80000000),
        ("202502", 2 * GIB, 0x80000000),
        ("202502", (2 << 30) + (1 << 20), 0xC0000000),
        ("202502", 0xAFF00000, 0xC0000000),
        ("202502", 0xB0000000, 0x80000000),
        ("202502", 1 << 40, 0x80000000),
        ("202302", 1 * GIB, 0xC0000000),
        ("202211", 1 << 40, 0xC0000000),
    ],
)
def test_the_32_bit_window_begins_where_the_firmware_s_does(edk2: str, memory: int, mem32: int) -> None:
    assert apertures_for(edk2, memory).mem32[0] == mem32


def test_only_older_firmware_keeps_io_ports_free_behind_a_bridge() -> None:
    device = (port(PciAddress(1, 0)), PciDevice(PciAddress(2, 0), (Bar(0x10, Kind.IO, 64),)))
    older = placed(device, edk2="202211")
    assert older["00:01.0", Kind.IO] == (0x6000, 0x61FF)
    assert ("00:01.0", Kind.IO) not in placed(device, edk2="202308")


@pytest.mark.parametrize("edk2", ["202208", "202111", ""])
def test_firmware_with_other_rules_is_refused(edk2: str) -> None:
    with pytest.raises(DocumentError, match="wanted 202211 or newer"):
        apertures_for(edk2, GIB)


def test_the_one_release_that_moved_64_bit_bars_is_refused_where_it_shows() -> None:
    nvme = PciDevice(PciAddress(0, 0, 1), (Bar(0x10, Kind.MEM64, 16384),))
    for edk2 in ("202511", "202605"):
        assert placed((port(PciAddress(1, 0), nvme),), edk2=edk2)
    assert placed((port(PciAddress(1, 0)),), edk2="202602")
    with pytest.raises(DocumentError, match=r"behind the bridge 00:01\.0"):
        placed((port(PciAddress(1, 0), nvme),), edk2="202602")


@pytest.mark.parametrize(
    "bar", [Bar(0x10, Kind.IO, 1 << 16), Bar(0x10, Kind.MEM32, 1 << 31), Bar(0x10, Kind.PMEM64, 1 << 44)]
)
def test_what_does_not_fit_is_refused(bar: Bar) -> None:
    with pytest.raises(DocumentError, match="windows end at .*, the firmware's at"):
        placed((PciDevice(PciAddress(1, 0), (bar,)),))


def test_padding_for_hotplug_that_only_fits_above_4_gib_is_refused_below() -> None:
    with pytest.raises(DocumentError, match="mem32 windows end at"):
        placed((port(PciAddress(1, 0), wide=False),))


def test_a_later_root_bus_may_fill_the_gap_before_an_aligned_one() -> None:
    small = (PciDevice(PciAddress(1, 0), (Bar(0x10, Kind.MEM32, 4096),)),)
    large = (PciDevice(PciAddress(0, 0, 5), (Bar(0x10, Kind.MEM32, 1 << 24),)),)
    third = (PciDevice(PciAddress(0, 0, 9), (Bar(0x10, Kind.MEM32, 4096),)),)
    found = placed(small, large, third)
    assert [found[name, 0x10][0] for name in ("00:01.0", "05:00.0", "09:00.0")] == [0x80000000, 0x81000000, 0x80100000]


SIZES = st.sampled_from([4096, 16384, 1 << 20, 1 << 26])
BARS = st.builds(Bar, st.just(0x10), st.sampled_from(list(Kind)), SIZES).map(
    lambda bar: Bar(bar.register, bar.kind, 32 if bar.kind is Kind.IO else bar.size)
)


@st.composite
def buses(draw: st.DrawFn) -> tuple[PciDevice, ...]:
    """A root bus with devices and bridges, one level deep."""
    devices = []
    for device in range(1, draw(st.integers(1, 8))):
        place = PciAddress(device, 0)
        if draw(st.booleans()):
            devices.append(PciDevice(place, (draw(BARS),), rom_size=draw(st.sampled_from([0, 1 << 18]))))
        else:
            behind = [PciDevice(PciAddress(n, 0, device), (draw(BARS),)) for n in range(draw(st.integers(0, 3)))]
            hotplug = draw(st.booleans())
            devices.append(port(place, *behind, hotplug=hotplug, wide=hotplug or draw(st.booleans())))
    return tuple(devices)


@given(buses())
def test_nothing_overlaps_and_everything_is_aligned_and_inside_its_bridge(bus: tuple[PciDevice, ...]) -> None:
    placements = place_resources([bus], APERTURES, "202502")
    io = [each for each in placements if each.kind is Kind.IO]
    memory = [each for each in placements if each.kind is not Kind.IO]
    for group in (io, memory):
        for each in group:
            others = [other for other in group if other is not each and overlap(each, other)]
            assert all(is_window_of(each, other) or is_window_of(other, each) for other in others)
    assert all(each.base % each.size == 0 for each in placements if each.register is not None)
    asked = sum(len(device.bars) for device in everything(bus))
    assert sum(each.register is not None for each in placements) == asked, "every BAR has its place"
    for each in placements:
        if each.register is not None and each.place.bus:
            assert any(is_window_of(window, each) for window in placements)


def overlap(one: Placement, other: Placement) -> bool:
    return one.base < other.base + other.size and other.base < one.base + one.size


def is_window_of(window: Placement, bar: Placement) -> bool:
    """Bus numbers of these machines are those of the bridges' devices."""
    inside = window.base <= bar.base and bar.base + bar.size <= window.base + window.size
    return window.register is None and inside and bar.place.bus == window.place.device


def everything(devices: tuple[PciDevice, ...]) -> Iterator[PciDevice]:
    for device in devices:
        yield device
        yield from everything(device.children or ())
