"""Just enough of DER to walk through the structures of a signature (X.690); contents are the caller's to interpret."""

from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError

SEQUENCE, SET, OCTET_STRING, OBJECT_IDENTIFIER, INTEGER = 0x30, 0x31, 0x04, 0x06, 0x02
EXPLICIT_0, EXPLICIT_1 = 0xA0, 0xA1
_LONG_FORM = 0x80
_MAX_LENGTH_BYTES = 4
_MOST_CHILDREN = 64  # a signature brings a handful of certificates, and as many attributes


@dataclass(frozen=True)
class DerValue:
    """One value: its tag, its content, and the bytes of both."""

    tag: int
    content: bytes
    encoded: bytes

    def children(self) -> tuple["DerValue", ...]:
        """The values that make up the content of a constructed one; DocumentError for more than 64."""
        found: list[DerValue] = []
        reader, offset = ByteReader(self.content, "DER"), 0
        while offset < len(self.content):
            if len(found) == _MOST_CHILDREN:
                raise DocumentError(f"DER: a value of more than {_MOST_CHILDREN} others")
            found.append(_value_at(reader, offset))
            offset += len(found[-1].encoded)
        return tuple(found)


def parse_der(data: bytes) -> DerValue:
    """The value at the start of `data`. DocumentError if it is not DER; what follows it is left alone."""
    return _value_at(ByteReader(data, "DER"), 0)


def _value_at(reader: ByteReader, offset: int) -> DerValue:
    tag, first = reader.u8(offset, name="tag"), reader.u8(offset + 1, name="length")
    header, length = 2, first
    if first & _LONG_FORM:
        count = first & ~_LONG_FORM
        if not 1 <= count <= _MAX_LENGTH_BYTES:
            raise DocumentError(f"DER: length of {count} bytes, wanted 1 to {_MAX_LENGTH_BYTES}")
        header, length = 2 + count, int.from_bytes(reader.slice(offset + 2, count, name="length"), "big")
    content = reader.slice(offset + header, length, name="content")
    return DerValue(tag, content, reader.slice(offset, header + length, name="value"))
