"""Running the plan in legs, with a sandbox that does not isolate."""

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import BuildFailedError, BytesDifferError, DocumentError, MissingError, NotProvenError
from builder.model.leg import encode_leg_record, parse_leg_record
from builder.model.variation import Variation
from builder.pipeline.legs import Leg, Work, load_leg, require_planned, reusable_leg
from tests.fakes.fake_sandbox import FakeSandbox
from tests.fakes.small_build import PLAN, STEPS, build_small, run_small, small_job


def test_both_legs_run_every_step_and_leave_the_artefacts(tmp_path: Path) -> None:
    sandbox = FakeSandbox(STEPS)
    a, b = build_small(tmp_path, sandbox)
    assert sorted(sandbox.runs) == [(leg, step) for leg in "ab" for step in ("make-initrd", "make-kernel")]
    assert a.record.artifacts == b.record.artifacts
    assert a.artifact_path("initrd.img").read_bytes() == b"initrd of kernel"


def test_a_leg_is_probed_before_and_after_every_step(tmp_path: Path) -> None:
    a, _ = build_small(tmp_path, FakeSandbox(STEPS))
    assert len(a.record.build_info.probes) == 4
    assert {probe.axes["umask"] for probe in a.record.build_info.probes} == {"umask of leg a"}


def test_what_the_engine_cannot_vary_is_in_the_record(tmp_path: Path) -> None:
    a, _ = build_small(tmp_path, FakeSandbox(STEPS))
    assert a.record.build_info.not_varied == {"fileordering": "this engine has one file system"}


def test_a_record_survives_being_written(tmp_path: Path) -> None:
    a, _ = build_small(tmp_path, FakeSandbox(STEPS))
    assert parse_leg_record(encode_leg_record(a.record), what="leg.json") == a.record
    assert load_leg(a.directory) == a


def test_the_log_of_every_step_is_kept(tmp_path: Path) -> None:
    a, _ = build_small(tmp_path, FakeSandbox(STEPS))
    assert "make-kernel runs in leg a" in (a.directory / "logs/kernel.log").read_text()


def test_the_failure_of_one_leg_is_what_is_raised_and_ends_the_other(tmp_path: Path) -> None:
    failed = threading.Event()

    def kernel(directory: Path, variation: Variation) -> None:
        if variation.name == "b":
            failed.set()
            raise BuildFailedError("no space in leg b")
        assert failed.wait(60)
        STEPS["make-kernel"](directory, variation)

    sandbox = FakeSandbox({**STEPS, "make-kernel": kernel})
    with pytest.raises(BuildFailedError, match="no space in leg b"):
        build_small(tmp_path, sandbox)
    assert sandbox.cancelled


def test_a_missing_output_fails_the_leg(tmp_path: Path) -> None:
    sandbox = FakeSandbox({**STEPS, "make-kernel": lambda _directory, _variation: None})
    with pytest.raises(BuildFailedError, match="vmlinuz"):
        build_small(tmp_path, sandbox)


@pytest.mark.parametrize("output", [b"", b"Traceback", b'{"axes": {}}', b'{"axes": [], "facts": {}}', b"[]", b"null"])
def test_a_probe_that_says_nothing_fails_the_leg(tmp_path: Path, output: bytes) -> None:
    with pytest.raises(BuildFailedError, match="probe"):
        build_small(tmp_path, FakeSandbox(STEPS, probe_output=output))


def test_a_package_that_was_not_fetched_is_named(tmp_path: Path) -> None:
    job = small_job(tmp_path)
    package = next(iter(job.inputs.lock.packages.values()))
    with pytest.raises(MissingError, match=package.name):
        job.inputs.object(package.sha256)


def test_a_complete_leg_is_reused_and_an_altered_one_is_not(tmp_path: Path) -> None:
    a, _ = build_small(tmp_path, FakeSandbox(STEPS))
    work = work_of(a)
    assert reusable_leg(a.directory, work, "fake") == a
    assert reusable_leg(a.directory, replace(work, plan_sha256="0" * 64), "fake") is None
    assert reusable_leg(a.directory, work, "docker") is None
    assert reusable_leg(tmp_path / "absent", work, "fake") is None
    path = a.artifact_path("vmlinuz")
    path.chmod(0o644)
    path.write_bytes(b"Kernel")
    assert reusable_leg(a.directory, work, "fake") is None
    with pytest.raises(BytesDifferError, match="vmlinuz"):
        load_leg(a.directory)
    path.unlink()
    with pytest.raises(BytesDifferError, match="no regular file"):
        load_leg(a.directory)


