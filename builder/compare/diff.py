"""Where two ranges of bytes differ, found in pieces of 1 MiB."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from builder.compare.source import Extent

CHUNK = 1 << 20
MAX_RUNS = 8
MAX_RUN = 1 << 16  # a longer run is taken to go on to the end: its first bytes tell as much
_JOIN = 16  # equal bytes that do not yet end a run
_DIFFERING = re.compile(rb"[^\x00]+")


@dataclass(frozen=True, slots=True)
class Run:
    """Differing bytes: from `offset` on, so many on each side (the counts differ where something was inserted)."""

    offset: int
    a_length: int
    b_length: int


def first_difference(a: Extent, b: Extent) -> int | None:
    """The first offset where the sides differ; the shorter size if one is a prefix of the other; None if equal."""
    common = min(a.size, b.size)
    for offset in range(0, common, CHUNK):
        length = min(CHUNK, common - offset)
        left, right = a.read(offset, length), b.read(offset, length)
        if left != right:
            return offset + _first_in(left, right)
    return None if a.size == b.size else common


def differing_runs(a: Extent, b: Extent) -> tuple[tuple[Run, ...], bool]:
    """The runs in which the sides differ, at most MAX_RUNS, and whether there are more of them.

    Sides of unequal size have one run: what is left between the common beginning and the common end.
    """
    first = first_difference(a, b)
    if first is None:
        return (), False
    if a.size != b.size:
        end = _common_end(a, b, min(a.size, b.size) - first)
        return (Run(first, a.size - first - end, b.size - first - end),), False
    runs: list[Run] = []
    for offset, length in _joined(_pieces(a, b, first)):
        if len(runs) == MAX_RUNS:
            return tuple(runs), True
        runs.append(Run(offset, length, length))
    return tuple(runs), False


def _first_in(left: bytes, right: bytes) -> int:
    """The first index where two unequal byte strings differ, by halving."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _pieces(a: Extent, b: Extent, start: int) -> Iterator[tuple[int, int]]:
    """Offset and length of every stretch of differing bytes of two sides of equal size."""
    for offset in range(start, a.size, CHUNK):
        left, right = a.read(offset, CHUNK), b.read(offset, CHUNK)
        if left == right:
            continue
        mask = int.from_bytes(left, "little") ^ int.from_bytes(right, "little")
        for match in _DIFFERING.finditer(mask.to_bytes(max(len(left), len(right)), "little")):
            yield offset + match.start(), match.end() - match.start()


def _joined(pieces: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Pieces with fewer than _JOIN equal bytes between them as one; the last one where a run gets too long."""
    start = end = -1
    for offset, length in pieces:
        if start >= 0 and offset - end >= _JOIN:
            yield start, end - start
            start = -1
        start, end = (offset if start < 0 else start), offset + length
        if end - start > MAX_RUN:
            break
    if start >= 0:
        yield start, end - start


def _common_end(a: Extent, b: Extent, most: int) -> int:
    """How many of the last bytes of both sides are the same, at most `most`."""
    equal = 0
    while equal < most:
        length = min(CHUNK, most - equal)
        left = a.read(a.size - equal - length, length)
        right = b.read(b.size - equal - length, length)
        if left != right:
            return equal + _first_in(left[::-1], right[::-1])
        equal += length
    return equal
