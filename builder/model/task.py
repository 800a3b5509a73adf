"""Steps as values: one step of one leg with every input by digest, and what came of it. Pure, and nothing of a machine.

A task can be sent to another machine, and its digest names the work: equal digests are the same step of the same leg on
the same bytes. Both values pickle with plain pickle.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from builder.encoding.canonical_json import encode_canonical
from builder.errors import BuildFailedError, DocumentError
from builder.model.build_info import Probe
from builder.model.digest import sha256_hex
from builder.model.plan import BuildPlan, OutputInput, PackageInput, SourceInput, Step, StepInput, TextInput
from builder.model.variation import Variation, without_axes

# another number for whatever changes what a step sees and no other member of a task tells: how an engine makes a leg
SCHEMA = "tdx-builder/step-task/v1"
ROOT_LAYOUT = 1  # of an unpacked root: another number for another tree made from the same packages


class Content(NamedTuple):
    """A file's bytes by SHA-256, and their number."""

    sha256: str
    size: int


@dataclass(frozen=True)
class TaskInput:
    """A file by digest, placed at `target` (relative to the build directory), mode 0755 if executable, else 0644."""

    sha256: str
    size: int
    target: str
    executable: bool = False


@dataclass(frozen=True)
class RootTask:
    """The pinned root that the group `roots.<name>` of the lock makes: its packages, in the order of unpacking, and the
    layout that they are unpacked in."""

    name: str
    debs: tuple[Content, ...]
    layout: int = ROOT_LAYOUT


@dataclass(frozen=True)
class StepTask:
    """One step of one leg. `engine` is that of Sandbox.engine; `programs` the digest of `builder.inside`, by which a
    machine with another version of it can refuse the task; `unvaried` the axes that `variation` leaves alone for this
    step, with reasons."""

    variation: Variation
    engine: str
    step: str
    argv: tuple[str, ...]
    inputs: tuple[TaskInput, ...]
    outputs: tuple[str, ...]
    environment: Mapping[str, str]
    root: RootTask
    programs: str
    unvaried: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class StepResult:
    """What a step left: outputs by name and its log by digest, in a store; the readings before and after it; and by
    whom it was run. `worker` is "" on the orchestrator's own machine; times are seconds since 1970 by its clock.

    `cached`: the step did not run now; readings, times and engine are those of the run whose outputs these are.
    """

    step: str
    outputs: Mapping[str, Content]
    log: str
    probes: tuple[Probe, ...]
    not_varied: Mapping[str, str]
    engine: str
    engine_version: str
    started: int
    finished: int
    worker: str = ""
    cached: bool = False


@dataclass(frozen=True)
class TaskFrame:
    """What all tasks of one leg have in common: its variation and engine, the environment of every step, the pinned
    roots by name, and the sizes of the recipe's own files by digest."""

    variation: Variation
    engine: str
    environment: Mapping[str, str]
    roots: Mapping[str, RootTask]
    source_sizes: Mapping[str, int]
    programs: str


def task_digest(task: StepTask) -> str:
    """SHA-256 over everything that the step depends on, its leg included."""
    return sha256_hex(encode_canonical({"schema": SCHEMA, **asdict(task)}))


def programs_digest(programs: Mapping[str, str]) -> str:
    """One SHA-256 for the programs that run inside the legs, given by name with theirs."""
    return sha256_hex(encode_canonical(dict(programs)))


def required_steps(step: Step) -> frozenset[str]:
    """The steps whose outputs `step` takes."""
    return frozenset(item.step for item in step.inputs if isinstance(item, OutputInput))


def task_for(step: Step, frame: TaskFrame, results: Mapping[str, StepResult]) -> StepTask:
    """The task of a step, once there are `results` of all that it requires; DocumentError if the lock has no such root
    or file."""
    root = frame.roots.get(step.root)
    if root is None:
        raise DocumentError(
            f"step {step.name}: the lock has no root {step.root!r}", hint="name it in the recipe's roots"
        )
    return StepTask(
        variation=replace(without_axes(frame.variation, dict(step.unvaried)), user_namespaces=step.user_namespaces),
        engine=frame.engine,
        step=step.name,
        argv=step.argv,
        inputs=tuple(_task_input(step, item, frame, results) for item in step.inputs),
        outputs=step.outputs,
        environment=frame.environment,
        root=root,
        programs=frame.programs,
        unvaried=step.unvaried,
    )


def text_content(text: str) -> Content:
    """Digest and size of a TextInput as a file."""
    data = text.encode("utf-8")
    return Content(sha256_hex(data), len(data))


def step_environment(plan: BuildPlan) -> dict[str, str]:
    """What every step is told besides its variation (`determinism.md` 2.1)."""
    return {
        "SOURCE_DATE_EPOCH": str(plan.source_date_epoch),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def check_result(task: StepTask, result: StepResult) -> None:
    """BuildFailedError if a result, wherever it comes from, is not one of this task."""
    for what, found, wanted in (
        ("step", result.step, task.step),
        ("engine", result.engine, task.engine),
        ("outputs", sorted(result.outputs), sorted(task.outputs)),
    ):
        if found != wanted:
            raise BuildFailedError(
                f"leg {task.variation.name}, step {task.step}: the result has the {what} {found}, wanted {wanted}",
                hint="the worker or the step cache is not one of this version; build with --no-cache",
            )


def _task_input(step: Step, item: StepInput, frame: TaskFrame, results: Mapping[str, StepResult]) -> TaskInput:
    match item:
        case PackageInput():
            return TaskInput(item.sha256, item.size, item.target)
        case SourceInput():
            size = frame.source_sizes.get(item.sha256)
            if size is None:
                raise DocumentError(f"step {step.name}: the lock has no file {item.path} with SHA-256 {item.sha256}")
            return TaskInput(item.sha256, size, item.target, item.executable)
        case OutputInput():
            return TaskInput(*results[item.step].outputs[item.name], item.target)
        case TextInput():
            return TaskInput(*text_content(item.text), item.target)