def test_a_link_in_place_of_an_artefact_is_refused(tmp_path: Path) -> None:
    a, b = build_small(tmp_path, FakeSandbox(STEPS))
    b.artifact_path("vmlinuz").unlink()
    b.artifact_path("vmlinuz").symlink_to(a.artifact_path("vmlinuz"))
    with pytest.raises(BytesDifferError, match="vmlinuz"):
        load_leg(b.directory)
    shutil.rmtree(b.directory / "artifacts")
    (b.directory / "artifacts").symlink_to(a.directory / "artifacts")
    with pytest.raises(BytesDifferError, match="no regular file"):
        load_leg(b.directory)


def test_a_leg_from_elsewhere_has_to_be_of_this_plan(tmp_path: Path) -> None:
    a, _ = build_small(tmp_path, FakeSandbox(STEPS))
    work = work_of(a)
    require_planned(a, PLAN, work)
    with pytest.raises(NotProvenError, match="plan is"):
        require_planned(a, PLAN, replace(work, plan_sha256="0" * 64))


def test_a_leg_of_another_lock_is_neither_kept_nor_released_although_its_plan_is_the_same(tmp_path: Path) -> None:
    """A plan only names the pinned roots: with another compiler in the lock it has the same digest."""
    a, _ = build_small(tmp_path, FakeSandbox(STEPS))
    relocked = replace(work_of(a), lock_sha256="0" * 64)
    assert reusable_leg(a.directory, relocked, "fake") is None
    with pytest.raises(NotProvenError, match="lock is"):
        require_planned(a, PLAN, relocked)


def test_a_leg_whose_record_leaves_an_artefact_out_is_refused(tmp_path: Path) -> None:
    """Else both legs could hide a difference that is measured all the same (I3)."""
    a, _ = build_small(tmp_path, FakeSandbox(STEPS))
    for artifacts in (a.record.artifacts[1:], (*a.record.artifacts, a.record.artifacts[0])):
        fewer = replace(a, record=replace(a.record, artifacts=artifacts))
        with pytest.raises(NotProvenError, match="list of artefacts"):
            require_planned(fewer, PLAN, work_of(a))


def test_an_artefact_is_only_read_as_it_was_recorded(tmp_path: Path) -> None:
    a, _ = build_small(tmp_path, FakeSandbox(STEPS))
    assert a.read_artifact("vmlinuz") == b"kernel"
    (a.directory / "artifacts/unlisted").write_bytes(b"kernel")
    with pytest.raises(BytesDifferError, match="no artefact of this name"):
        a.read_artifact("unlisted")
    a.artifact_path("vmlinuz").chmod(0o644)
    a.artifact_path("vmlinuz").write_bytes(b"exchanged after it was compared")
    with pytest.raises(BytesDifferError, match="vmlinuz"):
        a.read_artifact("vmlinuz")


@pytest.mark.parametrize("text", ["", "{", "{}", '{"schema": "tdx-builder/leg/v1"}', "[]"])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "leg.json").write_text(text)
    with pytest.raises(DocumentError, match="leg.json"):
        load_leg(tmp_path)


def test_a_leg_can_be_built_alone(tmp_path: Path) -> None:
    (leg,) = run_small(tmp_path, FakeSandbox(STEPS), "b")
    assert leg.record.build_info.leg == "b"


def test_what_is_no_artefact_is_shown_by_step(tmp_path: Path) -> None:
    plan = replace(PLAN, artifacts=PLAN.artifacts[1:])
    a, _ = build_small(tmp_path, FakeSandbox(STEPS), plan)
    assert (a.directory / "outputs/kernel/vmlinuz").read_bytes() == b"kernel"
    assert not (a.directory / "outputs/initrd").exists()


def test_nothing_is_left_of_where_the_steps_worked(tmp_path: Path) -> None:
    a, _ = build_small(tmp_path, FakeSandbox(STEPS))
    assert {path.name for path in a.directory.iterdir()} == {"artifacts", "leg.json", "logs"}


def test_a_leg_that_is_complete_has_its_record_although_the_other_one_fails(tmp_path: Path) -> None:
    def initrd(directory: Path, variation: Variation) -> None:
        if variation.name == "b":
            assert complete(tmp_path / "legs/a/leg.json")
            raise BuildFailedError("leg b is broken")
        STEPS["make-initrd"](directory, variation)

    with pytest.raises(BuildFailedError, match="leg b is broken"):
        build_small(tmp_path, FakeSandbox({**STEPS, "make-initrd": initrd}))
    assert load_leg(tmp_path / "legs/a").record.build_info.leg == "a"


def work_of(leg: Leg) -> Work:
    return Work(leg.record.lock_sha256, leg.record.plan_sha256)


def complete(path: Path) -> bool:
    """Wait until a file is there; a minute is more than it can take."""
    return any(path.exists() or time.sleep(0.01) for _ in range(6000))
