"""The bytes around a difference, on both sides: what the rules look at."""

from collections.abc import Iterator
from dataclasses import dataclass

from builder.compare.diff import Run
from builder.compare.source import Extent

CONTEXT = 512  # bytes before and after: more than any path of a leg is long
MAX_REGION = 4096


@dataclass(frozen=True)
class Window:
    """One side's bytes around a differing region; `start` and `end` of the region are indexes into `data`."""

    data: bytes
    start: int
    end: int

    @property
    def region(self) -> bytes:
        """The differing bytes, at most MAX_REGION of them."""
        return self.data[self.start : self.end]

    def touches(self, start: int, end: int) -> bool:
        """Whether [start, end) holds a differing byte, or has some removed from inside it or beside it."""
        if self.start == self.end:
            return start <= self.start <= end
        return start < self.end and end > self.start

    def occurrences(self, value: bytes) -> Iterator[tuple[int, int]]:
        """Where `value` stands in the data and touches the region."""
        at = self.data.find(value) if value else -1
        while at >= 0:
            if self.touches(at, at + len(value)):
                yield at, at + len(value)
            at = self.data.find(value, at + 1)


@dataclass(frozen=True)
class Windows:
    """Both sides, and whether the region was cut because it is longer than a window."""

    a: Window
    b: Window
    cut: bool


def windows_of(a: Extent, b: Extent, run: Run) -> Windows:
    """The bytes around a run on both sides."""
    cut = max(run.a_length, run.b_length) > MAX_REGION
    return Windows(_window(a, run.offset, run.a_length), _window(b, run.offset, run.b_length), cut)


def _window(extent: Extent, offset: int, length: int) -> Window:
    begin = max(0, offset - CONTEXT)
    end = offset + min(length, MAX_REGION)
    data = extent.read(begin, end + CONTEXT - begin)
    return Window(data, offset - begin, min(end - begin, len(data)))
