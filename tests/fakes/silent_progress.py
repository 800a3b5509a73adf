"""A Progress that remembers what it was told."""

from dataclasses import dataclass, field


@dataclass
class SilentProgress:
    """`totals` and `done` are by task; `finished` holds the tasks that ended."""

    totals: dict[str, int | None] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)

    def start(self, task: str, total: int | None = None) -> None:
        self.totals[task] = total
        self.done[task] = 0

    def advance(self, task: str, amount: int) -> None:
        self.done[task] += amount

    def finish(self, task: str, note: str = "") -> None:  # noqa: ARG002 - the port's signature
        self.finished.append(task)
