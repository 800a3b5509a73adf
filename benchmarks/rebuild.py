"""What a developer waits for after touching one file of the app: the rest comes from the step cache."""

import secrets
import shutil
from dataclasses import replace
from pathlib import Path

from benchmarks.report import Aim, BenchmarkError, Report
from benchmarks.usage import Usage, usage_row
from benchmarks.workplace import Setting, Workplace, workplace
from builder.model.leg import LEG_RECORD, parse_leg_record
from builder.model.lock import FILE_NAME, encode_lock
from builder.pipeline.inputs import load_locked_recipe
from builder.pipeline.lock import read_sources

_LIMIT = 30.0


def run(setting: Setting) -> Report:
    """Build, touch a file, build again."""
    with workplace(setting) as place:
        recipe = place.path / "recipe"
        shutil.copytree(setting.recipe, recipe)
        first = _build(place, recipe)
        _touch(recipe)
        again = _build(place, recipe)
        _require_cached(place)
    rows = [usage_row("build, step cache as it was", first), usage_row("a file of the app touched", again)]
    return Report(rows, [Aim("a file of the app touched, wall s", again.wall, _LIMIT)])


def _build(place: Workplace, recipe: Path) -> Usage:
    return place.run("build", recipe, "--offline", "--out", place.path / "out")


def _touch(recipe: Path) -> None:
    """Make a file of the app another one, and lock it: nothing is resolved again, so that this measures the build."""
    directory = load_locked_recipe(recipe)
    tree = f"{directory.recipe.app_image.files}/"
    name = next(path for path in sorted(directory.lock.sources) if path.startswith(tree))
    data = (recipe / name).read_bytes()
    (recipe / name).write_bytes(data + b"\n# " + secrets.token_hex(8).encode() + b"\n")
    lock = replace(directory.lock, sources=read_sources(recipe, directory.recipe))
    (recipe / FILE_NAME).write_bytes(encode_lock(lock))


def _require_cached(place: Workplace) -> None:
    """That it was a rebuild: something came from the cache, and something did not."""
    path = place.path / "out/legs/a" / LEG_RECORD
    record = parse_leg_record(path.read_bytes(), what=str(path))
    steps = {*record.cached_steps}
    if not {"firmware", "kernel"} <= steps or "app_image" in steps:
        raise BenchmarkError(f"a touched file of the app left {sorted(steps)} in the step cache")
