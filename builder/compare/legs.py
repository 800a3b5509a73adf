"""Whether two legs really differed: axis by axis, from what each saw inside (`determinism.md` 4.3, 4.6). Pure.

Axis values are observed effects (`builder/inside/probe.py`), so a variation that silently did nothing shows as two
equal values. Not checked here: that the legs built the same plan, and that a record tells the truth.
"""

import re
from collections.abc import Sequence

from builder.errors import NotProvenError
from builder.model.build_info import AxisComparison, AxisVerdict, BuildInfo
from builder.model.variation import AXES

MIN_CLOCK_DISTANCE = 398  # days; reprotest's shift exceeds it (determinism.md 4.1), longer than certificates are valid
MIN_PROBES = 2  # before and after a step

_DAYS = re.compile(r"([+-][0-9]{1,9})d")


def compare_axes(a: BuildInfo, b: BuildInfo) -> tuple[AxisComparison, ...]:
    """Every known axis of two legs, in the order of AXES.

    VARIED: all readings of each leg agree, and the legs differ (clocks: by 398 days at least). EQUAL: they do not.
    NOT_VARIED: an engine says that it cannot, whatever was seen. UNSTABLE: the readings of a leg do not show one value.
    """
    return tuple(_compare_axis(axis, a, b) for axis in AXES)


def require_varied(comparisons: Sequence[AxisComparison], required: Sequence[str]) -> None:
    """NotProvenError naming each required axis that was not varied, and why; an empty requirement proves nothing."""
    if not required:
        raise NotProvenError("no axis is required to vary, so the legs prove nothing", hint=_HINT)
    verdicts = {comparison.axis: comparison for comparison in comparisons}
    failures = [_failure(axis, verdicts.get(axis)) for axis in required]
    found = [failure for failure in failures if failure]
    if found:
        raise NotProvenError(f"the legs did not differ as the recipe requires: {'; '.join(found)}", hint=_HINT)


_HINT = "see build_info in the leg.json of both legs; the recipe names the axes it requires in legs.require"


def _compare_axis(axis: str, a: BuildInfo, b: BuildInfo) -> AxisComparison:
    value_a, problem_a = _reading(axis, a)
    value_b, problem_b = _reading(axis, b)
    verdict, reason = _verdict(axis, value_a, value_b)
    if problem_a or problem_b:
        verdict, reason = AxisVerdict.UNSTABLE, "; ".join(filter(None, (problem_a, problem_b)))
    refusals = [f"leg {info.leg}: {info.not_varied[axis]}" for info in (a, b) if axis in info.not_varied]
    if refusals:
        verdict, reason = AxisVerdict.NOT_VARIED, "; ".join(refusals)
    return AxisComparison(axis, AXES[axis], value_a, value_b, verdict, reason)


def _reading(axis: str, info: BuildInfo) -> tuple[str, str]:
    """The value all readings of a leg agree on, or "", and otherwise what is wrong with them."""
    values = [probe.axes.get(axis, "") for probe in info.probes]
    if len(values) < MIN_PROBES:
        return "", f"leg {info.leg}: read {len(values)} times, wanted {MIN_PROBES} or more"
    if "" in values:
        return "", f"leg {info.leg}: {values.count('')} of {len(values)} readings have no value"
    distinct = sorted(set(values))
    if len(distinct) > 1:
        return "", f"leg {info.leg}: the readings differ: {', '.join(map(repr, distinct))}"
    return distinct[0], ""


def _verdict(axis: str, a: str, b: str) -> tuple[AxisVerdict, str]:
    if a == b:
        return AxisVerdict.EQUAL, "both legs saw the same"
    if axis == "time":
        return _clock_verdict(a, b)
    return AxisVerdict.VARIED, ""


def _clock_verdict(a: str, b: str) -> tuple[AxisVerdict, str]:
    days = [_DAYS.fullmatch(value) for value in (a, b)]
    if days[0] is None or days[1] is None:
        return AxisVerdict.UNSTABLE, "not an offset in days, such as '+400d'"
    distance = abs(int(days[0][1]) - int(days[1][1]))
    if distance < MIN_CLOCK_DISTANCE:
        return AxisVerdict.EQUAL, f"the clocks are {distance} days apart, wanted {MIN_CLOCK_DISTANCE} or more"
    return AxisVerdict.VARIED, ""


def _failure(axis: str, comparison: AxisComparison | None) -> str:
    if comparison is None:
        return f"{axis} was not compared"
    if comparison.verdict is AxisVerdict.VARIED:
        return ""
    return f"{axis} is {comparison.verdict} (a: {comparison.a!r}, b: {comparison.b!r}; {comparison.reason})"
