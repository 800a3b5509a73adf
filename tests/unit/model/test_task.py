"""Steps as values: equal digests are equal work, and nothing else is."""

import pickle
from dataclasses import fields, replace
from typing import Any

import pytest

from builder.errors import DocumentError
from builder.model.digest import sha256_hex
from builder.model.plan import OutputInput, PackageInput, SourceInput, Step, TextInput
from builder.model.task import (
    Content,
    RootTask,
    StepTask,
    TaskInput,
    programs_digest,
    required_steps,
    task_digest,
    task_for,
    text_content,
)
from builder.model.variation import VARIATIONS
from tests.fakes.step_graphs import frame_of, result_of

STEP = Step(
    "kernel",
    ("make",),
    (
        PackageInput("1" * 64, 10, "in/a.deb"),
        SourceInput("files/config", "2" * 64, executable=True, target="in/config"),
        OutputInput("firmware", "OVMF.fd", "in/OVMF.fd"),
        TextInput("süß", "in/parameters.json"),
    ),
    ("vmlinuz",),
)
FRAME = replace(frame_of("a"), source_sizes={"2" * 64: 20})
FIRMWARE = result_of(task_for(Step("firmware", (), (), ("OVMF.fd",)), FRAME, {}))
TASK = task_for(STEP, FRAME, {"firmware": FIRMWARE})


def test_a_task_has_every_input_by_digest_and_size() -> None:
    assert TASK.inputs == (
        TaskInput("1" * 64, 10, "in/a.deb"),
        TaskInput("2" * 64, 20, "in/config", executable=True),
        TaskInput(*FIRMWARE.outputs["OVMF.fd"], "in/OVMF.fd"),
        TaskInput(sha256_hex("süß".encode()), 5, "in/parameters.json"),
    )
    assert text_content("süß") == Content(sha256_hex("süß".encode()), 5)
    assert required_steps(STEP) == {"firmware"}


OTHER: dict[str, Any] = {
    "variation": VARIATIONS["b"],
    "engine": "docker",
    "step": "initrd",
    "argv": ("make", "all"),
    "inputs": TASK.inputs[1:],
    "outputs": ("vmlinuz", "System.map"),
    "environment": {"SOURCE_DATE_EPOCH": "1"},
    "root": RootTask("tools", (Content("d" * 64, 1), Content("c" * 64, 1))),
    "programs": "0" * 64,
    "unvaried": (("kernel", "it cannot stand it"),),
}


@pytest.mark.parametrize("name", [field.name for field in fields(StepTask)])
def test_everything_in_a_task_is_in_its_digest(name: str) -> None:
    """Else the step cache would give one step's outputs for another."""
    assert task_digest(replace(TASK, **{name: OTHER[name]})) != task_digest(TASK)


@pytest.mark.parametrize("change", [{"sha256": "5" * 64}, {"size": 6}, {"target": "in/x"}, {"executable": True}])
def test_everything_in_an_input_is_in_the_digest(change: dict[str, Any]) -> None:
    inputs = (replace(TASK.inputs[0], **change), *TASK.inputs[1:])
    assert task_digest(replace(TASK, inputs=inputs)) != task_digest(TASK)


@pytest.mark.parametrize("field", [field.name for field in fields(VARIATIONS["a"])])
def test_everything_in_a_variation_is_in_the_digest(field: str) -> None:
    other = {"environment": {"CAPTURED_BY": "somebody"}, "user_namespaces": True}
    value = other.get(field, getattr(VARIATIONS["b"], field))
    assert value != getattr(TASK.variation, field)
    assert task_digest(replace(TASK, variation=replace(TASK.variation, **{field: value}))) != task_digest(TASK)


def test_a_digest_does_not_depend_on_the_order_of_the_environment() -> None:
    a = replace(TASK, environment={"A": "1", "B": "2"})
    assert task_digest(a) == task_digest(replace(TASK, environment={"B": "2", "A": "1"}))


def test_the_programs_of_a_leg_have_one_digest() -> None:
    assert programs_digest({"a": "1" * 64, "b": "2" * 64}) == programs_digest({"b": "2" * 64, "a": "1" * 64})
    assert programs_digest({"a": "1" * 64}) != programs_digest({"a": "2" * 64})


def test_tasks_and_results_are_the_same_after_pickling() -> None:
    for value in (TASK, FIRMWARE):
        assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own bytes


def test_a_file_that_the_lock_does_not_have_is_named() -> None:
    with pytest.raises(DocumentError, match="files/config"):
        task_for(STEP, frame_of("a"), {"firmware": FIRMWARE})
