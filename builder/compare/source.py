"""Bytes that are read piece by piece: artefacts are compared without ever being in memory as a whole."""

from dataclasses import dataclass
from typing import Protocol

from builder.errors import DocumentError

_ZEROS = 1 << 16


class ByteSource(Protocol):
    """Random access to bytes. The edge implements it on files; `BytesSource` holds them in memory."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end."""


@dataclass(frozen=True, slots=True)
class BytesSource:
    """Bytes in memory."""

    data: bytes | bytearray

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`."""
        return bytes(memoryview(self.data)[offset : offset + length])


@dataclass(frozen=True, slots=True)
class Extent:
    """A range of a source. `located` says that the source is the artefact itself, so that offsets can be translated."""

    source: ByteSource
    start: int
    size: int
    located: bool = True

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset` within this extent; DocumentError if the source has become shorter."""
        length = max(0, min(length, self.size - offset))
        data = self.source.read(self.start + offset, length) if length else b""
        if len(data) != length:
            raise DocumentError(f"{self.size} bytes became {offset + len(data)} while they were compared")
        return data

    def exactly(self, offset: int, length: int, *, what: str) -> bytes:
        """`length` bytes from `offset`; DocumentError naming `what` if they are not all there."""
        data = self.read(offset, length) if offset >= 0 else b""
        if len(data) != length:
            raise DocumentError(f"{what}: wants {length} bytes at {offset}, but there are {self.size} in all")
        return data

    def part(self, offset: int, size: int, *, what: str) -> "Extent":
        """The extent of `size` bytes from `offset`; DocumentError naming `what` if it does not lie inside."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise DocumentError(f"{what}: {size} bytes at {offset} do not lie within {self.size} bytes")
        return Extent(self.source, self.start + offset, size, self.located)

    def rest(self, offset: int) -> "Extent":
        """Everything from `offset` on; empty if that is behind the end."""
        offset = min(offset, self.size)
        return Extent(self.source, self.start + offset, self.size - offset, self.located)

    def after_zeros(self, offset: int, *, unit: int) -> "Extent":
        """What is left after the zeros from `offset` on, counted in whole units."""
        while offset < self.size:
            data = self.read(offset, _ZEROS)
            zeros = len(data) - len(data.lstrip(b"\0"))
            if zeros < len(data):
                return self.rest(offset + zeros - zeros % unit)
            offset += zeros
        return self.rest(self.size)

    def artifact_offset(self, offset: int) -> int | None:
        """Where `offset` lies in the artefact, or None where its bytes do not occur there as they are."""
        return self.start + offset if self.located else None


def whole(source: ByteSource) -> Extent:
    """The extent of a whole artefact."""
    return Extent(source, 0, source.size)


def in_memory(data: bytes | bytearray) -> Extent:
    """An extent of bytes that do not occur in the artefact as they are, for example decompressed ones."""
    return Extent(BytesSource(data), 0, len(data), located=False)


def printable(name: bytes) -> str:
    """A name out of hostile data as text that is safe on a terminal and in JSON; other bytes show as escapes."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
