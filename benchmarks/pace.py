"""The pace of functions against a plain one that does the least that has to be done, in CPU time of this process."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.report import Row


@dataclass(frozen=True)
class Pace:
    """A function to measure."""

    name: str
    work: Callable[[], object]


def measure_pace(plain: Pace, others: Sequence[Pace], *, size: int, turns: int) -> list[Row]:
    """One row each, `plain` first: the median of seconds and MB/s, and of the ratios to `plain` of the same turn.

    All work through `size` bytes; they take turns, so that a slow moment of the machine hits all of them.
    """
    paces = [plain, *others]
    seconds = [[_seconds(pace) for pace in paces] for _ in range(turns)]
    return [
        _row(pace, [turn[index] for turn in seconds], [turn[0] for turn in seconds], size)
        for index, pace in enumerate(paces)
    ]


def _seconds(pace: Pace) -> float:
    start = time.process_time()
    pace.work()
    return time.process_time() - start


def _row(pace: Pace, seconds: Sequence[float], plain: Sequence[float], size: int) -> Row:
    median = statistics.median(seconds)
    ratio = statistics.median(ours / theirs for ours, theirs in zip(seconds, plain, strict=True))
    return Row(pace.name, {"CPU ms": 1000 * median, "MB": size / 1e6, "MB/s": size / 1e6 / median, "ratio": ratio})
