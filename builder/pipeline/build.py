"""`build`: run the plan in one leg, or in two legs side by side.

A leg is a sequence of steps, each in a fresh workspace with only its own inputs. A probe inside each workspace reads
what the step really saw, before and after it. Nothing here decides whether two legs agree: see `pipeline.legs`.
"""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from builder.errors import BuildFailedError
from builder.model.build_info import BuildInfo, Probe
from builder.model.leg import LEG_RECORD, LegRecord, encode_leg_record, plan_digest
from builder.model.plan import (
    Artifact,
    BuildPlan,
    OutputInput,
    PackageInput,
    SourceInput,
    Step,
    StepInput,
    TextInput,
)
from builder.model.variation import Variation
from builder.pipeline.files import hash_file
from builder.pipeline.inputs import BuildInputs
from builder.pipeline.legs import ARTIFACTS
from builder.ports import LogSink, Progress, Sandbox, Workspace

PROBE_PROGRAM = "inside/probe.py"


@dataclass(frozen=True)
class LegOrder:
    """One leg to run: its engine, its variation, and the directory that receives artefacts, logs and record."""

    sandbox: Sandbox
    variation: Variation
    directory: Path


@dataclass(frozen=True)
class BuildJob:
    """What is the same for every leg: the plan, its inputs, the unpacked roots, and the clock (seconds since 1970)."""

    plan: BuildPlan
    inputs: BuildInputs
    roots: Mapping[str, Path]
    programs: Mapping[str, str]
    clock: Callable[[], int]


def run_legs(job: BuildJob, orders: tuple[LegOrder, ...], progress: Progress) -> tuple[LegRecord, ...]:
    """Run every leg, side by side. The first failure, or an interruption, ends the others and is raised."""
    with ThreadPoolExecutor(max_workers=len(orders), thread_name_prefix="leg") as pool:
        futures = [pool.submit(_Leg(job, order, progress).run) for order in orders]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()  # raises what went wrong first, not what ending the others led to
            return tuple(future.result() for future in futures)
        except BaseException:
            for order in orders:
                order.sandbox.cancel()
            raise


class _Leg:
    """One leg while it runs."""

    def __init__(self, job: BuildJob, order: LegOrder, progress: Progress) -> None:
        self._job = job
        self._order = order
        self._progress = progress
        self._probes: list[Probe] = []
        self._outputs: dict[tuple[str, str], Path] = {}
        self._task = f"leg {order.variation.name}"

    def run(self) -> LegRecord:
        started = self._job.clock()
        self._order.directory.mkdir(parents=True, exist_ok=True)
        self._progress.start(self._task, len(self._job.plan.steps))
        for step in self._job.plan.steps:
            self._run_step(step)
            self._progress.advance(self._task, 1)
        record = self._record(started)
        (self._order.directory / LEG_RECORD).write_bytes(encode_leg_record(record))
        self._progress.finish(self._task, f"{len(record.artifacts)} artefacts")
        return record

    def _run_step(self, step: Step) -> None:
        scratch = self._order.directory / "work" / step.name
        logs = self._order.directory / "logs"
        logs.mkdir(exist_ok=True)
        with (
            (logs / f"{step.name}.log").open("wb") as log,
            self._order.sandbox.open(self._job.roots[step.root], self._order.variation, scratch) as workspace,
        ):
            for item in step.inputs:
                self._put(workspace, item)
            environment = step_environment(self._job.plan)
            self._probe(workspace, environment)
            workspace.run(step.argv, environment, _writer(log.write))
            self._probe(workspace, environment)
            self._keep_outputs(workspace, step)

    def _put(self, workspace: Workspace, item: StepInput) -> None:
        match item:
            case PackageInput():
                workspace.put(self._job.inputs.object(item.sha256), item.target)
            case SourceInput():
                workspace.put(self._job.inputs.object(item.sha256), item.target, executable=item.executable)
            case OutputInput():
                workspace.put(self._outputs[item.step, item.name], item.target)
            case TextInput():
                workspace.put(self._job.inputs.text(item.text), item.target)

    def _probe(self, workspace: Workspace, environment: Mapping[str, str]) -> None:
        output = bytearray()
        workspace.run(("python3", PROBE_PROGRAM, str(self._job.clock())), environment, output.extend)
        self._probes.append(_parse_probe(bytes(output), self._order.variation.name))

    def _keep_outputs(self, workspace: Workspace, step: Step) -> None:
        kept = self._order.directory / "outputs" / step.name
        kept.mkdir(parents=True, exist_ok=True)
        for name in step.outputs:
            target = kept / name
            workspace.get(name).replace(target)
            target.chmod(0o444)
            self._outputs[step.name, name] = target

    def _record(self, started: int) -> LegRecord:
        sandbox, variation = self._order.sandbox, self._order.variation
        info = BuildInfo(
            leg=variation.name,
            engine=sandbox.engine,
            engine_version=sandbox.engine_version,
            probes=tuple(self._probes),
            not_varied=sandbox.not_varied(variation),
            started=started,
            finished=self._job.clock(),
        )
        return LegRecord(
            recipe_sha256=self._job.inputs.recipe.digest,
            lock_sha256=self._job.inputs.lock_sha256,
            plan_sha256=plan_digest(self._job.plan, self._job.programs),
            build_info=info,
            artifacts=self._publish_artifacts(),
        )

    def _publish_artifacts(self) -> tuple[Artifact, ...]:
        """Move each artefact to where it is shown under its name, and hash it, once."""
        directory = self._order.directory / ARTIFACTS
        directory.mkdir(exist_ok=True)
        artifacts = []
        for source in self._job.plan.artifacts:
            target = directory / source.output
            self._outputs[source.step, source.output].replace(target)
            sha256, size = hash_file(target)
            artifacts.append(Artifact(source.component, source.output, size, sha256))
        return tuple(artifacts)


def step_environment(plan: BuildPlan) -> dict[str, str]:
    """What every step is told besides its variation (`determinism.md` 2.1)."""
    return {
        "SOURCE_DATE_EPOCH": str(plan.source_date_epoch),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _parse_probe(output: bytes, leg: str) -> Probe:
    try:
        document = json.loads(output)
        axes, facts = _texts(document["axes"]), _texts(document["facts"])
    except (ValueError, KeyError, TypeError) as error:
        raise BuildFailedError(
            f"leg {leg}: the probe inside the sandbox printed {output[:200]!r}, wanted JSON"
        ) from error
    return Probe(axes, facts)


def _texts(members: object) -> dict[str, str]:
    if not isinstance(members, dict) or not members:
        raise TypeError("not an object with members")
    return {str(name): str(value) for name, value in members.items()}


def _writer(write: Callable[[bytes], int]) -> LogSink:
    def sink(data: bytes) -> None:
        write(data)

    return sink
