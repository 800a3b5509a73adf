"""Reading binary formats without ever reading past their end."""

import uuid

from builder.errors import DocumentError


class ByteReader:
    """Bounds-checked little-endian fields of `data`, at absolute offsets.

    Every method takes the `name` of the field and raises DocumentError naming it, its offset and the size of `data`
    if the field does not lie inside. `what` names the data in those errors.
    """

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self.what = what

    def __len__(self) -> int:
        return len(self._data)

    def slice(self, offset: int, size: int, *, name: str) -> bytes:
        """`size` bytes at `offset`."""
        if offset < 0 or size < 0 or offset + size > len(self._data):
            raise DocumentError(
                f"{self.what}: {name} at offset {offset:#x} is {size:#x} bytes, beyond the end at {len(self._data):#x}",
                hint="the file is truncated, or it is not what it claims to be",
            )
        return self._data[offset : offset + size]

    def u8(self, offset: int, *, name: str) -> int:
        """One byte."""
        return self.slice(offset, 1, name=name)[0]

    def u16(self, offset: int, *, name: str) -> int:
        """Two bytes."""
        return int.from_bytes(self.slice(offset, 2, name=name), "little")

    def u24(self, offset: int, *, name: str) -> int:
        """Three bytes."""
        return int.from_bytes(self.slice(offset, 3, name=name), "little")

    def u32(self, offset: int, *, name: str) -> int:
        """Four bytes."""
        return int.from_bytes(self.slice(offset, 4, name=name), "little")

    def u64(self, offset: int, *, name: str) -> int:
        """Eight bytes."""
        return int.from_bytes(self.slice(offset, 8, name=name), "little")

    def guid(self, offset: int, *, name: str) -> uuid.UUID:
        """Sixteen bytes in the mixed-endian form of EFI (`measurement.md` 0.2)."""
        return uuid.UUID(bytes_le=self.slice(offset, 16, name=name))
