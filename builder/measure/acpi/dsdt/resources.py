"""What PCI0 decodes, and what firmware reserved (`acpi.md` 9.10)."""

from collections.abc import Iterator
from functools import cache

from builder.measure.acpi.aml import ZERO, define, device, integer, package, scope, string
from builder.measure.acpi.aml_resources import bus_numbers, dword_memory, io, qword_memory, template, word_io
from builder.measure.acpi.dsdt.bridge_hotplug import REGISTERS, REGISTERS_SIZE
from builder.measure.acpi.dsdt.host_bridge import MMCONFIG_SIZE
from builder.measure.acpi.hardware import AcpiMachine

_LAST_BUS = 255
_CONFIG_PORTS, _CONFIG_PORTS_SIZE = 0xCF8, 8
_IO_APIC, _FOUR_GIB = 0xFEC00000, 1 << 32
_GPE0, _GPE0_SIZE = 0x620, 0x10
_FW_CFG, _FW_CFG_SIZE = 0x510, 12
_PRESENT = define("_STA", integer(0x0B))


def resources(machine: AcpiMachine) -> bytes:
    """PCI0's windows, GPE0, PHPR, the sleep states, and fw_cfg."""
    hotplug = _reserved_ports("PHPR", "PCI Hotplug resources", ports=io(REGISTERS, REGISTERS_SIZE))
    return (
        scope(
            "\\_SB.PCI0",
            define("_CRS", template(*_windows(machine))),
            _reserved_ports("GPE0", "GPE0 resources", ports=io(_GPE0, _GPE0_SIZE)),
            hotplug if machine.hotplug else b"",
        )
        + _sleep_states()
        + _fw_cfg()
    )


def _windows(machine: AcpiMachine) -> Iterator[bytes]:
    last_bus = min((expander.bus - 1 for expander in machine.expanders), default=_LAST_BUS)
    yield bus_numbers(0, last_bus)
    yield io(_CONFIG_PORTS, _CONFIG_PORTS_SIZE)
    yield word_io(0, _CONFIG_PORTS - 1)
    yield word_io(_CONFIG_PORTS + _CONFIG_PORTS_SIZE, 0xFFFF)
    yield dword_memory(0xA0000, 0xBFFFF, cacheable=True)
    given = [window for expander in machine.expanders for window in expander.windows or ()]
    narrow = [window for window in given if window[1] < _FOUR_GIB]
    narrow.append((machine.mmconfig, machine.mmconfig + MMCONFIG_SIZE - 1))
    for first, last in _free(narrow, (machine.low_memory, _IO_APIC - 1)):
        yield dword_memory(first, last, cacheable=False)
    wide = [window for window in given if window[1] >= _FOUR_GIB]
    for first, last in _free(wide, (machine.window_base, machine.window_base + machine.window_size - 1)):
        yield qword_memory(first, last, cacheable=True)


def _free(given: list[tuple[int, int]], window: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """What is left of a window. As in QEMU, it reaches up to what is given away even where that is after its end."""
    first, last = window
    for start, end in sorted(given):
        if first < start:
            yield first, start - 1
        first = end + 1
    if first < last:
        yield first, last


def _reserved_ports(path: str, identity: str, *, ports: bytes) -> bytes:
    return device(
        path,
        define("_HID", string("PNP0A06")),
        define("_UID", string(identity)),
        _PRESENT,
        define("_CRS", template(ports)),
    )


@cache
def _sleep_states() -> bytes:
    """S3, S4 and S5 by the value of SLP_TYP."""
    states = (("_S3", 1), ("_S4", 2), ("_S5", 0))
    return scope("\\", *(define(name, package(integer(kind), integer(kind), ZERO, ZERO)) for name, kind in states))


@cache
def _fw_cfg() -> bytes:
    ports = define("_CRS", template(io(_FW_CFG, _FW_CFG_SIZE)))
    return scope("\\_SB.PCI0", device("FWCF", define("_HID", string("QEMU0002")), _PRESENT, ports))
