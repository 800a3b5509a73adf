"""A guest's memory read from outside: places, physical addresses, and holes that nobody touched."""

import os

import pytest

from builder.backends.emulator.guest_memory import GuestMemory, guest_memory

GIB = 1 << 30
CHUNK = 16 << 20


def written(memory: GuestMemory, place: int, data: bytes) -> None:
    os.pwrite(memory.descriptor, data, place)


@pytest.mark.parametrize("place", [0, 1, 4096, CHUNK - 3, CHUNK, 5 * CHUNK - 1, GIB - 7])
def test_a_pattern_is_found_wherever_it_lies_across_chunks_and_holes_too(place: int) -> None:
    with guest_memory(GIB) as memory:
        written(memory, place, b"pattern")
        assert list(memory.find(b"pattern")) == [place]


def test_every_place_is_found_once_and_overlapping_ones_too() -> None:
    with guest_memory(3 * CHUNK) as memory:
        places = [CHUNK - 4, CHUNK - 2, CHUNK, 2 * CHUNK - 1]
        for place in places:
            written(memory, place, b"aXa")
        written(memory, CHUNK - 4, b"aXaXaXa")
        assert list(memory.find(b"aXa")) == places


def test_untouched_memory_has_nothing() -> None:
    with guest_memory(64 * GIB) as memory:
        assert list(memory.find(b"\0\0\0\0")) == []
        assert memory.read(GIB, 4) == bytes(4)


def test_what_is_beyond_the_end_reads_as_nothing() -> None:
    with guest_memory(CHUNK) as memory:
        assert memory.read(CHUNK - 2, 100) == bytes(2)
        assert memory.read(CHUNK, 1) == memory.read(-1, 1) == b""


@pytest.mark.parametrize(
    ("size", "address", "place"),
    [
        (GIB, 5, 5),
        (2815 << 20, (2815 << 20) - 4, (2815 << 20) - 4),
        (2816 << 20, 0x7FFFFFF0, 0x7FFFFFF0),
        (2816 << 20, 0x100000000, 0x80000000),
        (4 * GIB, 0x100000008, 0x80000008),
    ],
)
def test_physical_addresses_are_those_of_a_q35(size: int, address: int, place: int) -> None:
    with guest_memory(size) as memory:
        written(memory, place, b"here")
        assert memory.read_physical(address, 4) == b"here"


@pytest.mark.parametrize(
    ("size", "address"),
    [(GIB, GIB), (2816 << 20, 0x80000000), (4 * GIB, 0xFED40000), (4 * GIB, 6 * GIB), (GIB, 1 << 63)],
)
def test_a_physical_address_without_memory_reads_as_nothing(size: int, address: int) -> None:
    with guest_memory(size) as memory:
        assert memory.read_physical(address, 16) == b""


def test_memory_that_ends_in_the_middle_of_a_read_gives_what_is_there() -> None:
    with guest_memory(4 * GIB) as memory:
        assert memory.read_physical(0x7FFFFFFE, 16) == bytes(2)


def test_nothing_is_left_after_the_block() -> None:
    with guest_memory(CHUNK) as memory:
        descriptor = memory.descriptor
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
