"""An entry of the step cache: the result of a step, under the digest of its task (`schemas/step-v1.json`)."""

from typing import Any

from builder.encoding.canonical_json import encode_readable, parse_json
from builder.encoding.schema import validate
from builder.errors import DocumentError
from builder.model.build_info import Probe
from builder.model.task import Content, StepResult

SCHEMA = "tdx-builder/step/v1"


def encode_step_entry(task_sha256: str, result: StepResult) -> bytes:
    """The bytes of an entry."""
    return encode_readable(
        {
            "schema": SCHEMA,
            "task_sha256": task_sha256,
            "step": result.step,
            "outputs": {name: content._asdict() for name, content in result.outputs.items()},
            "log": result.log,
            "probes": [{"axes": dict(probe.axes), "facts": dict(probe.facts)} for probe in result.probes],
            "not_varied": dict(result.not_varied),
            "engine": result.engine,
            "engine_version": result.engine_version,
            "started": result.started,
            "finished": result.finished,
            "worker": result.worker,
        }
    )


def parse_step_entry(data: bytes, *, task_sha256: str) -> StepResult:
    """The result in the entry of a task; DocumentError if it is damaged, or the entry of another task.

    Not checked: that the step really left this. Whoever can write the cache decides what development builds make.
    """
    what = f"step cache entry {task_sha256}"
    document: dict[str, Any] = parse_json(data, what=what)
    validate(document, schema_name="step-v1", what=what)
    if document["task_sha256"] != task_sha256:
        raise DocumentError(f"{what}: it is the entry of {document['task_sha256']}")
    return StepResult(
        step=document["step"],
        outputs={name: Content(**content) for name, content in document["outputs"].items()},
        log=document["log"],
        probes=tuple(Probe(**probe) for probe in document["probes"]),
        not_varied=document["not_varied"],
        engine=document["engine"],
        engine_version=document["engine_version"],
        started=document["started"],
        finished=document["finished"],
        worker=document["worker"],
        cached=True,
    )
