"""The step cache: used only for the very same work with every byte there, and never without being given."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from builder.backends.step_store import StepStore
from builder.errors import BuildFailedError, NotProvenError
from builder.model.digest import sha256_hex
from builder.model.leg import parse_leg_record
from builder.model.plan import BuildPlan, TextInput
from builder.pipeline.legs import Leg, require_uncached
from tests.fakes.fake_sandbox import FakeSandbox
from tests.fakes.small_build import PLAN, STEPS, run_small

ALL = [(leg, step) for leg in "ab" for step in ("make-initrd", "make-kernel")]


def build(
    path: Path, names: str = "ab", *, plan: BuildPlan = PLAN, engine: str = "fake"
) -> tuple[FakeSandbox, tuple[Leg, ...]]:
    """A build with the cache below `path`, in a process of its own as far as the stores know."""
    sandbox = FakeSandbox(STEPS, engine=engine)
    steps = StepStore(path / "steps")
    return sandbox, run_small(path, sandbox, names, plan=plan, steps=steps)


def test_a_second_build_runs_nothing_and_says_so(tmp_path: Path) -> None:
    _, (first, _) = build(tmp_path)
    assert first.record.cached_steps == ()
    sandbox, (a, b) = build(tmp_path)
    assert sandbox.runs == []
    assert a.record.cached_steps == b.record.cached_steps == ("kernel", "initrd")
    assert a.record.artifacts == first.record.artifacts
    assert a.record.build_info.probes == first.record.build_info.probes
    assert a.artifact_path("initrd.img").read_bytes() == b"initrd of kernel"
    assert "make-kernel runs in leg a" in (a.directory / "logs/kernel.log").read_text()
    record = parse_leg_record((a.directory / "leg.json").read_bytes(), what="leg.json")
    assert record.cached_steps == ("kernel", "initrd")


def test_only_what_a_change_reaches_runs_again(tmp_path: Path) -> None:
    build(tmp_path)
    kernel, initrd = PLAN.steps
    changed = replace(PLAN, steps=(kernel, replace(initrd, inputs=(*initrd.inputs, TextInput("new", "in/new")))))
    sandbox, (a, _) = build(tmp_path, plan=changed)
    assert sorted(sandbox.runs) == [("a", "make-initrd"), ("b", "make-initrd")]
    assert a.record.cached_steps == ("kernel",)


def test_a_leg_never_takes_what_the_other_one_made(tmp_path: Path) -> None:
    build(tmp_path, "a")
    sandbox, _ = build(tmp_path, "b")
    assert sorted(sandbox.runs) == [("b", "make-initrd"), ("b", "make-kernel")]


def test_another_engine_runs_everything(tmp_path: Path) -> None:
    build(tmp_path)
    sandbox, _ = build(tmp_path, engine="other")
    assert sorted(sandbox.runs) == ALL


def test_without_a_cache_nothing_is_taken_and_nothing_kept(tmp_path: Path) -> None:
    build(tmp_path)
    before = sorted((tmp_path / "steps").rglob("*"))
    sandbox = FakeSandbox(STEPS)
    a, _ = run_small(tmp_path, sandbox)
    assert sorted(sandbox.runs) == ALL
    assert a.record.cached_steps == ()
    assert sorted((tmp_path / "steps").rglob("*")) == before


def poison(path: Path) -> None:
    """Make every entry say that the kernel is other bytes, which are there, whole, in the store of the cache."""
    evil = path / "evil"
    evil.write_bytes(b"evil kernel")
    sha256, size = StepStore(path / "steps").objects.add_file(evil)
    for entry in (path / "steps/entries").iterdir():
        document = json.loads(entry.read_bytes())
        document["outputs"] = {name: {"sha256": sha256, "size": size} for name in document["outputs"]}
        entry.write_text(json.dumps(document))


def test_a_poisoned_cache_changes_nothing_without_it_and_is_told_of_with_it(tmp_path: Path) -> None:
    """The cache believes what it says, which is why a release has none, and refuses what was made with one."""
    build(tmp_path)
    poison(tmp_path)
    _, (poisoned, _) = build(tmp_path)
    assert poisoned.artifact_path("vmlinuz").read_bytes() == b"evil kernel"
    with pytest.raises(NotProvenError, match="steps kernel came from the step cache"):
        require_uncached(poisoned)
    a, b = run_small(tmp_path, FakeSandbox(STEPS))
    for leg in (a, b):
        require_uncached(leg)
        assert leg.artifact_path("vmlinuz").read_bytes() == b"kernel"


def objects(path: Path) -> list[Path]:
    return [found for found in (path / "steps/store/objects").glob("*/*") if found.read_bytes() == b"kernel"]


def damage(found: Path) -> None:
    found.chmod(0o644)
    found.write_bytes(b"Kernel")


def cut(found: Path) -> None:
    found.chmod(0o644)
    found.write_bytes(b"kern")


@pytest.mark.parametrize("spoil", [damage, cut, Path.unlink])
def test_an_output_that_is_not_whole_is_made_again(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    build(tmp_path)
    (found,) = objects(tmp_path)
    spoil(found)
    sandbox, (a, b) = build(tmp_path)
    assert {step for _, step in sandbox.runs} == {"make-kernel"}
    for leg in (a, b):
        assert leg.artifact_path("vmlinuz").read_bytes() == b"kernel"


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff" * 100])
def test_a_damaged_entry_is_no_entry(tmp_path: Path, data: bytes) -> None:
    build(tmp_path)
    for entry in (tmp_path / "steps/entries").iterdir():
        entry.write_bytes(data)
    sandbox, _ = build(tmp_path)
    assert sorted(sandbox.runs) == ALL


def test_an_entry_of_another_task_is_not_taken_under_this_name(tmp_path: Path) -> None:
    build(tmp_path)
    entries = sorted((tmp_path / "steps/entries").iterdir())
    contents = [entry.read_bytes() for entry in entries]
    for entry, data in zip(entries, contents[1:] + contents[:1], strict=True):
        entry.write_bytes(data)
    sandbox, _ = build(tmp_path)
    assert sorted(sandbox.runs) == ALL


def test_an_entry_whose_size_is_wrong_is_not_taken(tmp_path: Path) -> None:
    build(tmp_path, "a")
    for entry in (tmp_path / "steps/entries").iterdir():
        document = json.loads(entry.read_bytes())
        for output in document["outputs"].values():
            output["size"] += 1
        entry.write_text(json.dumps(document))
    sandbox, _ = build(tmp_path, "a")
    assert sorted(sandbox.runs) == [("a", "make-initrd"), ("a", "make-kernel")]


def test_an_entry_without_its_log_is_not_taken(tmp_path: Path) -> None:
    build(tmp_path, "a")
    log = sha256_hex(b"make-kernel runs in leg a\n")
    (tmp_path / "steps/store/objects" / log[:2] / log).unlink()
    sandbox, _ = build(tmp_path, "a")
    assert sandbox.runs == [("a", "make-kernel")]


def test_a_step_that_failed_is_not_remembered(tmp_path: Path) -> None:
    broken = {**STEPS, "make-initrd": lambda _directory, _variation: None}
    steps = StepStore(tmp_path / "steps")
    with pytest.raises(BuildFailedError, match=r"initrd.img is missing"):
        run_small(tmp_path, FakeSandbox(broken), "a", steps=steps)
    sandbox, _ = build(tmp_path, "a")
    assert sandbox.runs == [("a", "make-initrd")]
