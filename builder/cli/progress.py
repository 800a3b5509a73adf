"""Progress of long work, on stderr: moving bars on a terminal, one line a stage in a pipe."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.cli import streams
from builder.ports import Progress

if TYPE_CHECKING:
    from rich.progress import TaskID


@contextmanager
def progress_display() -> Iterator[Progress]:
    """The display that fits stderr."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    display = _Bars()
    with display:
        yield display


class _Quiet:
    """Says nothing: for work that is short."""

    def start(self, task: str, total: int | None = None) -> None: ...

    def advance(self, task: str, amount: int) -> None: ...

    def finish(self, task: str, note: str = "") -> None: ...


QUIET = _Quiet()


class _Lines:
    """A line when a task starts and when it ends."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._mutex = threading.Lock()

    def start(self, task: str, total: int | None = None) -> None:  # noqa: ARG002 - the port's signature
        with self._mutex:
            self._started[task] = time.monotonic()
            streams.note(f"{task} ...")

    def advance(self, task: str, amount: int) -> None:
        """A line for each step would be noise."""

    def finish(self, task: str, note: str = "") -> None:
        with self._mutex:
            seconds = time.monotonic() - self._started.pop(task, time.monotonic())
            streams.note(f"{task}: {note or 'done'} ({seconds:.1f} s)")


class _Bars:
    """rich's bars. One of unknown length moves while its task runs, and becomes a line above the others at its end."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._bars = RichProgress(
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "_Bars":
        self._bars.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._bars.stop()

    def start(self, task: str, total: int | None = None) -> None:
        self._tasks[task] = self._bars.add_task(task, total=total, note="")

    def advance(self, task: str, amount: int) -> None:
        self._bars.advance(self._tasks[task], amount)

    def finish(self, task: str, note: str = "") -> None:
        identity = self._tasks.pop(task)
        bar = next(bar for bar in self._bars.tasks if bar.id == identity)
        if bar.total is None:
            self._bars.remove_task(identity)
            line = f"{task}: {note or 'done'} ({bar.elapsed or 0:.1f} s)"
            self._bars.console.print(line, markup=False, highlight=False)
        else:
            self._bars.update(identity, completed=bar.total, note=note)
