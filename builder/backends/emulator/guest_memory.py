"""A guest's memory as a file without a name, which QEMU maps and we read: nothing in the guest shows it.

Only pages that the guest has touched are there, so that reading it all takes a fraction of a second whatever its size.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

# where q35 ends the memory below 4 GiB, and with how much of it (QEMU's pc_q35_init)
_LOW_MEMORY_SPLIT, _LOW_MEMORY_BELOW = 0x80000000, 0xB0000000
_HIGH_MEMORY = 1 << 32
_CHUNK = 16 << 20


class GuestMemory:
    """A Memory of `builder.measure.evidence.guest_log`: places are offsets in the file. Made by `guest_memory`."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size

    @property
    def descriptor(self) -> int:
        """The file, for QEMU to inherit."""
        return self._descriptor

    @property
    def backend(self) -> str:
        """The memory backend of QEMU, kind and options."""
        return f"memory-backend-file,mem-path=/proc/self/fd/{self._descriptor},share=on"

    def find(self, pattern: bytes) -> Iterator[int]:
        """Every place of the pattern, lowest first."""
        for start, end in self._touched():
            for chunk in range(start, end, _CHUNK):
                yield from self._find_in(chunk, min(chunk + _CHUNK, end), pattern)

    def read(self, place: int, size: int) -> bytes:
        """At most `size` bytes at an offset; fewer at the end of memory, none beyond."""
        if not 0 <= place < self._size:
            return b""
        return os.pread(self._descriptor, size, place)

    def read_physical(self, address: int, size: int) -> bytes:
        """At most `size` bytes at a physical address; none where the guest has no memory."""
        low = self._size if self._size < _LOW_MEMORY_BELOW else _LOW_MEMORY_SPLIT
        if address >= _HIGH_MEMORY:
            return self.read(address - _HIGH_MEMORY + low, size)
        return self.read(address, min(size, low - address)) if address < low else b""

    def _touched(self) -> Iterator[tuple[int, int]]:
        """The parts that were ever written, holes between them left out (lseek(2), SEEK_DATA)."""
        end = 0
        while end < self._size:
            try:
                start = os.lseek(self._descriptor, end, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole is left
                return
            end = os.lseek(self._descriptor, start, os.SEEK_HOLE)
            yield start, end

    def _find_in(self, start: int, end: int, pattern: bytes) -> Iterator[int]:
        """Places that begin in this part; the pattern may end behind it."""
        data = self.read(start, end - start + len(pattern) - 1)
        found = data.find(pattern)
        while found >= 0:
            yield start + found
            found = data.find(pattern, found + 1)


@contextmanager
def guest_memory(size: int) -> Iterator[GuestMemory]:
    """Memory of `size` bytes, gone at the end of the block and with the programs that inherited it."""
    descriptor = os.memfd_create("guest-memory", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        yield GuestMemory(descriptor, size)
    finally:
        os.close(descriptor)
