"""The high precision event timer (learnt from QEMU 10.0 and 11.1, and from the live-TD capture; not in `acpi.md` 9)."""

from functools import cache

from builder.measure.acpi.aml import (
    LOCK,
    PRESERVE,
    ZERO,
    Access,
    Space,
    define,
    device,
    eisa_id,
    either,
    equal,
    field,
    greater,
    if_,
    integer,
    local,
    method,
    name,
    region,
    return_,
    scope,
    shift_right,
    store,
)
from builder.measure.acpi.aml_resources import fixed_memory, template

HPET_BASE, HPET_SIZE = 0xFED00000, 0x400
_LONGEST_PERIOD = 100_000_000  # femtoseconds


@cache
def hpet() -> bytes:
    """Scope(_SB): device HPET."""
    return scope(
        "_SB",
        device(
            "HPET",
            define("_HID", eisa_id("PNP0103")),
            define("_UID", ZERO),
            region("HPTM", Space.SYSTEM_MEMORY, offset=HPET_BASE, length=HPET_SIZE),
            field("HPTM", Access.DWORD | LOCK | PRESERVE, [("VEND", 32), ("PRD", 32)]),
            _status(),
            define("_CRS", template(fixed_memory(HPET_BASE, HPET_SIZE))),
        ),
    )


def _status() -> bytes:
    """Present if vendor and period are plausible."""
    vendor, period = local(0), local(1)
    no_vendor = either(equal(vendor, ZERO), equal(vendor, integer(0xFFFF)))
    no_period = either(equal(period, ZERO), greater(period, integer(_LONGEST_PERIOD)))
    return method(
        "_STA",
        store(name("VEND"), vendor),
        store(name("PRD"), period),
        shift_right(vendor, integer(16), vendor),
        if_(no_vendor, return_(ZERO)),
        if_(no_period, return_(ZERO)),
        return_(integer(0x0F)),
    )
