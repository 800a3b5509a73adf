"""Whether two legs really differed: nothing that is missing, equal or unclear may pass as varied."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.compare.legs import compare_axes, require_varied
from builder.encoding.canonical_json import encode_canonical
from builder.errors import DocumentError, ExitStatus, NotProvenError
from builder.model.build_info import AxisVerdict, BuildInfo, Probe
from builder.model.leg import LegRecord, encode_leg_record, parse_leg_record
from builder.model.plan import Artifact
from builder.model.variation import AXES

ALL = tuple(AXES)


def leg(name: str, *readings: Mapping[str, str], not_varied: Mapping[str, str] | None = None) -> BuildInfo:
    """A leg with these readings; two good ones if none are given."""
    good = {**{axis: f"{axis} of {name}" for axis in AXES}, "time": "+0d" if name == "a" else "+400d"}
    probes = tuple(Probe({**good, **reading}, {"boot_id": "x"}) for reading in readings or ({}, {}))
    return BuildInfo(name, "fake", "1", probes, not_varied or {}, 1, 2)


def verdict(axis: str, a: BuildInfo, b: BuildInfo) -> tuple[AxisVerdict, str]:
    found = next(comparison for comparison in compare_axes(a, b) if comparison.axis == axis)
    assert found.code == AXES[axis]
    return found.verdict, found.reason


def test_two_legs_that_differ_along_every_axis_are_proven() -> None:
    comparisons = compare_axes(leg("a"), leg("b"))
    assert [comparison.axis for comparison in comparisons] == list(AXES)
    assert {comparison.verdict for comparison in comparisons} == {AxisVerdict.VARIED}
    require_varied(comparisons, ALL)


def test_two_equal_legs_vary_nowhere() -> None:
    comparisons = compare_axes(leg("a"), replace(leg("a"), leg="b"))
    assert {comparison.verdict for comparison in comparisons} == {AxisVerdict.EQUAL}
    with pytest.raises(NotProvenError) as caught:
        require_varied(comparisons, ALL)
    assert caught.value.status is ExitStatus.NOT_PROVEN
    for axis in AXES:
        assert axis in caught.value.message


def test_every_failed_axis_is_named_with_both_values_and_no_other() -> None:
    a, b = leg("a"), leg("b", *[{"locales": "locales of a", "umask": "umask of a"}] * 2)
    with pytest.raises(NotProvenError) as caught:
        require_varied(compare_axes(a, b), ["umask", "home", "locales"])
    assert "umask is equal (a: 'umask of a', b: 'umask of a'; both legs saw the same)" in caught.value.message
    assert "locales is equal" in caught.value.message
    assert "home" not in caught.value.message


@pytest.mark.parametrize("axis", ALL)
def test_an_axis_that_no_engine_varies_fails_only_if_it_is_required(axis: str) -> None:
    comparisons = compare_axes(leg("a"), leg("b", not_varied={axis: "no means"}))
    assert verdict(axis, leg("a"), leg("b", not_varied={axis: "no means"})) == (
        AxisVerdict.NOT_VARIED,
        "leg b: no means",
    )
    require_varied(comparisons, [other for other in ALL if other != axis])
    with pytest.raises(NotProvenError, match=f"{axis} is not_varied .*leg b: no means"):
        require_varied(comparisons, [axis])


def test_a_refusal_of_either_leg_counts() -> None:
    refusal = {"fileordering": "no means"}
    assert verdict("fileordering", leg("a", not_varied=refusal), leg("b"))[0] is AxisVerdict.NOT_VARIED


@pytest.mark.parametrize("name", ["a", "b"])
def test_readings_of_one_leg_that_disagree_are_unstable(name: str) -> None:
    legs = {"a": leg("a"), "b": leg("b")} | {name: leg(name, {}, {"home": "elsewhere"})}
    found, reason = verdict("home", legs["a"], legs["b"])
    assert found is AxisVerdict.UNSTABLE
    assert reason == f"leg {name}: the readings differ: 'elsewhere', 'home of {name}'"


@pytest.mark.parametrize("readings", [0, 1])
def test_fewer_readings_than_before_and_after_prove_nothing(readings: int) -> None:
    few = replace(leg("b"), probes=leg("b").probes[:readings])
    comparisons = compare_axes(leg("a"), few)
    assert {comparison.verdict for comparison in comparisons} == {AxisVerdict.UNSTABLE}
    with pytest.raises(NotProvenError, match=f"read {readings} times, wanted 2 or more"):
        require_varied(comparisons, ["umask"])


@pytest.mark.parametrize("probe", [Probe({}, {}), Probe(dict.fromkeys(AXES, ""), {})])
def test_a_reading_without_a_value_proves_nothing(probe: Probe) -> None:
    a = leg("a")
    with_gap = replace(leg("b"), probes=(*leg("b").probes, probe))
    assert verdict("kernel", a, with_gap) == (AxisVerdict.UNSTABLE, "leg b: 1 of 3 readings have no value")
    without = replace(leg("b"), probes=(probe, probe))
    assert verdict("kernel", without, without)[0] is AxisVerdict.UNSTABLE


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("+0d", "+400d", AxisVerdict.VARIED),
        ("+0d", "-398d", AxisVerdict.VARIED),
        ("-1d", "+397d", AxisVerdict.VARIED),
        ("+0d", "+397d", AxisVerdict.EQUAL),
        ("+400d", "+401d", AxisVerdict.EQUAL),
        ("+0d", "1829903946", AxisVerdict.UNSTABLE),
        ("soon", "+400d", AxisVerdict.UNSTABLE),
    ],
)
def test_clocks_must_be_further_apart_than_a_certificate_lives(a: str, b: str, expected: AxisVerdict) -> None:
    assert verdict("time", leg("a", *[{"time": a}] * 2), leg("b", *[{"time": b}] * 2))[0] is expected


def test_an_empty_requirement_is_not_a_pass() -> None:
    with pytest.raises(NotProvenError, match="no axis is required"):
        require_varied(compare_axes(leg("a"), leg("b")), [])


def test_a_required_axis_that_was_not_compared_is_not_a_pass() -> None:
    with pytest.raises(NotProvenError, match="phase_of_the_moon was not compared"):
        require_varied(compare_axes(leg("a"), leg("b")), ["umask", "phase_of_the_moon"])
    with pytest.raises(NotProvenError, match="umask was not compared"):
        require_varied((), ["umask"])


def test_facts_are_never_compared() -> None:
    a, b = leg("a"), leg("b")
    other_facts = replace(b, probes=tuple(Probe(probe.axes, {"boot_id": str(probe)}) for probe in b.probes))
    assert compare_axes(a, b) == compare_axes(a, other_facts)


@given(st.lists(st.dictionaries(st.sampled_from(ALL), st.text(max_size=3)), max_size=4))
def test_varied_means_that_every_reading_of_both_legs_has_a_value_of_its_leg(readings: list[dict[str, str]]) -> None:
    b = replace(leg("b"), probes=tuple(Probe(reading, {}) for reading in readings))
    for comparison in compare_axes(leg("a"), b):
        if comparison.verdict is AxisVerdict.VARIED:
            values = {reading.get(comparison.axis) for reading in readings}
            assert values == {comparison.b}
            assert comparison.b not in ("", comparison.a)


RECORD = LegRecord("1" * 64, "2" * 64, "3" * 64, leg("a"), (Artifact("kernel", "vmlinuz", 5, "4" * 64),))


def test_a_leg_record_survives_being_written_and_read() -> None:
    assert parse_leg_record(encode_leg_record(RECORD), what="leg.json") == RECORD


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "tdx-builder/leg/v2"}, r"\$\.schema"),
        ({"plan_sha256": "3" * 63}, r"\$\.plan_sha256"),
        ({"plan_sha256": ["3"]}, r"\$\.plan_sha256"),
        ({"artifacts": []}, r"\$\.artifacts"),
        ({"note": "unknown"}, "unknown field 'note'"),
        ({"build_info": {}}, "missing field"),
        ({"cached_steps": None}, r"\$\.cached_steps"),
        ({"cached_steps": ["kernel", "kernel"]}, r"\$\.cached_steps"),
    ],
)
def test_a_leg_record_that_does_not_fit_its_schema_is_refused(change: dict[str, object], reason: str) -> None:
    document = {
        "schema": "tdx-builder/leg/v1",
        "recipe_sha256": RECORD.recipe_sha256,
        "lock_sha256": RECORD.lock_sha256,
        "plan_sha256": RECORD.plan_sha256,
        "build_info": {
            "leg": "a",
            "engine": "fake",
            "engine_version": "1",
            "probes": [{"axes": {}, "facts": {}}] * 2,
            "not_varied": {},
            "started": 1,
            "finished": 2,
            "workers": [],
        },
        "artifacts": [{"component": "kernel", "name": "vmlinuz", "size": 5, "sha256": "4" * 64}],
        "cached_steps": [],
    }
    assert parse_leg_record(encode_canonical(document), what="leg.json").artifacts == RECORD.artifacts
    with pytest.raises(DocumentError, match=reason):
        parse_leg_record(encode_canonical({**document, **change}), what="leg.json")


def test_a_leg_record_that_does_not_say_what_came_from_the_step_cache_is_refused() -> None:
    document = json.loads(encode_leg_record(RECORD))
    del document["cached_steps"]
    with pytest.raises(DocumentError, match="missing field 'cached_steps'"):
        parse_leg_record(json.dumps(document).encode(), what="leg.json")


def test_workers_and_cached_steps_survive_being_written_and_read() -> None:
    record = replace(RECORD, build_info=replace(leg("a"), workers=("one", "two")), cached_steps=("kernel",))
    assert parse_leg_record(encode_leg_record(record), what="leg.json") == record
