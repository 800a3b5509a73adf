"""Zeros behind data, for digests over what may be too much to hold at once."""

from collections.abc import Iterator

_PIECE = bytes(1 << 16)


def zeros(size: int) -> Iterator[bytes]:
    """`size` zero bytes, in pieces of at most 64 KiB; none for a negative size."""
    for left in range(size, 0, -len(_PIECE)):
        yield _PIECE[:left]
