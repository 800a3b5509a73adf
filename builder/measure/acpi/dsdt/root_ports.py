"""ACPI hotplug of what is behind the root ports of pcie.0 (`acpi.md` 9.12).

QEMU numbers the ports from the newest to the oldest, and lists them in that order.
"""

from collections.abc import Sequence
from functools import cache, lru_cache

from builder.measure.acpi.aml import (
    ONE,
    ZERO,
    and_,
    arg,
    call,
    define,
    device,
    if_,
    index,
    integer,
    local,
    method,
    name,
    notify,
    package,
    return_,
    scope,
    store,
)
from builder.measure.acpi.hardware import PciFunction

_FIRST_SLOT = "S00"


@lru_cache(maxsize=256)
def slot_hotplug(number: int, children: tuple[int, ...]) -> bytes:
    """BSEL, the slots behind port `number`, and DVNT, which notifies them."""
    places = tuple(sorted(children)) or (0,)
    notified = if_(and_(arg(0), ONE), notify(_FIRST_SLOT, arg(1)))
    slots = (_slot(devfn, empty=not children) for devfn in places)
    return define("BSEL", integer(number)) + b"".join(slots) + method("DVNT", *(notified for _ in places), args=2)


def notifications(numbered_ports: Sequence[tuple[int, PciFunction]]) -> bytes:
    """Scope(`\\_SB.PCI0`): PCNT of every port, and the one that calls them all, both newest first."""
    paths = [(number, f"S{port.devfn:02X}") for number, port in numbered_ports]
    scopes = (scope(path, _port_notification(number)) for number, path in paths)
    every = method("PCNT", *(call(f"^{path}.PCNT") for _, path in paths))
    return scope("\\_SB.PCI0", *scopes, every)


def _slot(devfn: int, *, empty: bool) -> bytes:
    """An occupied slot has its device already."""
    if empty:
        return device(_FIRST_SLOT, define("_ADR", ZERO), _slot_terms())
    return scope(f"S{devfn:02X}", _slot_terms())


@cache
def _slot_terms() -> bytes:
    parameters = local(0)
    forward = call("PDSM", arg(0), arg(1), arg(2), arg(3), parameters)
    return (
        define("ASUN", ZERO)
        + method(
            "_DSM",
            store(package(ZERO, ZERO), parameters),
            store(name("BSEL"), index(parameters, ZERO)),
            store(name("ASUN"), index(parameters, ONE)),
            return_(forward),
            args=4,
            serialized=True,
        )
        + define("_SUN", ZERO)
        + method("_EJ0", call("PCEJ", name("BSEL"), name("_SUN")), args=1)
    )


@lru_cache(maxsize=256)
def _port_notification(number: int) -> bytes:
    inserted, removed = (call("DVNT", name("PCIU"), ONE), call("DVNT", name("PCID"), integer(3)))
    return method("PCNT", store(integer(number), name("BNUM")), inserted, removed)
