"""What tdx-builder itself takes of a build's CPU time: beside the legs, and for unpacking the pinned root."""

from collections.abc import Mapping

from benchmarks.report import Aim, Report, Row
from benchmarks.usage import Usage, median_usage, usage_row
from benchmarks.workplace import Setting, Workplace, workplace

_LIMIT = 3.0
_SHARE = "own %"
_IN_PLACE = "build, root in place"
_COLD = "build --cold"


def run(setting: Setting) -> Report:
    """Build everything anew in turns, cold and with the root unpacked already."""
    with workplace(setting) as place:
        place.build("first")  # unpacks the root
        rounds = [_round(place, str(number)) for number in range(setting.rounds)]
    in_place, cold = (median_usage([each[name] for each in rounds]) for name in (_IN_PLACE, _COLD))
    rows = [_with_share(usage_row(_IN_PLACE, in_place)), _with_share(usage_row(_COLD, cold))]
    aims = [Aim(f"{row.name}, own % of CPU", row.values[_SHARE], _LIMIT) for row in rows]
    unpacking = {"wall s": cold.wall - in_place.wall, "of it own s": cold.own_cpu - in_place.own_cpu}
    return Report([*rows, Row("unpacking (difference)", unpacking)], aims)


def _round(place: Workplace, number: str) -> Mapping[str, Usage]:
    """Each build has a directory of its own, so that there are no legs to take over."""
    return {_IN_PLACE: place.build(f"in-place-{number}"), _COLD: place.build(f"cold-{number}", "--cold")}


def _with_share(row: Row) -> Row:
    return Row(row.name, {**row.values, _SHARE: 100 * row.values["of it own s"] / row.values["CPU s"]})
