"""The devices of pcie.0 (`acpi.md` 9.11)."""

from collections.abc import Iterator
from functools import cache, lru_cache

from builder.measure.acpi.aml import (
    PRESERVE,
    Access,
    Space,
    acquire,
    call,
    define,
    device,
    eisa_id,
    field,
    integer,
    method,
    region,
    release,
    scope,
)
from builder.measure.acpi.aml_resources import IRQ_FLAGS_FORM, io, irq, template
from builder.measure.acpi.dsdt.bridge_hotplug import LOCK
from builder.measure.acpi.dsdt.root_ports import notifications, slot_hotplug
from builder.measure.acpi.hardware import AcpiMachine, AcpiProfile

_LPC, _SATA, _SMBUS = 0xF8, 0xFA, 0xFB
_PRESENT = define("_STA", integer(0x0F))


def slots(machine: AcpiMachine) -> bytes:
    """Every function of pcie.0 by devfn, hotplug notifications, and the hotplug event."""
    found = {0: b"", _LPC: _isa_bridge(machine.profile, serial=machine.serial), _SATA: b"", _SMBUS: b""}
    found |= {expander.devfn: b"" for expander in machine.expanders}
    found |= {port.devfn: b"".join(_behind(port.children)) for port in machine.functions if port.children is not None}
    found |= {each.devfn: b"" for each in machine.functions if each.children is None}
    if machine.hotplug:
        for number, port in machine.numbered_ports:
            found[port.devfn] += slot_hotplug(number, port.children or ())
    devices = (function(devfn, found[devfn]) for devfn in sorted(found))
    return scope("\\_SB", scope("PCI0", *devices)) + (_hotplug(machine) if machine.hotplug else b"")


@lru_cache(maxsize=4096)
def function(devfn: int, content: bytes = b"") -> bytes:
    """A PCI function by its place on the bus."""
    return device(f"S{devfn:02X}", define("_ADR", integer(devfn >> 3 << 16 | devfn & 7)), content)


def _behind(children: tuple[int, ...]) -> Iterator[bytes]:
    return (function(devfn) for devfn in sorted(children))


def _hotplug(machine: AcpiMachine) -> bytes:
    if not machine.root_ports:
        return scope("_GPE", method("_E01"))
    lock = f"\\_SB.PCI0.{LOCK}"
    event = method("_E01", acquire(lock), call("\\_SB.PCI0.PCNT"), release(lock))
    return notifications(machine.numbered_ports) + scope("_GPE", event)


@cache
def _isa_bridge(profile: AcpiProfile, *, serial: bool) -> bytes:
    links = [(f"PRQ{letter}", 8) for letter in "ABCDEFGH"]
    return (
        region("PIRQ", Space.PCI_CONFIG, offset=0x60, length=12)
        + scope("\\_SB", field("PCI0.SF8.PIRQ", Access.BYTE | PRESERVE, [*links[:4], (None, 32), *links[4:]]))
        + _isa_device("KBD", "PNP0303", _PRESENT, io(0x60, 1), io(0x64, 1), irq(1))
        + _isa_device("MOU", "PNP0F13", _PRESENT, irq(12))
        + (_serial_port(profile) if serial else b"")
        + _isa_device("RTC", "PNP0B00", b"", io(0x70, 8), irq(8))
    )


def _serial_port(profile: AcpiProfile) -> bytes:
    interrupt = IRQ_FLAGS_FORM if profile is AcpiProfile.P111 else irq(4)
    return _isa_device("COM1", "PNP0501", define("_UID", integer(1)) + _PRESENT, io(0x3F8, 8, align=0), interrupt)


def _isa_device(path: str, identity: str, terms: bytes, *resources: bytes) -> bytes:
    return device(path, define("_HID", eisa_id(identity)), terms, define("_CRS", template(*resources)))
