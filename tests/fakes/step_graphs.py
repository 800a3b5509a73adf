"""Plans of any shape, and runs of them that remember what happened in which order."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from hypothesis import strategies as st

from builder.model.plan import OutputInput, Step
from builder.model.task import Content, RootTask, StepResult, StepTask, TaskFrame, required_steps
from builder.model.variation import VARIATIONS
from builder.pipeline.graph import GraphLeg, LegRunner

Node = tuple[str, str]


def step_of(name: str, *required: str) -> Step:
    """A step with one output that takes those of the steps in `required`."""
    inputs = tuple(OutputInput(other, "output", f"in/{other}") for other in required)
    return Step(name, ("run", name), inputs, ("output",))


@st.composite
def plans(draw: st.DrawFn) -> tuple[Step, ...]:
    """Up to eight steps, each of which takes outputs of some earlier ones."""
    steps: list[Step] = []
    for number in range(draw(st.integers(1, 8))):
        earlier = [step.name for step in steps]
        required = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
        steps.append(step_of(f"s{number}", *required))
    return tuple(steps)


def frame_of(leg: str) -> TaskFrame:
    """A leg in an engine called fake."""
    root = RootTask("tools", (Content("d" * 64, 1),))
    return TaskFrame(VARIATIONS[leg], "fake", {"SOURCE_DATE_EPOCH": "0"}, {"tools": root}, {}, "e" * 64)


def result_of(task: StepTask) -> StepResult:
    """What a step leaves that makes its name its output."""
    outputs = {name: Content("f" * 64, len(task.step)) for name in task.outputs}
    return StepResult(task.step, outputs, "0" * 64, (), {}, task.engine, "1", 1, 2)


@dataclass
class Recorder:
    """Runs tasks with `work`, and remembers who ran, what was required and missing then, and how many ran at once."""

    work: Callable[[StepTask], StepResult] = result_of
    ran: list[Node] = field(default_factory=list)
    done: set[Node] = field(default_factory=set)
    too_early: list[Node] = field(default_factory=list)
    most_at_once: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)
    running: int = 0
    mutex: threading.Lock = field(default_factory=threading.Lock)

    def run(self, task: StepTask) -> StepResult:
        leg = task.variation.name
        with self.mutex:
            self.running += 1
            self.ran.append((leg, task.step))
            self.most_at_once = max(self.most_at_once, self.running)
            if any((leg, item.target.removeprefix("in/")) not in self.done for item in task.inputs):
                self.too_early.append((leg, task.step))
        try:
            result = self.work(task)
            with self.mutex:
                self.done.add((leg, task.step))
            return result
        finally:
            with self.mutex:
                self.running -= 1

    def legs(self, pool: ThreadPoolExecutor, names: str = "ab") -> tuple[GraphLeg, ...]:
        return tuple(GraphLeg(frame_of(name), LegRunner(pool, self.run, self.cancelled.set)) for name in names)


@dataclass
class Fairness:
    """A Watcher that notes each start of a leg while another one had fewer steps running, and one ready."""

    steps: Sequence[Step]
    started_steps: list[Node] = field(default_factory=list)
    finished_steps: list[Node] = field(default_factory=list)
    unfair: list[Node] = field(default_factory=list)

    def started(self, leg: str, step: str) -> None:
        (other,) = {"a", "b"} - {leg}
        if self._running(other) < self._running(leg) and self._has_ready(other):
            self.unfair.append((leg, step))
        self.started_steps.append((leg, step))

    def finished(self, leg: str, result: StepResult) -> None:
        self.finished_steps.append((leg, result.step))

    def _running(self, leg: str) -> int:
        return sum(node[0] == leg and node not in self.finished_steps for node in self.started_steps)

    def _has_ready(self, leg: str) -> bool:
        waiting = [step for step in self.steps if (leg, step.name) not in self.started_steps]
        return any(all((leg, name) in self.finished_steps for name in required_steps(step)) for step in waiting)
