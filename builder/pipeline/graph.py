"""The steps of all legs as one graph: each is run as soon as what it takes is there, on any executor.

One code path for one machine and many: the graph hands `function(task)` to a `concurrent.futures.Executor` and knows
nothing of where that runs. Of what is ready, the leg that has the fewest steps running comes first, then the one that
has the most steps left, so that no leg starves another; in a leg, the step with the longest chain of steps behind it.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from typing import Protocol

from builder.errors import DocumentError
from builder.model.plan import OutputInput, Step
from builder.model.task import StepResult, StepTask, TaskFrame, check_result, required_steps, task_for


def _nothing() -> None:
    """Nothing has to be done to end what runs, but to cancel its futures."""


@dataclass(frozen=True)
class LegRunner:
    """Where the steps of one leg run: `executor.submit(function, task)`, a Future of StepResult.

    When the future is done, outputs and log are in the store of the orchestrator. `cancel` ends what runs, now and from
    now on; it must not block, and may be called more than once.
    """

    executor: Executor
    function: Callable[[StepTask], StepResult]
    cancel: Callable[[], None] = _nothing


@dataclass(frozen=True)
class GraphLeg:
    """One leg: what its tasks have in common, and where they run."""

    frame: TaskFrame
    runner: LegRunner

    @property
    def name(self) -> str:
        """That of its variation."""
        return self.frame.variation.name


class Watcher(Protocol):
    """Is told what happens, in the thread that called `run_graph`."""

    def started(self, leg: str, step: str) -> None:
        """A step was handed to its executor."""

    def finished(self, leg: str, result: StepResult) -> None:
        """A step ended well."""


class Results(Protocol):
    """Results of earlier builds: the step cache."""

    def find(self, task: StepTask) -> StepResult | None:
        """The result of this very task, with every output whole in the store, or None."""

    def keep(self, task: StepTask, result: StepResult) -> None:
        """Remember a result."""


def run_graph(
    steps: tuple[Step, ...], legs: tuple[GraphLeg, ...], watcher: Watcher, *, jobs: int, cache: Results | None
) -> Mapping[str, Mapping[str, StepResult]]:
    """Run every step in every leg, at most `jobs` at a time in all; gives results by leg and step.

    The first failure, or an interruption, cancels everything else, waits until nothing runs any more, and is raised;
    what fails later, because it was cancelled or by itself, is not reported. DocumentError for steps that wait for
    each other or for one that is not there.
    """
    graph = _Graph(steps, legs, watcher, cache)
    try:
        graph.run(jobs)
    except BaseException:
        graph.cancel()
        raise
    return graph.results


class _Graph:
    """A run of the graph. Used by one thread only."""

    def __init__(
        self, steps: tuple[Step, ...], legs: tuple[GraphLeg, ...], watcher: Watcher, cache: Results | None
    ) -> None:
        self._chains = chain_lengths(steps)
        self._legs = {leg.name: leg for leg in legs}
        self._watcher = watcher
        self._cache = cache
        self._waiting = {leg.name: {step.name: step for step in steps} for leg in legs}
        self._running: dict[Future[StepResult], StepTask] = {}
        self.results: dict[str, dict[str, StepResult]] = {leg.name: {} for leg in legs}

    def run(self, jobs: int) -> None:
        """To the end."""
        while self._submit_ready(jobs):
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in done:
                self._finish(future)

    def cancel(self) -> None:
        """End what runs, and wait for that."""
        for leg in self._legs.values():
            leg.runner.cancel()
        wait([future for future in self._running if not future.cancel()])

    def _submit_ready(self, jobs: int) -> bool:
        """Start what may start; gives whether anything runs."""
        while len(self._running) < jobs and (found := self._next()) is not None:
            self._start(*found)
        return bool(self._running)

    def _next(self) -> tuple[GraphLeg, Step] | None:
        """The step to start now, if one is ready."""
        ready = [(leg, step) for leg in self._legs.values() if (step := self._longest_ready(leg.name)) is not None]
        return min(ready, key=lambda item: self._order(item[0]), default=None)

    def _order(self, leg: GraphLeg) -> tuple[int, int]:
        running = sum(task.variation.name == leg.name for task in self._running.values())
        return running, -len(self._waiting[leg.name])

    def _longest_ready(self, leg: str) -> Step | None:
        there = self.results[leg].keys()
        ready = [step for step in self._waiting[leg].values() if required_steps(step) <= there]
        return max(ready, key=lambda step: self._chains[step.name], default=None)

    def _start(self, leg: GraphLeg, step: Step) -> None:
        del self._waiting[leg.name][step.name]
        task = task_for(step, leg.frame, self.results[leg.name])
        cached = self._cache.find(task) if self._cache is not None else None
        if cached is not None:
            self._record(task, cached)
            return
        self._running[leg.runner.executor.submit(leg.runner.function, task)] = task
        self._watcher.started(leg.name, step.name)

    def _finish(self, future: Future[StepResult]) -> None:
        task = self._running.pop(future)
        result = future.result()
        self._record(task, result)
        if self._cache is not None:
            self._cache.keep(task, result)

    def _record(self, task: StepTask, result: StepResult) -> None:
        check_result(task, result)
        self.results[task.variation.name][task.step] = result
        self._watcher.finished(task.variation.name, result)


def chain_lengths(steps: tuple[Step, ...]) -> Mapping[str, int]:
    """How many steps wait for each step, one behind the other, on the longest way.

    DocumentError unless every name is used once, and every input is the output of an earlier step.
    """
    outputs: dict[str, tuple[str, ...]] = {}
    for step in steps:
        if step.name in outputs:
            raise DocumentError(f"plan: two steps are called {step.name}")
        for item in step.inputs:
            if isinstance(item, OutputInput) and item.name not in outputs.get(item.step, ()):
                raise DocumentError(
                    f"plan: step {step.name} takes {item.name} of {item.step}, which no earlier step has"
                )
        outputs[step.name] = step.outputs
    lengths = dict.fromkeys(outputs, 0)
    for step in reversed(steps):
        for required in required_steps(step):
            lengths[required] = max(lengths[required], lengths[step.name] + 1)
    return lengths
