"""`python -m benchmarks [NAME...]`: run the benchmarks, each in a process of its own, and print what they found.

The exit status says whether they could be run, not whether an aim is met.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks.machine import machine_facts
from benchmarks.report import BenchmarkError, Report, report_document, report_lines
from benchmarks.worker import fetch, in_own_process, run_benchmark
from benchmarks.workplace import Setting
from builder.cli.wiring import default_store
from builder.errors import BuilderError, ExitStatus

T = TypeVar("T")

# name, which is also that of the module -> what it shows
_BENCHMARKS = {
    "demo": "every command of the demo, cold",
    "stages": "the stages of a cold release, called through the library",
    "warm": "runs with nothing to do, and checks: medians",
    "twin": "both legs side by side against one leg alone, cold: medians",
    "rebuild": "a build after touching one file of the app, the rest from the step cache",
    "orchestrator": "what tdx-builder itself takes of a build's CPU time: medians",
    "mrtd": "MRTD against hashlib.sha384 over as many bytes: medians",
    "shapes": "ACPI tables of a shape in both ways, a matrix, `measure`, a replay: medians",
    "store": "checking the packages in the store against hashlib.file_digest: medians",
}
_RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; gives 0, or 1 if something could not be run."""
    options = _options(arguments)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # with it, every start would compile every module again
    setting = Setting(options.recipe, options.store, options.rounds)
    facts = machine_facts()
    if not options.json:
        _print_block("machine", [f"  {name:12} {value}" for name, value in facts.items()])
    reports = _run_all(options.names, setting, shown=not options.json)
    if options.json:
        documents = {name: report_document(report) for name, report in reports.items()}
        print(json.dumps({"machine": facts, "benchmarks": documents}, indent=1))
    return 0 if len(reports) == len(options.names) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    listed = "\n".join(f"  {name:14}{text}" for name, text in _BENCHMARKS.items())
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks", epilog=f"benchmarks:\n{listed}", formatter_class=form)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run (default: all)")
    parser.add_argument("--recipe", type=Path, default=_RECIPE, help="what to build (default: recipes/quickstart)")
    parser.add_argument("--store", type=Path, default=default_store(), help="where its packages are kept")
    parser.add_argument("--rounds", type=int, default=3, help="how often whole builds are repeated (default: 3)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in _BENCHMARKS]
    if unknown or options.rounds < 1:
        parser.error(f"no benchmark {unknown[0]!r}" if unknown else "--rounds has to be 1 or more")
    options.names = list(dict.fromkeys(options.names or _BENCHMARKS))
    return options


def _run_all(names: Sequence[str], setting: Setting, *, shown: bool) -> dict[str, Report]:
    """The reports of those that could be run."""
    reports: dict[str, Report] = {}
    if not _attempt("fetch", partial(fetch, setting)):
        return reports
    for name in names:
        report = _attempt(name, partial(run_benchmark, name, setting))
        if report is not None:
            reports[name] = report
            if shown:
                _print_block(f"{name}: {_BENCHMARKS[name]}", report_lines(report))
    return reports


def _attempt(name: str, work: Callable[[], T]) -> T | None:
    """What `work` gives, or None if it cannot be done, with the reason on stderr."""
    print(f"benchmark {name} ...", file=sys.stderr, flush=True)
    try:
        return in_own_process(work)
    except (BenchmarkError, BuilderError, OSError) as error:
        print(f"benchmark {name}: error: {error}", file=sys.stderr)
        return None


def _print_block(title: str, lines: Sequence[str]) -> None:
    print("\n".join((title, *lines, "")), flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(ExitStatus.INTERRUPTED)
