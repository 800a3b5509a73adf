"""Interrupt mode, routing and link devices (`acpi.md` 9.4, 9.5)."""

from collections.abc import Callable
from functools import cache

from builder.measure.acpi.aml import (
    ZERO,
    and_,
    arg,
    define,
    device,
    dword_field,
    eisa_id,
    else_,
    equal,
    if_,
    integer,
    method,
    name,
    or_,
    package,
    return_,
    scope,
    store,
)
from builder.measure.acpi.aml_resources import interrupts, template
from builder.measure.acpi.hardware import AcpiProfile

_SLOTS, _PINS = 32, 4
_LINKS = "ABCDEFGH"
_FIRST_GSI = 0x10
_INTERRUPT_OFFSET = 5  # of the number within an extended interrupt descriptor
_ROUTED_BY_PIN_ONLY = 0x18  # slots from here on
Link = Callable[[int, int], str]
_FIRST_LINKS_SLOTS = (0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1F)


@cache
def interrupt_mode() -> bytes:
    """PICF and _PIC: whether the guest uses the IOAPIC."""
    return define("PICF", ZERO) + method("_PIC", store(arg(0), name("PICF")), args=1)


@cache
def interrupt_routing(profile: AcpiProfile) -> bytes:
    """Scope(_SB): PCI0's routing tables, IQST, IQCR, and the link devices."""
    edge = profile is AcpiProfile.P8
    choice = if_(equal(name("PICF"), ZERO), return_(name("PRTP"))) + else_(return_(name("PRTA")))
    return scope(
        "_SB",
        scope(
            "PCI0",
            define("PRTP", _pci0_routes("LNK")),
            define("PRTA", _pci0_routes("GSI")),
            method("_PRT", choice),
        ),
        method("IQST", if_(and_(integer(0x80), arg(0)), return_(integer(9))), return_(integer(11)), args=1),
        _current_resources(edge=edge),
        *(_link(number, edge=edge) for number in range(len(_LINKS))),
        *(_gsi_link(number, edge=edge) for number in range(len(_LINKS))),
    )


def _pci0_routes(prefix: str) -> bytes:
    return route_table(lambda slot, pin: prefix + _pci0_letter(slot, pin))


@cache
def expander_routes() -> bytes:
    """The routing table of an expander's root bus (`acpi.md` 9.9)."""
    return route_table(lambda slot, pin: "LNK" + _LINKS[(slot + pin + 3) & 3])


def route_table(link: Link) -> bytes:
    """A package of routes for every slot and pin."""
    routes = (
        package(integer(slot << 16 | 0xFFFF), integer(pin), name(link(slot, pin)), ZERO)
        for slot in range(_SLOTS)
        for pin in range(_PINS)
    )
    return package(*routes)


def _pci0_letter(slot: int, pin: int) -> str:
    first = 0 if slot in _FIRST_LINKS_SLOTS else 4
    swizzle = slot & 3 if slot < _ROUTED_BY_PIN_ONLY else 0
    return _LINKS[first + (swizzle + pin) % 4]


def _current_resources(*, edge: bool) -> bytes:
    return method(
        "IQCR",
        define("PRR0", template(interrupts(0, edge=edge))),
        dword_field(name("PRR0"), _INTERRUPT_OFFSET, "PRRI"),
        store(and_(arg(0), integer(0x0F)), name("PRRI")),
        return_(name("PRR0")),
        args=1,
        serialized=True,
    )


def _link(number: int, *, edge: bool) -> bytes:
    letter = _LINKS[number]
    register = name(f"PRQ{letter}")
    return device(
        f"LNK{letter}",
        define("_HID", eisa_id("PNP0C0F")),
        define("_UID", integer(number)),
        define("_PRS", template(interrupts(5, 10, 11, edge=edge))),
        method("_STA", return_(name("IQST") + register)),
        method("_DIS", or_(register, integer(0x80), register)),
        method("_CRS", return_(name("IQCR") + register)),
        method("_SRS", dword_field(arg(0), _INTERRUPT_OFFSET, "PRRI"), store(name("PRRI"), register), args=1),
    )


def _gsi_link(number: int, *, edge: bool) -> bytes:
    gsi = _FIRST_GSI + number
    resources = template(interrupts(gsi, edge=edge))
    return device(
        f"GSI{_LINKS[number]}",
        define("_HID", eisa_id("PNP0C0F")),
        define("_UID", integer(gsi)),
        define("_PRS", resources),
        define("_CRS", resources),
        method("_DIS"),
        method("_SRS", args=1),
    )
