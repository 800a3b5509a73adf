"""Root buses of PCI expanders (`acpi.md` 9.9), and what the firmware gave them if it did (2.6)."""

from collections.abc import Iterator

from builder.measure.acpi.aml import define, device, integer, method, return_, scope
from builder.measure.acpi.aml_resources import bus_numbers, dword_memory, qword_memory, template
from builder.measure.acpi.dsdt.host_bridge import operating_system_capabilities, pcie_identity
from builder.measure.acpi.dsdt.interrupts import expander_routes
from builder.measure.acpi.hardware import AcpiMachine, Expander


def expanders(machine: AcpiMachine) -> bytes:
    """One Scope(`\\_SB`) for each expander, the newest first."""
    return b"".join(scope("\\_SB", _root_bus(each)) for each in reversed(machine.expanders))


def _root_bus(expander: Expander) -> bytes:
    return device(f"PC{expander.bus:02X}", *_terms(expander))


def _terms(expander: Expander) -> Iterator[bytes]:
    yield define("_UID", integer(expander.bus))
    yield define("_BBN", integer(expander.bus))
    yield from pcie_identity()
    yield operating_system_capabilities(native_hotplug=True)
    if expander.node is not None:
        yield define("_PXM", integer(expander.node))
    yield method("_PRT", return_(expander_routes()))
    yield define("_CRS", template(*_windows(expander)))


def _windows(expander: Expander) -> Iterator[bytes]:
    for first, last in expander.windows or ():
        yield (
            dword_memory(first, last, cacheable=False)
            if last >> 32 == 0
            else qword_memory(first, last, cacheable=False)
        )
    yield bus_numbers(expander.bus, expander.bus if expander.last_bus is None else expander.last_bus)
