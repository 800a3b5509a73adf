"""Checking every package in the store against hashing the same files with hashlib."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pace import Pace, measure_pace
from benchmarks.report import BenchmarkError, Report
from benchmarks.workplace import Setting
from builder.backends.local_store import LocalStore
from builder.pipeline.inputs import load_locked_recipe

_TURNS = 5


def run(setting: Setting) -> Report:
    """Hash in turns: plainly, through a new store, and through one that knows the files."""
    digests = [package.sha256 for package in load_locked_recipe(setting.recipe).lock.packages.values()]
    known = LocalStore(setting.store)
    paths = _paths(known, digests)
    plain = Pace("hashlib.file_digest", lambda: [_file_digest(path) for path in paths])
    others = [
        Pace("LocalStore.path, first time", lambda: _paths(LocalStore(setting.store), digests)),
        Pace("LocalStore.path, again", lambda: _paths(known, digests)),
    ]
    return Report(measure_pace(plain, others, size=sum(path.stat().st_size for path in paths), turns=_TURNS))


def _paths(store: LocalStore, digests: Sequence[str]) -> list[Path]:
    paths = [path for sha256 in digests if (path := store.path(sha256)) is not None]
    if len(paths) != len(digests):
        raise BenchmarkError(f"the store lacks {len(digests) - len(paths)} packages")
    return paths


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
