"""A process of its own for each benchmark: what one has loaded or cached is neither time nor memory of the next."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from typing import TypeVar

from benchmarks.report import Report
from benchmarks.usage import Usage
from benchmarks.workplace import Setting, workplace

T = TypeVar("T")


def in_own_process(work: Callable[[], T]) -> T:
    """What `work` gives or raises, called in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work).result()


def fetch(setting: Setting) -> Usage:
    """Fetch what the store lacks: everything that is measured begins with all packages in it."""
    with workplace(setting) as place:
        return place.run("fetch", setting.recipe)


def run_benchmark(name: str, setting: Setting) -> Report:
    """Run the benchmark of the module `name`."""
    report: Report = import_module(f"benchmarks.{name}").run(setting)
    return report
