"""Resource templates of ACPI's `_CRS` and `_PRS` as buffers, encoded as QEMU does (`acpi.md` 9.0).

A range is written by its first and last address; its length is cut to the width of the descriptor.
"""

import struct

from builder.measure.acpi.aml import buffer

_END = b"\x79\x00"
IRQ_FLAGS_FORM = b"\x23\x10\x00\x18"  # IRQ 4, active low, level, shared, wake capable: COM1 since QEMU 11.1


def template(*descriptors: bytes) -> bytes:
    """A buffer of resource descriptors and the end tag, whose checksum is not computed."""
    return buffer(b"".join(descriptors) + _END)


def io(port: int, length: int, *, align: int = 1) -> bytes:
    """`length` I/O ports from `port` on."""
    return struct.pack("<BBHHBB", 0x47, 0x01, port, port, align, length)


def irq(number: int) -> bytes:
    """An interrupt of the PIC, without flags."""
    return struct.pack("<BH", 0x22, 1 << number)


def interrupts(*numbers: int, edge: bool) -> bytes:
    """Extended interrupts: consumer, active high, shared, and edge or level triggered."""
    flags = 0x01 | 0x08 | edge << 1
    return struct.pack(f"<BHBB{len(numbers)}I", 0x89, 2 + 4 * len(numbers), flags, len(numbers), *numbers)


def bus_numbers(first: int, last: int) -> bytes:
    """A range of bus numbers."""
    return _word_range(2, 0x00, first, last)


def word_io(first: int, last: int) -> bytes:
    """A range of I/O ports of a bridge."""
    return _word_range(1, 0x03, first, last)


def dword_memory(first: int, last: int, *, cacheable: bool) -> bytes:
    """A range of memory addresses below 4 GiB."""
    kind = 0x03 if cacheable else 0x01
    return struct.pack("<BHBBBIIIII", 0x87, 0x17, 0, 0x0C, kind, 0, first, last, 0, last - first + 1 & 0xFFFFFFFF)


def qword_memory(first: int, last: int, *, cacheable: bool) -> bytes:
    """A range of memory addresses of 64 bits."""
    kind = 0x03 if cacheable else 0x01
    return struct.pack("<BHBBBQQQQQ", 0x8A, 0x2B, 0, 0x0C, kind, 0, first, last, 0, last - first + 1)


def fixed_memory(address: int, length: int) -> bytes:
    """A read-only range of memory addresses below 4 GiB at a fixed place."""
    return struct.pack("<BHBII", 0x86, 9, 0, address, length)


def _word_range(kind: int, flags: int, first: int, last: int) -> bytes:
    numbers = (0, first, last, 0, last - first + 1 & 0xFFFF)
    return struct.pack("<BHBBBHHHHH", 0x88, 0x0D, kind, 0x0C, flags, *numbers)
