"""CPU hotplug registers and methods, and the processors themselves (`acpi.md` 9.6 to 9.8)."""

from functools import cache, lru_cache

from builder.measure.acpi.aml import (
    ONE,
    PRESERVE,
    WRITE_AS_ZEROS,
    ZERO,
    Access,
    Space,
    acquire,
    arg,
    buffer,
    call,
    define,
    device,
    eisa_id,
    equal,
    field,
    if_,
    integer,
    local,
    method,
    mutex,
    name,
    notify,
    processor,
    region,
    release,
    return_,
    scope,
    store,
    string,
)
from builder.measure.acpi.aml_resources import io, template
from builder.measure.acpi.dsdt.processor_scan import processor_scan
from builder.measure.acpi.hardware import AcpiMachine, AcpiProfile
from builder.measure.acpi.tables import FIRST_X2APIC, processor_entry

_REGISTERS, _REGISTERS_SIZE = 0xCD8, 12
_RESOURCES = "\\_SB.PCI0.PRES"
_LOCK = f"{_RESOURCES}.CPLK"
_SELECTOR, _COMMAND, _DATA = (name(f"{_RESOURCES}.{register}") for register in ("CSEL", "CCMD", "CDAT"))
_ENABLED, _EJECT = (name(f"{_RESOURCES}.{register}") for register in ("CPEN", "CEJ0"))
_MANY = 4096 * 2


def processors(machine: AcpiMachine) -> bytes:
    """Scope(_SB) with the hotplug registers and every vCPU, and the event that asks to scan them."""
    devices = (_processor(number, machine.vcpu_node(number)) for number in range(machine.vcpus))
    container = device(
        "\\_SB.CPUS",
        define("_HID", string("ACPI0010")),
        define("_CID", eisa_id("PNP0A05")),
        _notify_method(machine.vcpus),
        *_register_methods(),
        processor_scan(machine.profile, machine.vcpus),
        _status_report_method(),
        *devices,
    )
    return scope("_SB", _registers(machine.profile), container) + method("\\_GPE._E02", call("\\_SB.CPUS.CSCN"))


@cache
def _registers(profile: AcpiProfile) -> bytes:
    initialise = method("_INI", store(ZERO, name("CSEL")), serialized=True)
    bits = [(None, 32), ("CPEN", 1), ("CINS", 1), ("CRMV", 1), ("CEJ0", 1), ("CEJF", 1), (None, 3), ("CCMD", 8)]
    return device(
        _RESOURCES,
        define("_HID", eisa_id("PNP0A06")),
        define("_UID", string("CPU Hotplug resources")),
        mutex("CPLK"),
        define("_CRS", template(io(_REGISTERS, _REGISTERS_SIZE))),
        region("PRST", Space.SYSTEM_IO, offset=_REGISTERS, length=_REGISTERS_SIZE),
        field("PRST", Access.BYTE | WRITE_AS_ZEROS, bits),
        field("PRST", Access.DWORD | PRESERVE, [("CSEL", 32), (None, 32), ("CDAT", 32)]),
        initialise if profile in (AcpiProfile.P8, AcpiProfile.P92, AcpiProfile.P10) else b"",
    )


@lru_cache(maxsize=64)
def _notify_method(vcpus: int) -> bytes:
    return method("CTFY", *(_notify(number) for number in range(vcpus)), args=2)


@lru_cache(maxsize=_MANY)
def _notify(number: int) -> bytes:
    return if_(equal(arg(0), integer(number)), notify(_name(number), arg(1)))


@cache
def _register_methods() -> tuple[bytes, bytes]:
    """CSTA and CEJ0: is a processor there, eject it."""
    select = acquire(_LOCK) + store(arg(0), _SELECTOR)
    present = if_(equal(_ENABLED, ONE), store(integer(0x0F), local(0)))
    status = (select, store(ZERO, local(0)), present, release(_LOCK), return_(local(0)))
    eject = (select, store(ONE, _EJECT), release(_LOCK))
    return method("CSTA", *status, args=1, serialized=True), method("CEJ0", *eject, args=1, serialized=True)


@cache
def _status_report_method() -> bytes:
    """COST: pass the guest's event and status on."""
    report = (
        store(value, target)
        for value, target in ((ONE, _COMMAND), (arg(1), _DATA), (integer(2), _COMMAND), (arg(2), _DATA))
    )
    terms = (acquire(_LOCK), store(arg(0), _SELECTOR), *report, release(_LOCK))
    return method("COST", *terms, args=4, serialized=True)


@lru_cache(maxsize=_MANY)
def _processor(number: int, node: int | None) -> bytes:
    """One vCPU. The first cannot be ejected; numbers that no Processor object can have are devices."""
    identity = integer(number)
    report = call("COST", identity, arg(0), arg(1), arg(2))
    terms = (
        method("_STA", return_(call("CSTA", identity)), serialized=True),
        define("_MAT", buffer(processor_entry(number))),
        method("_EJ0", call("CEJ0", identity), args=1) if number else b"",
        method("_OST", report, args=3, serialized=True),
        b"" if node is None else define("_PXM", integer(node)),
    )
    if number < FIRST_X2APIC:
        return processor(_name(number), number, *terms)
    return device(_name(number), define("_HID", string("ACPI0007")), define("_UID", identity), *terms)


def _name(number: int) -> str:
    return f"C{number:03X}"
