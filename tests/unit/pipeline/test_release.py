"""A release appears whole, of two identical and differently built legs, or not at all."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from builder.attest.dsse import decode_envelope
from builder.errors import (
    BuilderError,
    DocumentError,
    MissingError,
    NotProvenError,
    RegisterDiffersError,
    VerificationError,
)
from builder.measure.rehearsal import rehearsal_of
from builder.model.comparison import Comparison
from builder.model.components import FlavourSpec
from builder.model.reference_values import ReferenceValues
from builder.model.rehearsal import EventVerdict, Rehearsal, rehearsal_record
from builder.model.variation import Variation
from builder.pipeline.legs import Leg
from builder.pipeline.manifest_diff import diff_manifests
from builder.pipeline.release import LegsDifferError, PublishedRelease, ReleaseOrder, release, show_artifacts
from tests.fakes.emulated_boot import honest_observation, predicted
from tests.fakes.fake_sandbox import FakeSandbox, honest_axes
from tests.fakes.sample_values import sample_values
from tests.fakes.small_build import STEPS, build_small, recipe_directory

PREDICTION = predicted()
VALUES = ReferenceValues({PREDICTION.profile.page_order: PREDICTION.registers.mrtd}, (PREDICTION,))
REHEARSAL = rehearsal_of(PREDICTION, honest_observation(PREDICTION))


class FixedSigner:
    """Signs with a constant: what is signed is tested elsewhere."""

    key_id = "fixed-test-key"

    def sign(self, data: bytes) -> bytes:
        return b"signature of %d bytes" % len(data)


def order_in(path: Path) -> ReleaseOrder:
    return ReleaseOrder(recipe_directory(path), path / "out", path / "manifests", FixedSigner())


def unexplained(comparison: Comparison, _a: Leg, _b: Leg) -> Comparison:
    return comparison


def never_measured(_leg: Leg) -> ReferenceValues:
    raise AssertionError("what the legs do not agree on was measured")


def publish(path: Path, legs: tuple[Leg, Leg]) -> PublishedRelease:
    return release(order_in(path), legs, lambda _leg: sample_values(), unexplained, rehearse=None)


def published_files(path: Path) -> list[str]:
    return sorted(file.relative_to(path).as_posix() for file in (path / "manifests").rglob("*") if file.is_file())


def inconstant(directory: Path, variation: Variation) -> None:
    (directory / "out/vmlinuz").write_text(f"kernel of leg {variation.name}")


def test_identical_legs_are_published_at_the_path_of_their_version(tmp_path: Path) -> None:
    published = publish(tmp_path, build_small(tmp_path, FakeSandbox(STEPS)))
    assert published.path == tmp_path / "manifests/sample/1.2.3/manifest.json"
    assert published_files(tmp_path) == ["manifests/sample/1.2.3/manifest.json"]


def test_a_flavour_is_published_at_a_version_of_its_own_and_says_so(tmp_path: Path) -> None:
    legs = build_small(tmp_path, FakeSandbox(STEPS))
    directory = recipe_directory(tmp_path)
    recipe = replace(directory.recipe, flavour="dev", flavours={"dev": FlavourSpec((), None, None)})
    order = replace(order_in(tmp_path), recipe=replace(directory, recipe=recipe))
    prod = publish(tmp_path, legs)
    published = release(order, legs, lambda _leg: sample_values(), unexplained, rehearse=None)

    assert published.path == tmp_path / "manifests/sample/1.2.3-dev/manifest.json"
    content = content_of(published.path)
    assert (content["version"], content["flavour"]) == ("1.2.3-dev", "dev")
    assert (content_of(prod.path)["version"], content_of(prod.path)["flavour"]) == ("1.2.3", "prod")
    assert published.digest != prod.digest


def content_of(manifest: Path) -> dict[str, Any]:
    statement = json.loads(decode_envelope(manifest.read_bytes(), what="manifest").payload)
    content: dict[str, Any] = statement["predicate"]["release"]
    return content


def test_the_statement_is_about_the_artefacts_and_carries_both_provenances(tmp_path: Path) -> None:
    legs = build_small(tmp_path, FakeSandbox(STEPS))
    published = publish(tmp_path, legs)
    statement = json.loads(decode_envelope(published.path.read_bytes(), what="manifest").payload)
    digests = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    assert digests == {artifact.name: artifact.sha256 for artifact in legs[0].record.artifacts}
    assert set(statement["predicate"]["run"]["legs"]) == {"a", "b"}
    assert statement["predicate"]["release"]["command_line"] == "console=ttyS0 root=abc size=4096"


def test_two_runs_of_one_release_agree_on_its_digest_and_nothing_volatile_is_in_it(tmp_path: Path) -> None:
    first = publish(tmp_path / "1", build_small(tmp_path / "1", FakeSandbox(STEPS)))
    other_engine = FakeSandbox(STEPS, engine="another", engine_version="2")
    second = publish(tmp_path / "2", build_small(tmp_path / "2", other_engine))
    assert first.digest == second.digest
    assert first.path.read_bytes() != second.path.read_bytes()
    assert diff_manifests(first.path, second.path).identical


def test_legs_that_differ_are_not_measured_and_publish_nothing(tmp_path: Path) -> None:
    legs = build_small(tmp_path, FakeSandbox({**STEPS, "make-kernel": inconstant}))
    with pytest.raises(LegsDifferError, match=r"initrd\.img, vmlinuz") as raised:
        release(order_in(tmp_path), legs, never_measured, unexplained, rehearse=None)
    assert raised.value.status == 1
    assert published_files(tmp_path) == []
    assert legs[0].artifact_path("vmlinuz").read_text() == "kernel of leg a"
    assert legs[1].artifact_path("vmlinuz").read_text() == "kernel of leg b"
    kept = json.loads((tmp_path / "out/comparison.json").read_bytes())
    assert kept["identical"] is False


def test_what_an_earlier_run_said_of_other_legs_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/comparison.json").write_text("{}")
    publish(tmp_path, build_small(tmp_path, FakeSandbox(STEPS)))
    assert not (tmp_path / "out/comparison.json").exists()


def test_an_artefact_that_only_one_leg_has_is_a_difference(tmp_path: Path) -> None:
    a, b = build_small(tmp_path, FakeSandbox(STEPS))
    fewer = replace(b, record=replace(b.record, artifacts=b.record.artifacts[:-1]))
    with pytest.raises(LegsDifferError, match="cmdline"):
        release(order_in(tmp_path), (a, fewer), never_measured, unexplained, rehearse=None)


def test_legs_without_artefacts_are_not_identical(tmp_path: Path) -> None:
    a, b = (replace(leg, record=replace(leg.record, artifacts=())) for leg in build_small(tmp_path, FakeSandbox(STEPS)))
    with pytest.raises(LegsDifferError, match="no artefact at all"):
        release(order_in(tmp_path), (a, b), never_measured, unexplained, rehearse=None)


def test_equal_legs_are_not_proven(tmp_path: Path) -> None:
    def same_umask(variation: Variation) -> dict[str, str]:
        return {**honest_axes(variation), "umask": "0022"}

    legs = build_small(tmp_path, FakeSandbox(STEPS, axes=same_umask))
    with pytest.raises(NotProvenError, match="umask") as raised:
        release(order_in(tmp_path), legs, never_measured, unexplained, rehearse=None)
    assert raised.value.status == 8
    assert published_files(tmp_path) == []


def test_one_leg_compared_with_itself_is_not_proven(tmp_path: Path) -> None:
    a, _ = build_small(tmp_path, FakeSandbox(STEPS))
    with pytest.raises(NotProvenError, match="itself"):
        release(order_in(tmp_path), (a, a), never_measured, unexplained, rehearse=None)


@pytest.mark.parametrize("field", ["recipe_sha256", "lock_sha256", "plan_sha256"])
def test_legs_of_different_work_are_not_compared(tmp_path: Path, field: str) -> None:
    a, b = build_small(tmp_path, FakeSandbox(STEPS))
    other = replace(b, record=replace(b.record, **{field: "0" * 64}))
    with pytest.raises(NotProvenError, match=field):
        release(order_in(tmp_path), (a, other), never_measured, unexplained, rehearse=None)


@pytest.mark.parametrize("cached", [0, 1], ids="ab")
def test_a_leg_that_used_the_step_cache_is_never_released(tmp_path: Path, cached: int) -> None:
    legs = list(build_small(tmp_path, FakeSandbox(STEPS)))
    legs[cached] = replace(legs[cached], record=replace(legs[cached].record, cached_steps=("kernel",)))
    with pytest.raises(NotProvenError, match="steps kernel came from the step cache") as raised:
        release(order_in(tmp_path), (legs[0], legs[1]), never_measured, unexplained, rehearse=None)
    assert "--cold" in str(raised.value.hint)
    assert published_files(tmp_path) == []


def test_a_rehearsal_is_recorded_in_the_manifest_and_so_is_that_there_was_none(tmp_path: Path) -> None:
    seen: list[tuple[Leg, ReferenceValues]] = []

    def rehearse(leg: Leg, values: ReferenceValues) -> Rehearsal:
        seen.append((leg, values))
        return REHEARSAL

    legs = build_small(tmp_path / "1", FakeSandbox(STEPS))
    order = order_in(tmp_path / "1")
    published = release(order, legs, lambda _leg: VALUES, unexplained, rehearse=rehearse)
    assert recorded_rehearsal(published) == {"rehearsed": True, **rehearsal_record(REHEARSAL)}
    assert seen == [(legs[0], VALUES)]
    second = build_small(tmp_path / "2", FakeSandbox(STEPS))
    other = release(order_in(tmp_path / "2"), second, lambda _leg: VALUES, unexplained, rehearse=None)
    assert recorded_rehearsal(other) == {"rehearsed": False}
    assert other.digest == published.digest, "a rehearsal is of the run, not of the release"


class NeverSigner(FixedSigner):
    def sign(self, data: bytes) -> bytes:
        raise AssertionError(f"{len(data)} bytes were signed")


def with_verdict(verdict: EventVerdict) -> Rehearsal:
    *others, last = REHEARSAL.events[:5]
    return replace(REHEARSAL, events=(*others, replace(last, verdict=verdict), *REHEARSAL.events[5:]))


@pytest.mark.parametrize(
    ("rehearsal", "error"),
    [
        pytest.param(with_verdict(EventVerdict.DIFFERS), RegisterDiffersError, id="a difference"),
        pytest.param(with_verdict(EventVerdict.MISSING), RegisterDiffersError, id="a missing event"),
        pytest.param(replace(REHEARSAL, left_boot_services=False), NotProvenError, id="cut off"),
        pytest.param(replace(REHEARSAL, ready=False), NotProvenError, id="not ready"),
        pytest.param(replace(REHEARSAL, events=()), NotProvenError, id="nothing compared"),
        pytest.param(replace(REHEARSAL, profile="2cpu-2G"), VerificationError, id="another profile"),
        pytest.param(replace(REHEARSAL, edk2="202211"), VerificationError, id="another firmware"),
        pytest.param(replace(REHEARSAL, events=REHEARSAL.events[:-6]), VerificationError, id="other events"),
        pytest.param(with_verdict(EventVerdict.NOT_REHEARSABLE), VerificationError, id="another verdict"),
        pytest.param(replace(REHEARSAL, programs={}), DocumentError, id="of no program"),
    ],
)
def test_a_rehearsal_that_did_not_pass_or_is_of_something_else_is_not_signed(
    tmp_path: Path, rehearsal: Rehearsal, error: type[BuilderError]
) -> None:
    legs = build_small(tmp_path, FakeSandbox(STEPS))
    order = replace(order_in(tmp_path), signer=NeverSigner())
    with pytest.raises(error, match="rehearsal"):
        release(order, legs, lambda _leg: VALUES, unexplained, rehearse=lambda _leg, _values: rehearsal)
    assert published_files(tmp_path) == []


def test_a_rehearsal_of_other_values_is_not_signed(tmp_path: Path) -> None:
    legs = build_small(tmp_path, FakeSandbox(STEPS))
    order = replace(order_in(tmp_path), signer=NeverSigner())
    with pytest.raises(VerificationError, match="the rehearsal"):
        release(order, legs, lambda _leg: sample_values(), unexplained, rehearse=lambda _leg, _values: REHEARSAL)


def recorded_rehearsal(published: PublishedRelease) -> dict[str, object]:
    statement = json.loads(decode_envelope(published.path.read_bytes(), what="manifest").payload)
    return dict(statement["predicate"]["run"]["rehearsal"])


@pytest.mark.parametrize("error", [RegisterDiffersError("kernel"), NotProvenError("no log"), MissingError("no swtpm")])
def test_a_failed_rehearsal_publishes_nothing(tmp_path: Path, error: BuilderError) -> None:
    def refuse(_leg: Leg, _values: ReferenceValues) -> Rehearsal:
        raise error

    legs = build_small(tmp_path, FakeSandbox(STEPS))
    with pytest.raises(type(error), match=error.message):
        release(order_in(tmp_path), legs, lambda _leg: sample_values(), unexplained, rehearse=refuse)
    assert published_files(tmp_path) == []


def test_a_version_is_never_published_twice(tmp_path: Path) -> None:
    legs = build_small(tmp_path, FakeSandbox(STEPS))
    first = publish(tmp_path, legs)
    data = first.path.read_bytes()
    with pytest.raises(DocumentError, match="published already"):
        publish(tmp_path, legs)
    assert first.path.read_bytes() == data


def test_a_failure_of_measuring_or_signing_publishes_nothing_and_the_next_run_works(tmp_path: Path) -> None:
    legs = build_small(tmp_path, FakeSandbox(STEPS))

    def failing(_leg: Leg) -> ReferenceValues:
        raise MissingError("no QEMU")

    class FailingSigner(FixedSigner):
        def sign(self, data: bytes) -> bytes:
            raise MissingError(f"no token for {len(data)} bytes")

    with pytest.raises(MissingError, match="QEMU"):
        release(order_in(tmp_path), legs, failing, unexplained, rehearse=None)
    order = replace(order_in(tmp_path), signer=FailingSigner())
    with pytest.raises(MissingError, match="token"):
        release(order, legs, lambda _leg: sample_values(), unexplained, rehearse=None)
    assert not (tmp_path / "manifests").exists()
    assert publish(tmp_path, legs).path.is_file()


def test_what_a_killed_run_left_does_not_hinder_the_next(tmp_path: Path) -> None:
    partial = tmp_path / "manifests/sample/.1.2.3.killed.partial"
    partial.mkdir(parents=True)
    (partial / "manifest.json").write_text("half")
    assert publish(tmp_path, build_small(tmp_path, FakeSandbox(STEPS))).path.is_file()


@pytest.mark.parametrize("text", ["", "two\nlines", "bell\x07", "no\n"])
def test_what_is_no_command_line_is_refused(tmp_path: Path, text: str) -> None:
    def initrd(directory: Path, variation: Variation) -> None:
        STEPS["make-initrd"](directory, variation)
        (directory / "out/cmdline").write_text(text)

    legs = build_small(tmp_path, FakeSandbox({**STEPS, "make-initrd": initrd}))
    with pytest.raises(DocumentError, match="command line"):
        publish(tmp_path, legs)
    assert not (tmp_path / "manifests").exists()


def test_artefacts_are_shown_once_and_replaced_by_the_next_run(tmp_path: Path) -> None:
    a, _ = build_small(tmp_path, FakeSandbox(STEPS))
    order = order_in(tmp_path)
    (order.out / "artifacts").mkdir(parents=True)
    (order.out / "artifacts/old").touch()
    shown = show_artifacts(order, a)
    assert sorted(path.name for path in shown.iterdir()) == ["cmdline", "initrd.img", "vmlinuz"]


def test_artefacts_of_a_leg_on_another_file_system_are_shown_too(tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system at /dev/shm")
    with TemporaryDirectory(dir=elsewhere) as name:
        a, _ = build_small(Path(name), FakeSandbox(STEPS))
        shown = show_artifacts(order_in(tmp_path), a)
        for artifact in a.record.artifacts:
            assert (shown / artifact.name).read_bytes() == a.artifact_path(artifact.name).read_bytes()
            assert (shown / artifact.name).stat().st_mode & 0o222 == 0


def test_two_releases_that_differ_elsewhere_say_in_which_member(tmp_path: Path) -> None:
    first = publish(tmp_path / "1", build_small(tmp_path / "1", FakeSandbox(STEPS)))
    legs = build_small(tmp_path / "2", FakeSandbox(STEPS))
    other = recipe_directory(tmp_path / "2")
    later = replace(
        order_in(tmp_path / "2"), recipe=replace(other, recipe=replace(other.recipe, source_date_epoch=1767225601))
    )
    second = release(later, legs, lambda _leg: sample_values(), unexplained, rehearse=None)
    found = diff_manifests(first.path, second.path)
    assert not found.identical
    assert found.other == ("source_date_epoch: 1767225600 and 1767225601",)
    assert found.statuses == [1]
