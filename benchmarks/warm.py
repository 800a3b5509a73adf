"""Runs that have nothing to do, or only to check, against starting Python: each several times, in turns."""

import sys
from collections.abc import Callable, Mapping

from benchmarks.report import Aim, BenchmarkError, Report, Row
from benchmarks.usage import Usage, median_usage, usage_row
from benchmarks.workplace import Setting, Workplace, workplace

_TURNS = 7
_LIMIT = 1.0
_PYTHON = "bare Python"
_NOTHING_TO_DO = ("fetch, nothing missing", "build, nothing changed")


def run(setting: Setting) -> Report:
    """Make a release, then run what is warm on it."""
    with workplace(setting) as place:
        place.release()
        place.build("out")  # unpacks the root of the tools, which a release does not keep
        return _report(_measure(_runs(place)))


def _runs(place: Workplace) -> Mapping[str, Callable[[], Usage]]:
    return {
        _PYTHON: lambda: place.measure([sys.executable, "-c", "pass"]),
        "--help": lambda: place.run("--help"),
        _NOTHING_TO_DO[0]: lambda: place.run("fetch", place.setting.recipe),
        _NOTHING_TO_DO[1]: lambda: _build(place),
        "verify": place.verify,
        "verify --artifacts": lambda: place.verify("--artifacts", place.path / "out" / "artifacts"),
    }


def _build(place: Workplace) -> Usage:
    """`build`, which must not build."""
    record = place.path / "out" / "legs" / "a" / "leg.json"
    before = record.stat().st_mtime_ns
    usage = place.build("out")
    if record.stat().st_mtime_ns != before:
        raise BenchmarkError("a build that had nothing to do built leg a again")
    return usage


def _measure(runs: Mapping[str, Callable[[], Usage]]) -> dict[str, Usage]:
    turns = [{name: work() for name, work in runs.items()} for _ in range(_TURNS)]
    return {name: median_usage([turn[name] for turn in turns]) for name in runs}


def _report(usages: Mapping[str, Usage]) -> Report:
    python = usages[_PYTHON].wall
    rows = [_with_ratio(usage_row(name, usage), usage.wall / python) for name, usage in usages.items()]
    return Report(rows, [Aim(f"{name}, wall s", usages[name].wall, _LIMIT) for name in _NOTHING_TO_DO])


def _with_ratio(row: Row, ratio: float) -> Row:
    return Row(row.name, {**row.values, "x bare Python": ratio})
