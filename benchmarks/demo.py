"""The demo, cold: the commands of tools/demo.sh, each with what it costs."""

from benchmarks.report import Aim, Report, Row
from benchmarks.usage import sum_usage, usage_row
from benchmarks.workplace import Setting, Workplace, workplace

_LIMIT = 240.0
_MOST_MB = (1 << 30) / 1e6


def run(setting: Setting) -> Report:
    """Run it once. What was just published stands in for the release that the demo compares with."""
    with workplace(setting) as place:
        return _report(place)


def _report(place: Workplace) -> Report:
    recipe = place.setting.recipe
    usages = {
        "lock --check --offline": place.run("lock", "--check", "--offline", recipe),
        "fetch, nothing missing": place.run("fetch", recipe),
    }
    usages["key new"], usages["release"] = place.release()
    artifacts = place.path / "out" / "artifacts"
    usages["verify, own manifest"] = place.verify("--artifacts", artifacts)
    usages["verify, published manifest"] = place.verify("--artifacts", artifacts)
    usages["diff"] = place.run("diff", place.manifest, place.manifest)
    total = sum_usage(list(usages.values()))
    rows: list[Row] = [usage_row(name, usage) for name, usage in usages.items()]
    aims = [Aim("whole demo, wall s", total.wall, _LIMIT), Aim("release, peak MB", usages["release"].peak, _MOST_MB)]
    return Report([*rows, usage_row("whole demo", total)], aims)
