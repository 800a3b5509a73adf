"""What something cost, and what several cost together."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report import Row


@dataclass(frozen=True)
class Usage:
    """What something cost: seconds, and for programs the peak resident memory of the largest process but those in
    sandboxes, in MB (10^6 bytes). `own_cpu` is the CPU time of the process itself, `child_cpu` of all that it started.
    """

    wall: float
    own_cpu: float
    child_cpu: float
    peak: float = 0.0

    @property
    def cpu(self) -> float:
        """All CPU time."""
        return self.own_cpu + self.child_cpu


def usage_row(name: str, usage: Usage) -> Row:
    """A row of what a program cost."""
    return Row(name, {"wall s": usage.wall, "CPU s": usage.cpu, "of it own s": usage.own_cpu, "peak MB": usage.peak})


def median_usage(usages: Sequence[Usage]) -> Usage:
    """The median of each number by itself; of memory, the most."""
    return Usage(
        wall=statistics.median(usage.wall for usage in usages),
        own_cpu=statistics.median(usage.own_cpu for usage in usages),
        child_cpu=statistics.median(usage.child_cpu for usage in usages),
        peak=max(usage.peak for usage in usages),
    )


def sum_usage(usages: Sequence[Usage]) -> Usage:
    """All of them one after the other."""
    return Usage(
        wall=sum(usage.wall for usage in usages),
        own_cpu=sum(usage.own_cpu for usage in usages),
        child_cpu=sum(usage.child_cpu for usage in usages),
        peak=max(usage.peak for usage in usages),
    )
