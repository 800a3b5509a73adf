"""A method that writes to the debug port (`acpi.md` 9.1)."""

from functools import cache

from builder.measure.acpi.aml import (
    ONE,
    PRESERVE,
    ZERO,
    Access,
    Space,
    arg,
    element,
    field,
    increment,
    integer,
    less,
    local,
    method,
    name,
    region,
    scope,
    size_of,
    store,
    subtract,
    to_buffer,
    to_hex_string,
    while_,
)

_PORT = 0x402


@cache
def debug_port() -> bytes:
    """Scope(`\\`): the port and method DBUG."""
    text, length, position = local(0), local(1), local(2)
    loop = while_(less(position, length), store(element(text, position), name("DBGB")), increment(position))
    return scope(
        "\\",
        region("DBG", Space.SYSTEM_IO, offset=_PORT, length=1),
        field("DBG", Access.BYTE | PRESERVE, [("DBGB", 8)]),
        method(
            "DBUG",
            to_hex_string(arg(0), text),
            to_buffer(text, text),
            subtract(size_of(text), ONE, length),
            store(ZERO, position),
            loop,
            store(integer(0x0A), name("DBGB")),
            args=1,
        ),
    )
