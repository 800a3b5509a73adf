"""Where two ranges of bytes differ."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.compare.diff import CHUNK, MAX_RUN, MAX_RUNS, Run, differing_runs, first_difference
from builder.compare.source import BytesSource, Extent, in_memory, whole
from builder.errors import DocumentError

BYTES = st.binary(max_size=200)


def test_equal_bytes_have_no_difference() -> None:
    data = bytes(range(256)) * 10
    assert first_difference(in_memory(data), in_memory(data)) is None
    assert differing_runs(in_memory(data), in_memory(data)) == ((), False)


@pytest.mark.parametrize("offset", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 6])
def test_one_flipped_bit_is_found_at_its_offset(offset: int) -> None:
    data = bytearray(2 * CHUNK + 7)
    original = bytes(data)
    data[offset] ^= 0x40
    assert differing_runs(in_memory(original), in_memory(bytes(data))) == ((Run(offset, 1, 1),), False)


@pytest.mark.parametrize("length", [1, CHUNK, CHUNK + 1])
def test_a_prefix_differs_at_its_end(length: int) -> None:
    data = bytes(CHUNK + 2)
    assert first_difference(in_memory(data[:length]), in_memory(data)) == length


def test_bytes_put_in_are_one_run_between_what_is_common() -> None:
    runs, more = differing_runs(in_memory(b"prefix=/a;end"), in_memory(b"prefix=/longer/b;end"))
    assert runs == (Run(8, 1, 8),)
    assert not more


def test_more_runs_than_are_listed_are_not_forgotten() -> None:
    a = bytes(100 * (MAX_RUNS + 1))
    b = b"".join(b"\1" + bytes(99) for _ in range(MAX_RUNS + 1))
    runs, more = differing_runs(in_memory(a), in_memory(b))
    assert len(runs) == MAX_RUNS
    assert more


def test_a_long_run_is_listed_once_and_not_measured_to_its_end() -> None:
    length = 4 * MAX_RUN
    runs, _ = differing_runs(in_memory(bytes(length)), in_memory(b"\1\0" * (length // 2)))
    assert len(runs) == 1
    assert runs[0].offset == 0
    assert MAX_RUN < runs[0].a_length <= length


@given(BYTES, BYTES)
def test_the_first_difference_is_the_first_one(a: bytes, b: bytes) -> None:
    expected = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if expected is None and len(a) != len(b):
        expected = min(len(a), len(b))
    assert first_difference(in_memory(a), in_memory(b)) == expected


@given(BYTES, BYTES)
def test_runs_cover_every_differing_byte(a: bytes, b: bytes) -> None:
    runs, more = differing_runs(in_memory(a), in_memory(b))
    assert bool(runs) == (a != b)
    if a != b and not more:
        masked = [bytearray(a), bytearray(b)]
        for run in reversed(runs):
            del masked[0][run.offset : run.offset + run.a_length]
            del masked[1][run.offset : run.offset + run.b_length]
        assert masked[0] == masked[1]


@dataclass(frozen=True)
class Shrunk:
    """A file that lost its end after it was opened."""

    data: bytes
    size: int

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def test_a_file_that_shrinks_while_it_is_read_is_not_taken_for_equal() -> None:
    data = bytes(1000)
    shrunk = whole(Shrunk(data[:500], 1000))
    for side in (shrunk, whole(Shrunk(data, 1000))):
        with pytest.raises(DocumentError, match="1000 bytes became 500"):
            first_difference(shrunk, side)


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (0, 11), (10, 1), (0, -1), (1 << 80, 0)])
def test_a_part_that_does_not_lie_inside_is_refused(offset: int, size: int) -> None:
    with pytest.raises(DocumentError, match="do not lie within 10 bytes"):
        Extent(BytesSource(bytes(10)), 0, 10).part(offset, size, what="part")


def test_reading_never_leaves_the_extent() -> None:
    extent = Extent(BytesSource(b"0123456789"), 3, 4)
    assert extent.read(0, 100) == b"3456"
    assert extent.read(3, 1) == b"6"
    assert extent.read(4, 1) == b""
    assert extent.rest(9).size == 0
