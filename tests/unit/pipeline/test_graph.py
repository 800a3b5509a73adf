"""The steps of both legs as one graph: order, bounds, fairness, failure and interruption."""

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BuildFailedError, DocumentError
from builder.model.plan import OutputInput, Step
from builder.model.task import StepResult, StepTask, required_steps
from builder.pipeline.graph import GraphLeg, LegRunner, chain_lengths, run_graph
from tests.fakes.step_graphs import Fairness, Recorder, frame_of, plans, result_of, step_of

DIAMOND = (step_of("base"), step_of("left", "base"), step_of("right", "base"), step_of("top", "left", "right"))


@settings(deadline=None, max_examples=60)
@given(plan=plans(), jobs=st.integers(1, 5))
def test_every_step_runs_once_in_each_leg_after_its_inputs_and_within_the_jobs(
    plan: tuple[Step, ...], jobs: int
) -> None:
    recorder, watcher = Recorder(), Fairness(plan)
    with ThreadPoolExecutor(8) as pool:
        results = run_graph(plan, recorder.legs(pool), watcher, jobs=jobs, cache=None)
    assert sorted(recorder.ran) == sorted((leg, step.name) for leg in "ab" for step in plan)
    assert recorder.too_early == []
    assert recorder.most_at_once <= jobs
    assert watcher.unfair == []
    names = {step.name for step in plan}
    assert {leg: set(found) for leg, found in results.items()} == {"a": names, "b": names}
    assert not recorder.cancelled.is_set()


@settings(deadline=None, max_examples=60)
@given(plan=plans(), jobs=st.integers(1, 5), data=st.data())
def test_a_failing_step_stops_what_needs_it_cancels_the_rest_and_leaves_nothing_running(
    plan: tuple[Step, ...], jobs: int, data: st.DataObject
) -> None:
    victim = ("b", data.draw(st.sampled_from([step.name for step in plan])))

    def work(task: StepTask) -> StepResult:
        if (task.variation.name, task.step) == victim:
            raise BuildFailedError("broken on purpose")
        return result_of(task)

    recorder = Recorder(work)
    with ThreadPoolExecutor(8) as pool:
        with pytest.raises(BuildFailedError, match="broken on purpose"):
            run_graph(plan, recorder.legs(pool), Fairness(plan), jobs=jobs, cache=None)
        assert recorder.running == 0
    needing = {victim[1]}
    for step in plan:
        if required_steps(step) & needing:
            needing.add(step.name)
            assert ("b", step.name) not in recorder.ran
    assert recorder.cancelled.is_set()


def test_the_first_failure_is_the_one_that_is_told() -> None:
    """The other one fails because it is cancelled, which explains nothing."""

    def work(task: StepTask) -> StepResult:
        if task.variation.name == "a":
            assert other.wait(60)
            raise BuildFailedError("the cause")
        other.set()
        assert recorder.cancelled.wait(60)
        raise BuildFailedError("killed")

    other = threading.Event()
    recorder = Recorder(work)
    with ThreadPoolExecutor(2) as pool, pytest.raises(BuildFailedError, match="the cause"):
        run_graph((step_of("only"),), recorder.legs(pool), Fairness(()), jobs=2, cache=None)
    assert sorted(recorder.ran) == [("a", "only"), ("b", "only")]


def test_an_interruption_cancels_and_waits_until_nothing_runs() -> None:
    def work(task: StepTask) -> StepResult:
        assert recorder.cancelled.wait(60)
        raise BuildFailedError("killed")

    class Interrupting(Fairness):
        def started(self, leg: str, step: str) -> None:  # noqa: ARG002 - the port's signature
            raise KeyboardInterrupt

    recorder = Recorder(work)
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(KeyboardInterrupt):
            run_graph((step_of("only"),), recorder.legs(pool), Interrupting(()), jobs=2, cache=None)
        assert recorder.running == 0
    assert len(recorder.ran) <= 1, "a step was started after the interruption"


def test_what_waits_in_the_executor_is_cancelled_too() -> None:
    """Its one thread is busy with leg a, so that leg b's step is only queued: it must never start."""

    def work(task: StepTask) -> StepResult:
        raise BuildFailedError("the cause")

    recorder = Recorder(work)
    blocked = threading.Event()
    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as busy:
        busy.submit(blocked.wait)
        a, b = recorder.legs(pool)
        queued = GraphLeg(b.frame, replace(b.runner, executor=busy))
        with pytest.raises(BuildFailedError, match="the cause"):
            run_graph((step_of("only"),), (a, queued), Fairness(()), jobs=2, cache=None)
        blocked.set()
    assert recorder.ran == [("a", "only")]


