"""The PCI host bridge and the memory of its configuration space (`acpi.md` 9.2)."""

from functools import cache

from builder.measure.acpi.aml import (
    ONE,
    ZERO,
    and_,
    arg,
    buffer,
    define,
    device,
    dword_field,
    eisa_id,
    element,
    else_,
    equal,
    if_,
    index,
    integer,
    less,
    local,
    method,
    name,
    not_,
    or_,
    package,
    return_,
    scope,
    store,
    string,
    uuid,
)
from builder.measure.acpi.aml_resources import dword_memory, template

MMCONFIG_SIZE = 256 << 20
_OSC_UUID = "33db4d5b-1ff7-401c-9657-7441c03dd766"
_DSM_UUID = "e5c937d0-3553-4d7a-9117-ea4d19c3434d"
_SHPC_HOTPLUG_ONLY, _ALL_CONTROLS = 0x1E, 0x1F


@cache
def host_bridge(*, hotplug: bool, mmconfig: int) -> bytes:
    """Devices PCI0 and DRAC."""
    reserved = dword_memory(mmconfig, mmconfig + MMCONFIG_SIZE - 1, cacheable=False)
    return scope(
        "_SB",
        device(
            "PCI0",
            *pcie_identity(),
            define("_UID", ZERO),
            operating_system_capabilities(native_hotplug=not hotplug),
            _static_device_method(),
        ),
        device("DRAC", define("_HID", string("PNP0C01")), define("_CRS", template(reserved))),
    )


def pcie_identity() -> tuple[bytes, bytes]:
    """`_HID` and `_CID` of a PCI Express root bridge."""
    return define("_HID", eisa_id("PNP0A08")), define("_CID", eisa_id("PNP0A03"))


@cache
def operating_system_capabilities(*, native_hotplug: bool) -> bytes:
    """Method _OSC: without native hotplug, the guest does not get control of it."""
    mask = _ALL_CONTROLS if native_hotplug else _SHPC_HOTPLUG_ONLY
    status, control, granted = name("CDW1"), name("CDW3"), local(0)
    known = if_(
        equal(arg(0), uuid(_OSC_UUID)),
        dword_field(arg(3), 4, "CDW2"),
        dword_field(arg(3), 8, "CDW3"),
        store(control, granted),
        and_(granted, integer(mask), granted),
        if_(not_(equal(arg(1), ONE)), or_(status, integer(8), status)),
        if_(not_(equal(control, granted)), or_(status, integer(0x10), status)),
        store(granted, control),
    )
    unknown = else_(or_(status, integer(4), status))
    return method("_OSC", dword_field(arg(3), 0, "CDW1"), known, unknown, return_(arg(3)), args=4)


def unless_device_naming(result: bytes) -> bytes:
    """How every _DSM here begins: nothing is supported but the PCI firmware specification's device naming."""
    return (
        store(buffer(b"\0"), result)
        + if_(not_(equal(arg(0), uuid(_DSM_UUID))), return_(result))
        + if_(less(arg(1), integer(2)), return_(result))
    )


def _static_device_method() -> bytes:
    result, number = local(0), local(1)
    return method(
        "EDSM",
        if_(
            equal(arg(2), ZERO),
            unless_device_naming(result),
            store(integer(0x81), index(result, ZERO)),
            return_(result),
        ),
        if_(
            equal(arg(2), integer(7)),
            store(package(ZERO, string("")), result),
            store(element(arg(4), ZERO), number),
            store(number, index(result, ZERO)),
            return_(result),
        ),
        args=5,
        serialized=True,
    )
