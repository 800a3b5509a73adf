"""Run one step: inputs by digest from a store, the command in its sandbox, outputs into the store.

The same for every machine: what differs between the orchestrator and a worker is the Site. A probe reads inside the
workspace what the step really saw, before and after it.

Limited are a step's log, the output of the probe and the size of an output. Not limited are the time a step takes, the
memory it uses, and the disk it fills in its build directory while it runs: a full disk fails the step.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.errors import BuildFailedError, MissingError
from builder.model.build_info import Probe
from builder.model.task import Content, RootTask, StepResult, StepTask, TaskInput
from builder.ports import ArtifactStore, LogSink, Sandbox, Workspace

PROBE_PROGRAM = "inside/probe.py"
MOST_LOG = 64 << 20  # bytes; a verbose compile of the kernel has 2 MB
MOST_OUTPUT = 16 << 30
_MOST_PROBE = 1 << 20


@dataclass(frozen=True)
class Site:
    """A place where steps of one leg of one build run; everything in it is safe to use from several threads.

    `store` has the inputs and gets the outputs; `root` unpacks a pinned root, or finds it unpacked; a step works below
    `scratch/<step>`, which nobody else uses, and logs to `logs/<step>.log`; `programs` is the digest of the programs
    that the sandbox puts into a leg; `clock` gives seconds since 1970; `worker` is the machine's name in a cluster.
    """

    store: ArtifactStore
    sandbox: Sandbox
    root: Callable[[RootTask], Path]
    scratch: Path
    logs: Path
    programs: str
    clock: Callable[[], int]
    worker: str = ""


def run_step(task: StepTask, site: Site) -> StepResult:
    """Run a task to its end; every output and the log are in the site's store then, hashed once.

    BuildFailedError if the step fails, says too much or leaves an output out; MissingError if this site lacks an input
    or is not one for this task. The log stays in `site.logs` in any case.
    """
    _check_site(task, site)
    started = site.clock()
    root = site.root(task.root)
    with _log_file(task, site) as log, site.sandbox.open(root, task.variation, site.scratch / task.step) as workspace:
        for item in task.inputs:
            workspace.put(_object(site, task, item), item.target, executable=item.executable)
        before = _probe(workspace, task, site)
        workspace.run(task.argv, task.environment, log)
        after = _probe(workspace, task, site)
        outputs = {name: _keep(workspace.get(name), task, site) for name in task.outputs}
    return StepResult(
        step=task.step,
        outputs=outputs,
        log=site.store.add_file(log_path(site.logs, task.step))[0],
        probes=(before, after),
        not_varied={**site.sandbox.not_varied(task.variation), **_opted_out(task)},
        engine=site.sandbox.engine,
        engine_version=site.sandbox.engine_version,
        started=started,
        finished=site.clock(),
        worker=site.worker,
    )


def _opted_out(task: StepTask) -> Mapping[str, str]:
    return {axis: f"step {task.step}: {reason}" for axis, reason in task.unvaried}


def log_path(logs: Path, step: str) -> Path:
    """Where the log of a step lies."""
    return logs / f"{step}.log"


def limited(sink: LogSink, *, most: int, what: str) -> LogSink:
    """A sink that takes `most` bytes in all; what is beyond is refused with BuildFailedError."""
    taken = 0

    def write(data: bytes) -> None:
        nonlocal taken
        taken += len(data)
        if taken > most:
            raise BuildFailedError(f"{what}: more than {most} bytes of output", hint="make the step say less")
        sink(data)

    return write


def _check_site(task: StepTask, site: Site) -> None:
    for what, found, wanted in (
        ("engine", site.sandbox.engine, task.engine),
        ("programs for legs", site.programs, task.programs),
    ):
        if found != wanted:
            place = site.worker or "this machine"
            raise MissingError(
                f"{_name(task)}: {place} has the {what} {found}, wanted {wanted}",
                hint="every machine of a build needs the same version of tdx-builder, and the engine asked for",
            )


def _object(site: Site, task: StepTask, item: TaskInput) -> Path:
    path = site.store.path(item.sha256)
    if path is None:
        raise MissingError(f"{_name(task)}: input {item.target}, sha256:{item.sha256}, is not in the store")
    return path


@contextmanager
def _log_file(task: StepTask, site: Site) -> Iterator[LogSink]:
    site.logs.mkdir(parents=True, exist_ok=True)
    with log_path(site.logs, task.step).open("wb", buffering=0) as file:

        def write(data: bytes) -> None:
            file.write(data)

        yield limited(write, most=MOST_LOG, what=f"{_name(task)}: log")


def _probe(workspace: Workspace, task: StepTask, site: Site) -> Probe:
    output = bytearray()
    sink = limited(output.extend, most=_MOST_PROBE, what=f"{_name(task)}: probe")
    workspace.run(("python3", PROBE_PROGRAM, str(site.clock())), task.environment, sink)
    return _parse_probe(bytes(output), task)


def _parse_probe(output: bytes, task: StepTask) -> Probe:
    try:
        document = json.loads(output)
        axes, facts = _texts(document["axes"]), _texts(document["facts"])
    except (ValueError, KeyError, TypeError) as error:
        raise BuildFailedError(
            f"{_name(task)}: the probe inside the sandbox printed {output[:200]!r}, wanted JSON"
        ) from error
    return Probe(axes, facts)


def _texts(members: object) -> Mapping[str, str]:
    if not isinstance(members, dict) or not members:
        raise TypeError("not an object with members")
    return {str(name): str(value) for name, value in members.items()}


def _keep(output: Path, task: StepTask, site: Site) -> Content:
    size = output.stat().st_size
    if size > MOST_OUTPUT:
        raise BuildFailedError(f"{_name(task)}: output {output.name} has {size} bytes, more than {MOST_OUTPUT}")
    return Content(*site.store.add_file(output, move=True))


def _name(task: StepTask) -> str:
    return f"leg {task.variation.name}, step {task.step}"
