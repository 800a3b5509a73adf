"""`build`: run the plan in one leg, or in two legs side by side, and write what each left.

A leg's directory has its record, its artefacts, and the log and other outputs of every step. Where steps run is not
known here (see `pipeline.graph`), nor is whether two legs agree (see `pipeline.legs`).
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.errors import MissingError
from builder.model.build_info import BuildInfo
from builder.model.leg import LEG_RECORD, LegRecord, encode_leg_record, plan_digest
from builder.model.lock import Lock
from builder.model.plan import Artifact, BuildPlan, TextInput
from builder.model.task import Content, RootTask, StepResult, TaskFrame, programs_digest, step_environment
from builder.model.variation import Variation
from builder.pipeline.files import link_or_copy
from builder.pipeline.graph import GraphLeg, LegRunner, run_graph
from builder.pipeline.inputs import BuildInputs
from builder.pipeline.legs import ARTIFACTS
from builder.pipeline.run_step import log_path
from builder.pipeline.step_cache import StepCache
from builder.ports import ArtifactStore, Progress

LOGS = "logs"
OUTPUTS = "outputs"  # by step, what is no artefact: a kernel's configuration, an unpacked tree
WORK = "work"  # where steps work that run here; nothing of it is left


@dataclass(frozen=True)
class LegOrder:
    """One leg to run: its variation, the name of its engine, where its steps run, and the new directory that receives
    artefacts, logs and record."""

    variation: Variation
    engine: str
    runner: LegRunner
    directory: Path


@dataclass(frozen=True)
class BuildJob:
    """What is the same for every leg: the plan and its inputs, the digests of the programs that run inside, the clock
    (seconds since 1970), and the store: it has every input by digest, and gets every output."""

    plan: BuildPlan
    inputs: BuildInputs
    store: ArtifactStore
    programs: Mapping[str, str]
    clock: Callable[[], int]


def run_legs(
    job: BuildJob, orders: tuple[LegOrder, ...], progress: Progress, *, jobs: int, cache: StepCache | None
) -> tuple[LegRecord, ...]:
    """Run every leg, at most `jobs` steps at a time; with None for `cache` every step runs, and none is remembered.

    The first failure, or an interruption, ends the others and is raised.
    """
    _store_texts(job)
    legs = {order.variation.name: _Leg(job, order, progress) for order in orders}
    graph_legs = tuple(GraphLeg(_frame(job, order), order.runner) for order in orders)
    run_graph(job.plan.steps, graph_legs, _Watcher(legs), jobs=jobs, cache=cache)
    return tuple(record for leg in legs.values() for record in leg.records)


def root_tasks(plan: BuildPlan, lock: Lock) -> Mapping[str, RootTask]:
    """The pinned roots that a plan's steps run in, by name, as far as the lock has them."""
    groups = {name: f"roots.{name}" for name in {step.root for step in plan.steps}}
    return {name: root_task(lock, group) for name, group in groups.items() if group in lock.groups}


def root_task(lock: Lock, group: str) -> RootTask:
    """The pinned root of a package group."""
    debs = tuple(Content(package.sha256, package.size) for package in lock.group(group))
    return RootTask(group.removeprefix("roots."), debs)