def test_each_leg_runs_in_its_own_executor() -> None:
    seen: dict[str, set[str]] = {"a": set(), "b": set()}

    def work(task: StepTask) -> StepResult:
        seen[task.variation.name].add(threading.current_thread().name.partition("_")[0])
        return result_of(task)

    recorder = Recorder(work)
    with ThreadPoolExecutor(2, "first") as first, ThreadPoolExecutor(2, "second") as second:
        a, b = recorder.legs(first)
        legs = (a, GraphLeg(b.frame, replace(b.runner, executor=second)))
        run_graph(DIAMOND, legs, Fairness(DIAMOND), jobs=4, cache=None)
    assert seen == {"a": {"first"}, "b": {"second"}}


def test_the_step_with_the_longest_chain_behind_it_comes_first() -> None:
    plan = (step_of("short"), step_of("long"), step_of("middle", "long"), step_of("end", "middle"))
    recorder = Recorder()
    with ThreadPoolExecutor(1) as pool:
        run_graph(plan, recorder.legs(pool, "a"), Fairness(plan), jobs=1, cache=None)
    assert [step for _, step in recorder.ran] == ["long", "middle", "short", "end"]
    assert chain_lengths(plan) == {"short": 0, "long": 2, "middle": 1, "end": 0}


def test_a_single_job_serves_both_legs_in_turns() -> None:
    plan = tuple(step_of(name) for name in ("one", "two", "three"))
    watcher = Fairness(plan)
    with ThreadPoolExecutor(1) as pool:
        run_graph(plan, Recorder().legs(pool), watcher, jobs=1, cache=None)
    assert [leg for leg, _ in watcher.started_steps] == ["a", "b", "a", "b", "a", "b"]


@pytest.mark.parametrize("change", [{"step": "other"}, {"outputs": {}}, {"engine": "docker"}])
def test_a_result_that_is_not_of_the_task_is_refused(change: dict[str, object]) -> None:
    recorder = Recorder(lambda task: replace(result_of(task), **change))  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as pool, pytest.raises(BuildFailedError, match="leg a, step base: the result has the"):
        run_graph(DIAMOND, recorder.legs(pool, "a"), Fairness(()), jobs=1, cache=None)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ((step_of("one", "two"), step_of("two", "one")), "which no earlier step has"),
        ((step_of("one", "one"),), "which no earlier step has"),
        ((step_of("one", "absent"),), "takes output of absent"),
        ((step_of("one"), step_of("one")), "two steps are called one"),
        ((step_of("one"), Step("two", (), (OutputInput("one", "absent", "in/x"),), ())), "takes absent of one"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused_before_anything_runs(plan: tuple[Step, ...], message: str) -> None:
    recorder = Recorder()
    with ThreadPoolExecutor(1) as pool, pytest.raises(DocumentError, match=message):
        run_graph(plan, recorder.legs(pool), Fairness(()), jobs=1, cache=None)
    assert recorder.ran == []


def test_a_root_that_the_lock_lacks_is_refused() -> None:
    recorder, plan = Recorder(), (replace(step_of("one"), root="toolchain"),)
    with ThreadPoolExecutor(1) as pool, pytest.raises(DocumentError, match="no root 'toolchain'"):
        run_graph(plan, recorder.legs(pool), Fairness(()), jobs=1, cache=None)


def test_tasks_and_results_go_through_another_process() -> None:
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, context) as pool:
        leg = GraphLeg(frame_of("a"), LegRunner(pool, result_of))
        results = run_graph(DIAMOND, (leg,), Fairness(DIAMOND), jobs=2, cache=None)
        assert results["a"]["top"].step == "top"
        failing = GraphLeg(frame_of("a"), LegRunner(pool, fail))
        with pytest.raises(BuildFailedError, match="leg a failed") as caught:
            run_graph(DIAMOND, (failing,), Fairness(DIAMOND), jobs=2, cache=None)
    assert caught.value.hint == "what to do"


def fail(task: StepTask) -> StepResult:
    raise BuildFailedError(f"leg {task.variation.name} failed", hint="what to do")
