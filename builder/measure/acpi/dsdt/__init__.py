"""The DSDT of QEMU's q35 machine (`acpi.md` 9), one module for each part, in the order of the parts."""

from functools import cache

from builder.measure.acpi.aml import define, scope, string
from builder.measure.acpi.dsdt.bridge_hotplug import bridge_hotplug
from builder.measure.acpi.dsdt.debug_port import debug_port
from builder.measure.acpi.dsdt.expander import expanders
from builder.measure.acpi.dsdt.host_bridge import host_bridge
from builder.measure.acpi.dsdt.hpet import hpet
from builder.measure.acpi.dsdt.interrupts import interrupt_mode, interrupt_routing
from builder.measure.acpi.dsdt.processors import processors
from builder.measure.acpi.dsdt.resources import resources
from builder.measure.acpi.dsdt.slots import slots
from builder.measure.acpi.hardware import AcpiMachine

__all__ = ["dsdt_body"]


def dsdt_body(machine: AcpiMachine) -> bytes:
    """The DSDT's definition block, without the table header."""
    return b"".join(
        (
            debug_port(),
            host_bridge(hotplug=machine.hotplug, mmconfig=machine.mmconfig),
            bridge_hotplug(machine.profile) if machine.hotplug else b"",
            interrupt_mode(),
            interrupt_routing(machine.profile),
            hpet() if machine.hpet else b"",
            _general_purpose_events(),
            processors(machine),
            expanders(machine),
            resources(machine),
            slots(machine),
        )
    )


@cache
def _general_purpose_events() -> bytes:
    return scope("_GPE", define("_HID", string("ACPI0006")))
