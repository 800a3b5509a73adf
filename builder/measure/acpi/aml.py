"""ACPI Machine Language: terms and resource descriptors as bytes, encoded as QEMU does (`acpi.md` 9.0).

Every function gives the encoding of one term; terms are joined with `+`. An operand is a term too: an `integer`, a
`name`, `arg(0)`, `local(0)`, another operation. Names are written as in ASL (`\\_SB.PCI0`, `^S08.PCNT`). Only what
QEMU's tables use is here, and arguments are the generator's own: nothing is checked but what cannot be encoded.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache

ZERO = b"\x00"
ONE = b"\x01"
DEBUG = b"\x5b\x31"
BREAK = b"\xa5"
_NULL = b"\x00"  # a target or a name that is not there
_INTEGER_FORMS = ((0x0A, 1), (0x0B, 2), (0x0C, 4), (0x0E, 8))  # prefix, bytes


class Space(IntEnum):
    """Address space of an operation region."""

    SYSTEM_MEMORY = 0
    SYSTEM_IO = 1
    PCI_CONFIG = 2


class Access(IntEnum):
    """Access type of a field; with LOCK, PRESERVE and WRITE_AS_ZEROS it makes the flags."""

    BYTE = 1
    DWORD = 3


PRESERVE, LOCK, WRITE_AS_ZEROS = 0x00, 0x10, 0x40


def package_length(size: int, *, counts_itself: bool = True) -> bytes:
    """The shortest encoding of a length of 0 to 2^28 - 1; the length of a package counts its own encoding."""
    for extra in range(4):
        total = size + counts_itself * (extra + 1)
        if extra == 0 and total < 1 << 6:
            return bytes([total])
        if extra and total < 1 << (4 + 8 * extra):
            return bytes([extra << 6 | total & 0xF]) + (total >> 4).to_bytes(extra, "little")
    raise OverflowError(f"AML package of {size} bytes, wanted less than 2^28")


def integer(value: int) -> bytes:
    """The shortest encoding of an unsigned 64-bit constant."""
    if value in (0, 1):
        return bytes([value])
    for prefix, size in _INTEGER_FORMS:
        if value < 1 << 8 * size:
            return bytes([prefix]) + value.to_bytes(size, "little")
    raise OverflowError(f"AML integer {value:#x}, wanted less than 2^64")


@lru_cache(maxsize=8192)
def name(path: str) -> bytes:
    """A name: `FOO`, `A.B`, `\\_SB.PCI0`, `^FOO`, `\\`. Segments are padded with `_`."""
    bare = path.lstrip("\\^")
    prefix = path[: len(path) - len(bare)].encode("ascii")
    segments = [segment.encode("ascii").ljust(4, b"_") for segment in bare.split(".")] if bare else []
    if len(segments) > 2:
        return prefix + b"\x2f" + bytes([len(segments)]) + b"".join(segments)
    return prefix + (b"", b"", b"\x2e")[len(segments)] + (b"".join(segments) or _NULL)


def string(text: str) -> bytes:
    """A string constant."""
    return b"\x0d" + text.encode("ascii") + b"\0"


def buffer(data: bytes) -> bytes:
    """A buffer that holds exactly `data`."""
    return _package(b"\x11", integer(len(data)) + data)


def uuid(text: str) -> bytes:
    """A buffer with a UUID in the byte order of GUIDs."""
    first, second, third, *rest = text.split("-")
    parts = (int(first, 16), int(second, 16), int(third, 16), bytes.fromhex("".join(rest)))
    return buffer(struct.pack("<IHH8s", *parts))


def eisa_id(text: str) -> bytes:
    """The integer of an EISA id such as PNP0A08; its bytes are big-endian."""
    letters = 0
    for letter in text[:3]:
        letters = letters << 5 | ord(letter) - 64
    return b"\x0c" + (letters << 16 | int(text[3:], 16)).to_bytes(4, "big")


def package(*elements: bytes, count: int | None = None) -> bytes:
    """A package of `count` elements (default: as many as given); those not given are uninitialised."""
    size = len(elements) if count is None else count
    return _package(b"\x12", bytes([size]) + b"".join(elements))


def arg(index: int) -> bytes:
    """An argument of the method."""
    return bytes([0x68 + index])


def local(index: int) -> bytes:
    """A local variable of the method."""
    return bytes([0x60 + index])


def define(path: str, value: bytes) -> bytes:
    """ASL's Name: an object with a value."""
    return b"\x08" + name(path) + value


def scope(path: str, *terms: bytes) -> bytes:
    """Terms within an existing object."""
    return _package(b"\x10", name(path) + b"".join(terms))


def device(path: str, *terms: bytes) -> bytes:
    """A device."""
    return _package(b"\x5b\x82", name(path) + b"".join(terms))


