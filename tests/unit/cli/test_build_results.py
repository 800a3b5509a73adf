"""What `build` and `release` say of the legs."""

from pathlib import Path

from builder.backends.step_store import StepStore
from builder.cli.build import legs_document
from tests.fakes.fake_sandbox import FakeSandbox
from tests.fakes.small_build import STEPS, build_small, run_small


def test_a_step_that_did_not_run_is_told_also_to_programs(tmp_path: Path) -> None:
    steps = StepStore(tmp_path / "steps")
    (first,) = run_small(tmp_path, FakeSandbox(STEPS), "a", steps=steps)
    (again,) = run_small(tmp_path, FakeSandbox(STEPS), "a", steps=steps)
    assert legs_document(first)["cached_steps"] == {"a": []}
    assert legs_document(again)["cached_steps"] == {"a": ["kernel", "initrd"]}


def test_every_leg_says_who_built_it(tmp_path: Path) -> None:
    document = legs_document(*build_small(tmp_path, FakeSandbox(STEPS)))
    engine = {"name": "fake", "version": "fake 1"}
    assert (document["legs"], document["engines"]) == (["a", "b"], {"a": engine, "b": engine})
    assert [artifact["name"] for artifact in document["artifacts"]] == ["vmlinuz", "initrd.img", "cmdline"]
