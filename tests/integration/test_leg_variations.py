"""Real legs, read from inside: each axis varies, and where it does not, that is found."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from builder.backends.bubblewrap import Bubblewrap
from builder.compare.legs import compare_axes, require_varied
from builder.errors import MissingError, NotProvenError
from builder.model.build_info import AxisVerdict, BuildInfo
from builder.model.variation import AXES, VARIATION_A, VARIATION_B, Variation
from tests.integration.leg_runs import ENVIRONMENT, probe, shell, workspace_of

pytestmark = [pytest.mark.network, pytest.mark.xdist_group("pinned_root")]

SQUASHFS = "mkdir t; cp in/data t; chmod 644 t/data; chmod 755 t; mksquashfs t out/image -quiet -no-progress -all-root"


@pytest.fixture(scope="module")
def engine() -> Bubblewrap:
    return Bubblewrap()


def observed(engine: Bubblewrap, root: Path, scratch: Path, variation: Variation) -> BuildInfo:
    """A leg that is read before and after a step, like those of a build."""
    with workspace_of(engine, root, scratch, variation) as workspace:
        before = probe(workspace)
        shell(workspace, "mkdir staging; echo x > staging/file; echo y > out/result")
        probes = (before, probe(workspace))
    return BuildInfo(variation.name, engine.engine, engine.engine_version, probes, engine.not_varied(variation), 1, 2)


def observed_side_by_side(engine: Bubblewrap, root: Path, scratch: Path, *variations: Variation) -> list[BuildInfo]:
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(observed, engine, root, scratch / str(number), variation)
            for number, variation in enumerate(variations)
        ]
        return [job.result() for job in jobs]


def test_two_legs_side_by_side_differ_along_every_axis_that_the_engine_can_vary(
    engine: Bubblewrap, pinned_root: Path, tmp_path: Path
) -> None:
    a, b = observed_side_by_side(engine, pinned_root, tmp_path, VARIATION_A, VARIATION_B)
    found = {comparison.axis: comparison.verdict for comparison in compare_axes(a, b)}
    refused = dict.fromkeys(b.not_varied, AxisVerdict.NOT_VARIED)
    assert found == dict.fromkeys(AXES, AxisVerdict.VARIED) | refused
    assert set(refused) <= {"fileordering", "num_cpus"}
    assert b.probes[0].axes["time"] == "+400d"
    assert b.probes[0].axes["locales"] == "order aAbB, number 1.234.567, month Januar"


def test_two_legs_with_one_variation_are_not_proven(engine: Bubblewrap, pinned_root: Path, tmp_path: Path) -> None:
    legs = observed_side_by_side(engine, pinned_root, tmp_path, VARIATION_A, replace(VARIATION_A, name="b"))
    comparisons = compare_axes(*legs)
    assert AxisVerdict.VARIED not in {comparison.verdict for comparison in comparisons}
    with pytest.raises(NotProvenError):
        require_varied(comparisons, ["umask"])


@pytest.mark.parametrize(
    ("axis", "change"),
    [
        ("aslr", {"aslr": True}),
        ("build_path", {"build_path": VARIATION_A.build_path}),
        ("domain_host", {"host_name": VARIATION_A.host_name}),
        ("environment", {"environment": {}}),
        ("exec_path", {"path": VARIATION_A.path}),
        ("home", {"home": VARIATION_A.home}),
        ("kernel", {"old_kernel_release": False}),
        ("locales", {"locale": "C.UTF-8"}),
        ("time", {"time_offset_days": 397}),
        ("timezone", {"timezone": "No/Such_Zone"}),
        ("tmpdir", {"tmpdir": "/tmp"}),
        ("umask", {"umask": 0o022}),
        ("user_group", {"uid": 0, "gid": 0}),
    ],
)
def test_an_axis_that_was_not_applied_is_found_and_no_other(
    engine: Bubblewrap, pinned_root: Path, tmp_path: Path, axis: str, change: dict[str, object]
) -> None:
    """The negative of each axis: all others still vary, so nothing else stands in for it."""
    variation = replace(VARIATION_B, **change)  # type: ignore[arg-type]
    a, b = observed_side_by_side(engine, pinned_root, tmp_path, VARIATION_A, variation)
    equal = [comparison.axis for comparison in compare_axes(a, b) if comparison.verdict is AxisVerdict.EQUAL]
    assert equal == [axis]


def test_a_locale_that_did_not_take_effect_is_found(engine: Bubblewrap, pinned_root: Path, tmp_path: Path) -> None:
    with workspace_of(engine, pinned_root, tmp_path / "scratch", VARIATION_B) as workspace:
        reading = probe(workspace, {**ENVIRONMENT, "LC_ALL": "fr_FR.UTF-8"})
    assert reading.axes["locales"] == "order ABab, number 1234567, month January"
    assert reading.facts["locale"].startswith("not in effect")


def test_a_locale_that_the_root_has_no_sources_of_is_refused(
    engine: Bubblewrap, pinned_root: Path, tmp_path: Path
) -> None:
    variation = replace(VARIATION_B, locale="xx_XX.UTF-8")
    with (
        pytest.raises(MissingError, match="has no /usr/share/i18n/locales/xx_XX"),
        workspace_of(engine, pinned_root, tmp_path / "scratch", variation),
    ):
        pytest.fail("a leg was opened without its locale")


def test_a_machine_with_one_cpu_says_that_it_cannot_vary_it(
    engine: Bubblewrap, pinned_root: Path, tmp_path: Path
) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        a = observed(engine, pinned_root, tmp_path / "a", VARIATION_A)
        b = observed(engine, pinned_root, tmp_path / "b", VARIATION_B)
    finally:
        os.sched_setaffinity(0, allowed)
    with pytest.raises(NotProvenError, match=r"num_cpus is not_varied .* only one CPU"):
        require_varied(compare_axes(a, b), ["umask", "num_cpus"])


def test_a_step_that_honours_the_epoch_gives_equal_bytes_and_one_that_reads_the_clock_does_not(
    engine: Bubblewrap, pinned_root: Path, tmp_path: Path
) -> None:
    """The legs differ enough to expose a fault (ND-A02), and not in a way that breaks good tools."""
    (tmp_path / "data").write_bytes(b"the same" * 10_000)
    results = []
    for variation in (VARIATION_A, VARIATION_B):
        with workspace_of(engine, pinned_root, tmp_path / "scratch", variation) as workspace:
            workspace.put(tmp_path / "data", "in/data")
            shell(workspace, f"{SQUASHFS}; date +%F > out/day")
            results.append((workspace.get("image").read_bytes(), workspace.get("day").read_text()))
    assert results[0][0] == results[1][0]
    assert results[0][1] != results[1][1]