def processor(path: str, identity: int, *terms: bytes) -> bytes:
    """A processor without a register block."""
    return _package(b"\x5b\x83", name(path) + bytes([identity]) + bytes(5) + b"".join(terms))


def method(path: str, *terms: bytes, args: int = 0, serialized: bool = False) -> bytes:
    """A control method of `args` arguments."""
    return _package(b"\x14", name(path) + bytes([args | serialized << 3]) + b"".join(terms))


def mutex(path: str) -> bytes:
    """A mutex of sync level 0."""
    return b"\x5b\x01" + name(path) + b"\0"


def region(path: str, space: Space, *, offset: int, length: int) -> bytes:
    """An operation region."""
    return b"\x5b\x80" + name(path) + bytes([space]) + integer(offset) + integer(length)


def field(path: str, flags: int, units: Iterable[tuple[str | None, int]]) -> bytes:
    """Fields of a region: names with their widths in bits, None for bits to skip."""
    encoded = (
        (_NULL if unit is None else name(unit)) + package_length(width, counts_itself=False) for unit, width in units
    )
    return _package(b"\x5b\x81", name(path) + bytes([flags]) + b"".join(encoded))


def dword_field(source: bytes, offset: int, path: str) -> bytes:
    """CreateDWordField."""
    return b"\x8a" + source + integer(offset) + name(path)


def acquire(path: str) -> bytes:
    """Acquire a mutex without a time limit."""
    return b"\x5b\x23" + name(path) + b"\xff\xff"


def release(path: str) -> bytes:
    """Release a mutex."""
    return b"\x5b\x27" + name(path)


def call(path: str, *arguments: bytes) -> bytes:
    """A method invocation."""
    return name(path) + b"".join(arguments)


def store(value: bytes, target: bytes) -> bytes:
    """target = value."""
    return b"\x70" + value + target


def and_(left: bytes, right: bytes, target: bytes = _NULL) -> bytes:
    """Bitwise left & right, into `target` if given."""
    return b"\x7b" + left + right + target


def or_(left: bytes, right: bytes, target: bytes = _NULL) -> bytes:
    """Bitwise left | right, into `target` if given."""
    return b"\x7d" + left + right + target


def subtract(left: bytes, right: bytes, target: bytes = _NULL) -> bytes:
    """left - right, into `target` if given."""
    return b"\x74" + left + right + target


def shift_left(left: bytes, right: bytes, target: bytes = _NULL) -> bytes:
    """left << right, into `target` if given."""
    return b"\x79" + left + right + target


def shift_right(left: bytes, right: bytes, target: bytes = _NULL) -> bytes:
    """left >> right, into `target` if given."""
    return b"\x7a" + left + right + target


def increment(target: bytes) -> bytes:
    """target++."""
    return b"\x75" + target


def to_buffer(value: bytes, target: bytes) -> bytes:
    """ToBuffer."""
    return b"\x96" + value + target


def to_hex_string(value: bytes, target: bytes) -> bytes:
    """ToHexString."""
    return b"\x98" + value + target


def size_of(value: bytes) -> bytes:
    """SizeOf."""
    return b"\x87" + value


def index(value: bytes, position: bytes) -> bytes:
    """value[position], a reference."""
    return b"\x88" + value + position + _NULL


def element(value: bytes, position: bytes) -> bytes:
    """What value[position] refers to."""
    return b"\x83" + index(value, position)


def notify(path: str, value: bytes) -> bytes:
    """Notify."""
    return b"\x86" + name(path) + value


def both(left: bytes, right: bytes) -> bytes:
    """Logical and."""
    return b"\x90" + left + right


def either(left: bytes, right: bytes) -> bytes:
    """Logical or."""
    return b"\x91" + left + right


def not_(value: bytes) -> bytes:
    """Logical not."""
    return b"\x92" + value


def equal(left: bytes, right: bytes) -> bytes:
    """left == right."""
    return b"\x93" + left + right


def greater(left: bytes, right: bytes) -> bytes:
    """left > right."""
    return b"\x94" + left + right


def less(left: bytes, right: bytes) -> bytes:
    """left < right."""
    return b"\x95" + left + right


def if_(condition: bytes, *terms: bytes) -> bytes:
    """Terms for when `condition` holds."""
    return _package(b"\xa0", condition + b"".join(terms))


def else_(*terms: bytes) -> bytes:
    """Terms for when the condition before does not hold."""
    return _package(b"\xa1", b"".join(terms))


def while_(condition: bytes, *terms: bytes) -> bytes:
    """Terms for as long as `condition` holds."""
    return _package(b"\xa2", condition + b"".join(terms))


def return_(value: bytes) -> bytes:
    """Return."""
    return b"\xa4" + value


def _package(opcode: bytes, content: bytes) -> bytes:
    return opcode + package_length(len(content)) + content