class _Leg:
    """One leg while it runs: its results, and what they become. `records` has its record as soon as it is complete."""

    def __init__(self, job: BuildJob, order: LegOrder, progress: Progress) -> None:
        self._job = job
        self._order = order
        self._progress = progress
        self._results: dict[str, StepResult] = {}
        self.records: list[LegRecord] = []
        self._name = f"leg {order.variation.name}"
        self._started = job.clock()
        (order.directory / LOGS).mkdir(parents=True, exist_ok=True)
        progress.start(self._name, len(job.plan.steps))

    def step_started(self, step: str) -> None:
        self._progress.start(f"{self._name}: {step}")

    def step_finished(self, result: StepResult) -> None:
        if not result.cached:
            self._progress.finish(f"{self._name}: {result.step}")
        self._results[result.step] = result
        self._show_log(result)
        self._show_outputs(result)
        self._progress.advance(self._name, 1)
        if len(self._results) == len(self._job.plan.steps):
            self.records.append(self._finish())

    def _finish(self) -> LegRecord:
        """Publish the artefacts and write the record."""
        record = self._record()
        (self._order.directory / LEG_RECORD).write_bytes(encode_leg_record(record))
        shutil.rmtree(self._order.directory / WORK, ignore_errors=True)
        self._progress.finish(self._name, _summary(record, len(self._results)))
        return record

    def _show_log(self, result: StepResult) -> None:
        """The log of a step that ran elsewhere or earlier; of one that ran here it is there."""
        path = log_path(self._order.directory / LOGS, result.step)
        if not path.exists():
            shutil.copyfile(self._object(result.log, f"the log of step {result.step}"), path)

    def _record(self) -> LegRecord:
        results = [self._results[step.name] for step in self._job.plan.steps]
        return LegRecord(
            recipe_sha256=self._job.inputs.recipe.digest,
            lock_sha256=self._job.inputs.lock_sha256,
            plan_sha256=plan_digest(self._job.plan, self._job.programs),
            build_info=self._build_info(results),
            artifacts=self._publish_artifacts(),
            cached_steps=tuple(result.step for result in results if result.cached),
        )

    def _build_info(self, results: list[StepResult]) -> BuildInfo:
        return BuildInfo(
            leg=self._order.variation.name,
            engine=self._order.engine,
            engine_version=", ".join(sorted({result.engine_version for result in results})),
            probes=tuple(probe for result in results for probe in result.probes),
            not_varied={axis: reason for result in results for axis, reason in result.not_varied.items()},
            started=self._started,
            finished=self._job.clock(),
            workers=tuple(sorted({result.worker for result in results} - {""})),
        )

    def _publish_artifacts(self) -> tuple[Artifact, ...]:
        """Show each artefact under its name."""
        artifacts = []
        for source in self._job.plan.artifacts:
            content = self._results[source.step].outputs[source.output]
            self._show(content, self._order.directory / ARTIFACTS / source.output)
            artifacts.append(Artifact(source.component, source.output, content.size, content.sha256))
        return tuple(artifacts)

    def _show_outputs(self, result: StepResult) -> None:
        published = {source.output for source in self._job.plan.artifacts if source.step == result.step}
        for name in result.outputs.keys() - published:
            self._show(result.outputs[name], self._order.directory / OUTPUTS / result.step / name)

    def _show(self, content: Content, path: Path) -> None:
        """The stored file itself under another name, or a copy if that is on another file system."""
        path.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(self._object(content.sha256, f"output {path.name}"), path)

    def _object(self, sha256: str, what: str) -> Path:
        path = self._job.store.path(sha256)
        if path is None:
            raise MissingError(f"{self._name}: {what}, sha256:{sha256}, is not in the store any more")
        return path


@dataclass(frozen=True)
class _Watcher:
    """Passes on to each leg what happens in it."""

    legs: Mapping[str, _Leg]

    def started(self, leg: str, step: str) -> None:
        self.legs[leg].step_started(step)

    def finished(self, leg: str, result: StepResult) -> None:
        self.legs[leg].step_finished(result)


def _frame(job: BuildJob, order: LegOrder) -> TaskFrame:
    lock = job.inputs.lock
    return TaskFrame(
        variation=order.variation,
        engine=order.engine,
        environment=step_environment(job.plan),
        roots=root_tasks(job.plan, lock),
        source_sizes={source.sha256: source.size for source in lock.sources.values()},
        programs=programs_digest(job.programs),
    )


def _store_texts(job: BuildJob) -> None:
    for step in job.plan.steps:
        for item in step.inputs:
            if isinstance(item, TextInput):
                job.store.add_file(job.inputs.text(item.text))


def _summary(record: LegRecord, steps: int) -> str:
    cached = len(record.cached_steps)
    from_cache = f", {cached} of {steps} steps from the cache" if cached else ""
    return f"{len(record.artifacts)} artefacts{from_cache}"
