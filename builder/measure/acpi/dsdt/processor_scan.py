"""CSCN, the method that looks for added and removed processors (`acpi.md` 9.7)."""

from functools import lru_cache

from builder.measure.acpi.aml import (
    BREAK,
    DEBUG,
    ONE,
    ZERO,
    acquire,
    both,
    call,
    define,
    either,
    element,
    else_,
    equal,
    if_,
    increment,
    index,
    integer,
    less,
    local,
    method,
    name,
    package,
    release,
    store,
    while_,
)
from builder.measure.acpi.hardware import AcpiProfile

_RESOURCES = "\\_SB.PCI0.PRES"
_LOCK = f"{_RESOURCES}.CPLK"
_SELECTOR, _COMMAND, _DATA, _INSERTED, _REMOVED = (
    name(f"{_RESOURCES}.{register}") for register in ("CSEL", "CCMD", "CDAT", "CINS", "CRMV")
)
_LISTED = 255  # processors a round can handle
_FOUND, _ADDED, _POSITION, _NUMBER, _AGAIN, _EJECTED = (local(number) for number in range(6))
_NEW, _EJECT_LIST = name("CNEW"), name("CEJL")


@lru_cache(maxsize=64)
def processor_scan(profile: AcpiProfile, vcpus: int) -> bytes:
    """Method CSCN; from QEMU 10.0 on it collects removals in a list as it does additions."""
    ejects = _has_eject_list(profile)
    outer = while_(
        equal(_AGAIN, ONE),
        store(ZERO, _AGAIN),
        store(ONE, _FOUND),
        store(ZERO, _ADDED),
        store(ZERO, _EJECTED) if ejects else b"",
        _collect(vcpus, ejects=ejects),
        _announce_added(),
        _announce_ejected() if ejects else b"",
    )
    return method(
        "CSCN",
        acquire(_LOCK),
        define("CNEW", package(count=_LISTED)),
        define("CEJL", package(count=_LISTED)) if ejects else b"",
        store(ZERO, _NUMBER),
        store(ONE, _AGAIN),
        outer,
        release(_LOCK),
        serialized=True,
    )


def _has_eject_list(profile: AcpiProfile) -> bool:
    return profile not in (AcpiProfile.P8, AcpiProfile.P92)


def _collect(vcpus: int, *, ejects: bool) -> bytes:
    """Go on from where the last round ended, until no further processor has an event or a list is full."""
    full = equal(_ADDED, integer(_LISTED))
    if ejects:
        full = either(full, equal(_EJECTED, integer(_LISTED)))
    return while_(
        both(equal(_FOUND, ONE), less(_NUMBER, integer(vcpus))),
        store(ZERO, _FOUND),
        store(_NUMBER, _SELECTOR),
        store(ZERO, _COMMAND),
        if_(less(_DATA, _NUMBER), BREAK),
        if_(full, store(ONE, _AGAIN), BREAK),
        store(_DATA, _NUMBER),
        if_(equal(_INSERTED, ONE), *_listed(_NEW, _ADDED)),
        if_(equal(_REMOVED, ONE), *_listed(_EJECT_LIST, _EJECTED)) if ejects else else_(_eject_at_once()),
        increment(_NUMBER),
    )


def _listed(events: bytes, count: bytes) -> tuple[bytes, ...]:
    return store(_NUMBER, index(events, count)), increment(count), store(ONE, _FOUND)


def _eject_at_once() -> bytes:
    return if_(equal(_REMOVED, ONE), call("CTFY", _NUMBER, integer(3)), store(ONE, _REMOVED), store(ONE, _FOUND))


def _announce_added() -> bytes:
    return store(ZERO, _POSITION) + while_(
        less(_POSITION, _ADDED),
        store(element(_NEW, _POSITION), _NUMBER),
        call("CTFY", _NUMBER, ONE),
        store(_NUMBER, DEBUG),
        store(_NUMBER, _SELECTOR),
        store(ONE, _INSERTED),
        increment(_POSITION),
    )


def _announce_ejected() -> bytes:
    return store(ZERO, _POSITION) + while_(
        less(_POSITION, _EJECTED),
        store(element(_EJECT_LIST, _POSITION), _NUMBER),
        call("CTFY", _NUMBER, integer(3)),
        store(_NUMBER, _SELECTOR),
        store(ONE, _REMOVED),
        increment(_POSITION),
    )
