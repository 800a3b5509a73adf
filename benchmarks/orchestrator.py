"""What tdx-builder itself takes of a build's CPU time: beside the legs, and for unpacking the pinned root."""

from collections.abc import Mapping

from benchmarks.report import Aim, Report, Row
from benchmarks.usage import Usage, median_usage, usage_row
from benchmarks.workplace import Setting, Workplace, workplace

_LIMIT = 3.0
_SHARE = "own %"
_IN_PLACE = "build, root in place"
_NOTHING = "the same, nothing changed"
_COLD = "build --cold"


def run(setting: Setting) -> Report:
    """Build in turns: both legs with the root unpacked already, again with nothing left to do, and all of it cold."""
    with workplace(setting) as place:
        place.build("first")  # unpacks the root
        rounds = [_round(place, str(number)) for number in range(setting.rounds)]
    usages = {name: median_usage([each[name] for each in rounds]) for name in rounds[0]}
    rows = {name: _with_share(usage_row(name, usage)) for name, usage in usages.items()}
    aims = [Aim(f"{name}, own % of CPU", rows[name].values[_SHARE], _LIMIT) for name in (_IN_PLACE, _COLD)]
    return Report([*rows.values(), _unpacking(usages)], aims)


def _round(place: Workplace, number: str) -> Mapping[str, Usage]:
    """Each round has directories of its own, so that there are no legs to take over from the one before."""
    return {
        _IN_PLACE: place.build(f"in-place-{number}"),
        _NOTHING: place.build(f"in-place-{number}"),
        _COLD: place.build(f"cold-{number}", "--cold"),
    }


def _with_share(row: Row) -> Row:
    return Row(row.name, {**row.values, _SHARE: 100 * row.values["of it own s"] / row.values["CPU s"]})


def _unpacking(usages: Mapping[str, Usage]) -> Row:
    cold, in_place = usages[_COLD], usages[_IN_PLACE]
    values = {"wall s": cold.wall - in_place.wall, "of it own s": cold.own_cpu - in_place.own_cpu}
    return Row("unpacking (difference)", values)
