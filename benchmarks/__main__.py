"""`python -m benchmarks [NAME...]`: run the benchmarks, each in a process of its own, and print what they found.

The exit status says whether they could be run, not whether an aim is met.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from benchmarks.machine import machine_facts
from benchmarks.report import BenchmarkError, Report, report_document, report_lines
from benchmarks.workplace import Setting, workplace
from builder.cli.wiring import default_store
from builder.errors import BuilderError

# name, which is also that of the module -> what it shows
_BENCHMARKS = {
    "demo": "the demo, cold: every command of tools/demo.sh",
    "stages": "the stages of a cold release, called through the library",
    "warm": "runs with nothing to do, and checks: medians",
    "twin": "both legs side by side against one alone, cold: medians",
    "orchestrator": "tdx-builder's own share of a build's CPU time: medians",
    "mrtd": "MRTD against hashlib.sha384 over as many bytes: medians",
    "store": "checking the packages in the store against hashlib.file_digest: medians",
}
_RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; gives 0, or 1 if something could not be run."""
    options = _parser().parse_args(arguments)
    setting = Setting(options.recipe, options.store, options.rounds)
    facts = machine_facts()
    if not options.json:
        _print_block("machine", [f"  {name:12} {value}" for name, value in facts.items()])
    reports = _run_all(options.names or list(_BENCHMARKS), setting, shown=not options.json)
    if options.json:
        documents = {name: report_document(report) for name, report in reports.items()}
        print(json.dumps({"machine": facts, "benchmarks": documents}, indent=1))
    return 0 if len(reports) == len(options.names or _BENCHMARKS) else 1


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:14}{text}" for name, text in _BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        epilog=f"benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which benchmarks to run; all without a name")
    parser.add_argument("--recipe", type=Path, default=_RECIPE, help="what to build (default: recipes/quickstart)")
    parser.add_argument("--store", type=Path, default=default_store(), help="where its packages are kept")
    parser.add_argument("--rounds", type=int, default=3, help="how often each whole build is repeated (default: 3)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser


def _run_all(names: Sequence[str], setting: Setting, *, shown: bool) -> dict[str, Report]:
    """The reports of those that could be run, in their order; what went wrong is told on stderr."""
    reports = {}
    for name in names:
        print(f"benchmark {name} ...", file=sys.stderr, flush=True)
        try:
            reports[name] = _in_own_process(_run, name, setting)
        except (BenchmarkError, BuilderError) as error:
            print(f"benchmark {name}: {error}", file=sys.stderr)
        else:
            if shown:
                _print_block(f"{name}: {_BENCHMARKS[name]}", report_lines(reports[name]))
    return reports
