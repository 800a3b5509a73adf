"""Just enough of DER to walk through the structures of a signature (X.690); contents are the caller's to interpret."""

from collections.abc import Iterator
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError

SEQUENCE, SET, OCTET_STRING, OBJECT_IDENTIFIER, INTEGER = 0x30, 0x31, 0x04, 0x06, 0x02
EXPLICIT_0, EXPLICIT_1 = 0xA0, 0xA1
_LONG_FORM = 0x80
_MAX_LENGTH_BYTES = 4


@dataclass(frozen=True)
class DerValue:
    """One value: its tag, its content, and the bytes of both."""

    tag: int
    content: bytes
    encoded: bytes

    def children(self) -> tuple["DerValue", ...]:
        """The values that make up the content of a constructed one."""
        return tuple(_values(self.content))


def parse_der(data: bytes) -> DerValue:
    """The value at the start of `data`. DocumentError if it is not DER; what follows it is left alone."""
    reader = ByteReader(data, "DER")
    tag, first = reader.u8(0, name="tag"), reader.u8(1, name="length")
    start, length = 2, first
    if first & _LONG_FORM:
        count = first & ~_LONG_FORM
        if not 1 <= count <= _MAX_LENGTH_BYTES:
            raise DocumentError(f"DER: length of {count} bytes, wanted 1 to {_MAX_LENGTH_BYTES}")
        start, length = 2 + count, int.from_bytes(reader.slice(2, count, name="length"), "big")
    content = reader.slice(start, length, name="content")
    return DerValue(tag, content, data[: start + length])


def _values(data: bytes) -> Iterator[DerValue]:
    while data:
        value = parse_der(data)
        yield value
        data = data[len(value.encoded) :]
