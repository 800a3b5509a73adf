"""Both legs side by side against one leg alone, cold: what building twice costs."""

import os
import statistics
from collections.abc import Sequence

from benchmarks.report import Aim, Report, Row
from benchmarks.usage import Usage, median_usage, usage_row
from benchmarks.workplace import Setting, Workplace, workplace

_LIMIT = 1.15
_BUILDS = {"both legs": (), "leg a alone": ("--leg", "a"), "leg b alone": ("--leg", "b")}


def run(setting: Setting) -> Report:
    """Build in turns. The ratios are those within one round, of which the median is given."""
    with workplace(setting) as place:
        rounds = [_round(place) for _ in range(setting.rounds)]
    rows = [usage_row(name, median_usage([each[name] for each in rounds])) for name in _BUILDS]
    used = statistics.median(_over_ideal(each["both legs"]) for each in rounds)
    aims = [Aim("both legs, wall / (CPU / cores)", used, _LIMIT)]
    return Report([*rows, *_ratios(rounds), Row("both / (their CPU / cores)", {"wall s": used})], aims)


def _over_ideal(both: Usage) -> float:
    """How much longer it took than if every core had been busy all the time."""
    return both.wall / (both.cpu / len(os.sched_getaffinity(0)))


def _round(place: Workplace) -> dict[str, Usage]:
    return {name: place.build("out", "--cold", *options) for name, options in _BUILDS.items()}


def _ratios(rounds: Sequence[dict[str, Usage]]) -> list[Row]:
    walls = [[each[name].wall for name in _BUILDS] for each in rounds]
    slower = statistics.median(both / max(a, b) for both, a, b in walls)
    one_after_the_other = statistics.median(both / (a + b) for both, a, b in walls)
    return [
        Row("both / the slower one", {"wall s": slower}),
        Row("both / one after the other", {"wall s": one_after_the_other}),
    ]
