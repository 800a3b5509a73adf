"""Equality is decided by digests, and everything that is missing, empty or unknown is a difference."""

import json
from dataclasses import replace

import pytest

from builder.compare.artifacts import compare_legs
from builder.compare.render import comparison_lines
from builder.encoding.canonical_json import encode_canonical
from builder.model.comparison import (
    UNKNOWN_CAUSE,
    Comparison,
    Difference,
    DifferenceKind,
    Measured,
    Register,
    comparison_document,
)
from builder.model.plan import Artifact

KERNEL = Artifact("kernel", "vmlinuz", 3, "aa" * 32)
INITRD = Artifact("initrd", "initrd.img", 4, "bb" * 32)
SIDE = {artifact.name: artifact for artifact in (KERNEL, INITRD)}


def test_two_equal_sets_are_identical_and_have_no_difference() -> None:
    comparison = compare_legs(SIDE, dict(SIDE))
    assert comparison.identical
    assert comparison.differing == ()
    assert all(artifact.difference is None for artifact in comparison.artifacts)


def test_two_empty_sets_are_not_identical() -> None:
    comparison = compare_legs({}, {})
    assert not comparison.identical
    assert "nothing to compare" in comparison_lines(comparison)[0]


@pytest.mark.parametrize(("a", "b"), [(SIDE, {}), ({}, SIDE)])
def test_an_empty_side_is_not_identical(a: dict[str, Artifact], b: dict[str, Artifact]) -> None:
    assert not compare_legs(a, b).identical


def test_an_artifact_that_only_leg_a_has_is_a_difference() -> None:
    comparison = compare_legs(SIDE, {"vmlinuz": KERNEL})
    assert not comparison.identical
    (missing,) = comparison.differing
    assert missing.name == "initrd.img"
    assert missing.b is None
    assert missing.difference is not None
    assert missing.difference.kind is DifferenceKind.ONLY_IN_A
    assert missing.difference.measured.register is Register.RTMR2


def test_an_artifact_that_only_leg_b_has_is_a_difference() -> None:
    (missing,) = compare_legs({"vmlinuz": KERNEL}, SIDE).differing
    assert missing.difference is not None
    assert missing.difference.kind is DifferenceKind.ONLY_IN_B


@pytest.mark.parametrize("change", [{"sha256": "ab" + "bb" * 31}, {"size": 5}])
def test_another_digest_or_size_is_never_identical(change: dict[str, object]) -> None:
    other = {**SIDE, "initrd.img": replace(INITRD, **change)}  # type: ignore[arg-type]
    comparison = compare_legs(SIDE, other)
    assert not comparison.identical
    assert [artifact.name for artifact in comparison.differing] == ["initrd.img"]


def test_an_artifact_with_a_difference_is_never_identical_whatever_its_digests_say() -> None:
    found = Difference((), DifferenceKind.CONTENT, 0, 0, "", "", UNKNOWN_CAUSE, Measured(Register.UNKNOWN, ""))
    (artifact,) = compare_legs({"vmlinuz": KERNEL}, {"vmlinuz": KERNEL}).artifacts
    assert artifact.identical
    assert not replace(artifact, differences=(found,)).identical


def test_the_document_is_canonical_and_lists_artifacts_by_name() -> None:
    comparison = compare_legs(SIDE, {"vmlinuz": KERNEL})
    document = json.loads(encode_canonical(comparison_document(comparison)))
    assert document["identical"] is False
    assert [entry["name"] for entry in document["artifacts"]] == ["initrd.img", "vmlinuz"]
    assert document["artifacts"][0]["b"] is None
    assert document["artifacts"][0]["differences"][0]["kind"] == "only-in-a"


def test_the_document_of_nothing_does_not_say_identical() -> None:
    assert comparison_document(Comparison(()))["identical"] is False
