"""Registers and methods of ACPI hotplug for PCI bridges (`acpi.md` 9.3)."""

from functools import cache

from builder.measure.acpi.aml import (
    ONE,
    WRITE_AS_ZEROS,
    ZERO,
    Access,
    Space,
    acquire,
    arg,
    call,
    either,
    element,
    equal,
    field,
    if_,
    index,
    integer,
    local,
    method,
    mutex,
    name,
    not_,
    or_,
    package,
    region,
    release,
    return_,
    scope,
    shift_left,
    store,
    string,
)
from builder.measure.acpi.dsdt.host_bridge import unless_device_naming
from builder.measure.acpi.hardware import AcpiProfile

REGISTERS, REGISTERS_SIZE = 0xCC0, 0x18
LOCK = "BLCK"
_RESULT, _CAPABILITIES, _INDEX = local(0), local(1), local(2)
_DWORDS = Access.DWORD | WRITE_AS_ZEROS
_NO_INDEX = (equal(_INDEX, ZERO), equal(_INDEX, integer(0xFFFFFFFF)))


@cache
def bridge_hotplug(profile: AcpiProfile) -> bytes:
    """Scope(_SB.PCI0) with the registers, PCEJ, AIDX and PDSM."""
    return scope(
        "_SB.PCI0",
        region("PCST", Space.SYSTEM_IO, offset=REGISTERS, length=8),
        field("PCST", _DWORDS, [("PCIU", 32), ("PCID", 32)]),
        region("SEJ", Space.SYSTEM_IO, offset=REGISTERS + 8, length=4),
        field("SEJ", _DWORDS, [("B0EJ", 32)]),
        region("BNMR", Space.SYSTEM_IO, offset=REGISTERS + 16, length=8),
        field("BNMR", _DWORDS, [("BNUM", 32), ("PIDX", 32)]),
        mutex(LOCK),
        _locked("PCEJ", store(shift_left(ONE, arg(1)), name("B0EJ")), result=ZERO),
        _locked("AIDX", store(shift_left(ONE, arg(1)), name("PIDX")), store(name("PIDX"), local(0)), result=local(0)),
        _device_method(profile),
    )


def _locked(path: str, *terms: bytes, result: bytes) -> bytes:
    """A method on the bus of its first argument and the slot of its second."""
    terms = (acquire(LOCK), store(arg(0), name("BNUM")), *terms, release(LOCK), return_(result))
    return method(path, *terms, args=2)


def _device_method(profile: AcpiProfile) -> bytes:
    naming = _naming_form_a() if profile is AcpiProfile.P8 else _naming_form_b()
    return method("PDSM", _supported_functions(), naming, args=5, serialized=True)


def _supported_functions() -> bytes:
    one_and_seven = or_(_CAPABILITIES, ONE, _CAPABILITIES) + or_(
        _CAPABILITIES, shift_left(ONE, integer(7)), _CAPABILITIES
    )
    return if_(
        equal(arg(2), ZERO),
        unless_device_naming(_RESULT),
        store(ZERO, _CAPABILITIES),
        _read_index(),
        if_(not_(or_(*_NO_INDEX)), one_and_seven),
        store(_CAPABILITIES, index(_RESULT, ZERO)),
        return_(_RESULT),
    )


def _naming_form_a() -> bytes:
    return if_(
        equal(arg(2), integer(7)),
        store(package(ZERO, string("")), _RESULT),
        _read_index(),
        store(_INDEX, index(_RESULT, ZERO)),
        return_(_RESULT),
    )


def _naming_form_b() -> bytes:
    return if_(
        equal(arg(2), integer(7)),
        _read_index(),
        store(package(count=2), _RESULT),
        if_(
            not_(either(*_NO_INDEX)),
            store(_INDEX, index(_RESULT, ZERO)),
            store(string(""), index(_RESULT, ONE)),
        ),
        return_(_RESULT),
    )


def _read_index() -> bytes:
    return store(call("AIDX", element(arg(4), ZERO), element(arg(4), ONE)), _INDEX)
