"""Real legs, read from inside: each axis varies, and where it does not, that is found."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.backends.bubblewrap import Bubblewrap
from builder.compare.legs import compare_axes, require_varied
from builder.errors import MissingError, NotProvenError
from builder.model.build_info import AxisVerdict, BuildInfo
from builder.model.variation import AXES, VARIATION_A, VARIATION_B, Variation
from builder.ports import Sandbox
from tests.integration.docker_daemon import ENGINES, engine_called
from tests.integration.leg_runs import ENVIRONMENT, probe, shell, workspace_of

pytestmark = [pytest.mark.network, pytest.mark.xdist_group("docker")]

SQUASHFS = "mkdir t; cp in/data t; chmod 644 t/data; chmod 755 t; mksquashfs t out/image -quiet -no-progress -all-root"


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Sandbox:
    return engine_called(request.param, request)


def observed(engine: Sandbox, root: Path, scratch: Path, variation: Variation) -> BuildInfo:
    """A leg that is read before and after a step, like those of a build."""
    with workspace_of(engine, root, scratch, variation) as workspace:
        before = probe(workspace)
        shell(workspace, "mkdir staging; echo x > staging/file; echo y > out/result")
        probes = (before, probe(workspace))
    return BuildInfo(variation.name, engine.engine, engine.engine_version, probes, engine.not_varied(variation), 1, 2)


def observed_side_by_side(engine: Sandbox, root: Path, scratch: Path, *variations: Variation) -> list[BuildInfo]:
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(observed, engine, root, scratch / str(number), variation)
            for number, variation in enumerate(variations)
        ]
        return [job.result() for job in jobs]


def test_two_legs_side_by_side_differ_along_every_axis_that_the_engine_can_vary(
    engine: Sandbox, pinned_root: Path, tmp_path: Path
) -> None:
    a, b = observed_side_by_side(engine, pinned_root, tmp_path, VARIATION_A, VARIATION_B)
    found = {comparison.axis: comparison.verdict for comparison in compare_axes(a, b)}
    refused = dict.fromkeys(b.not_varied, AxisVerdict.NOT_VARIED)
    assert found == dict.fromkeys(AXES, AxisVerdict.VARIED) | refused
    assert set(refused) <= {"fileordering", "num_cpus"}
    assert b.probes[0].axes["time"] == "+400d"
    assert b.probes[0].axes["locales"] == "order aAbB, number 1.234.567, month Januar"


@pytest.fixture(scope="module")
def leg_a(engine: Sandbox, pinned_root: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildInfo:
    """Leg a of each engine, which is the same beside every leg b."""
    return observed(engine, pinned_root, tmp_path_factory.mktemp("leg") / "a", VARIATION_A)


def test_two_legs_with_one_variation_are_not_proven(
    engine: Sandbox, leg_a: BuildInfo, pinned_root: Path, tmp_path: Path
) -> None:
    other = observed(engine, pinned_root, tmp_path / "b", replace(VARIATION_A, name="b"))
    comparisons = compare_axes(leg_a, other)
    assert AxisVerdict.VARIED not in {comparison.verdict for comparison in comparisons}
    with pytest.raises(NotProvenError):
        require_varied(comparisons, ["umask"])


# each axis with what leaves it as it is in leg a
NOT_APPLIED: Mapping[str, Mapping[str, object]] = {
    "aslr": {"aslr": True},
    "build_path": {"build_path": VARIATION_A.build_path},
    "domain_host": {"host_name": VARIATION_A.host_name},
    "environment": {"environment": {}},
    "exec_path": {"path": VARIATION_A.path},
    "home": {"home": VARIATION_A.home},
    "kernel": {"old_kernel_release": False},
    "locales": {"locale": "C.UTF-8"},
    "time": {"time_offset_days": 397},
    "timezone": {"timezone": "No/Such_Zone"},
    "tmpdir": {"tmpdir": VARIATION_A.tmpdir},
    "umask": {"umask": 0o022},
    "user_group": {"uid": 0, "gid": 0},
}


def equal_axes(leg_a: BuildInfo, engine: Sandbox, root: Path, scratch: Path, *axes: str) -> list[str]:
    """The axes that are equal in leg a and in a leg b where `axes` were not applied."""
    changes: dict[str, Any] = {name: value for axis in axes for name, value in NOT_APPLIED[axis].items()}
    b = observed(engine, root, scratch, replace(VARIATION_B, **changes))
    return [comparison.axis for comparison in compare_axes(leg_a, b) if comparison.verdict is AxisVerdict.EQUAL]


@pytest.mark.parametrize("axis", NOT_APPLIED)
@pytest.mark.parametrize("engine", ["bubblewrap"], indirect=True)
def test_an_axis_that_was_not_applied_is_found_and_no_other(
    engine: Sandbox, leg_a: BuildInfo, pinned_root: Path, tmp_path: Path, axis: str
) -> None:
    """The negative of each axis: all others still vary, so nothing else stands in for it."""
    assert equal_axes(leg_a, engine, pinned_root, tmp_path / "b", axis) == [axis]


@pytest.mark.parametrize(
    "axes",
    [
        ("aslr", "build_path", "user_group"),
        ("domain_host", "home", "kernel", "tmpdir"),
        ("environment", "locales", "time", "umask"),
        ("exec_path", "timezone"),
    ],
    ids="+".join,
)
@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_axes_that_docker_did_not_apply_are_found_and_no_others(
    engine: Sandbox, leg_a: BuildInfo, pinned_root: Path, tmp_path: Path, axes: tuple[str, ...]
) -> None:
    """The same, several at a time: each axis is left out once, and varies in all other legs."""
    assert equal_axes(leg_a, engine, pinned_root, tmp_path / "b", *axes) == sorted(axes, key=list(AXES).index)


def test_no_axis_is_left_out_of_the_negatives() -> None:
    assert NOT_APPLIED.keys() == AXES.keys() - {"fileordering", "num_cpus"}


def test_a_locale_that_did_not_take_effect_is_found(engine: Sandbox, pinned_root: Path, tmp_path: Path) -> None:
    with workspace_of(engine, pinned_root, tmp_path / "scratch", VARIATION_B) as workspace:
        reading = probe(workspace, {**ENVIRONMENT, "LC_ALL": "fr_FR.UTF-8"})
    assert reading.axes["locales"] == "order ABab, number 1234567, month January"
    assert reading.facts["locale"].startswith("not in effect")


def test_a_locale_that_the_root_has_no_sources_of_is_refused(
    engine: Sandbox, pinned_root: Path, tmp_path: Path
) -> None:
    variation = replace(VARIATION_B, locale="xx_XX.UTF-8")
    with (
        pytest.raises(MissingError, match="has no /usr/share/i18n/locales/xx_XX"),
        workspace_of(engine, pinned_root, tmp_path / "scratch", variation),
    ):
        pytest.fail("a leg was opened without its locale")


def test_a_machine_with_one_cpu_says_that_it_cannot_vary_it(pinned_root: Path, tmp_path: Path) -> None:
    engine = Bubblewrap()
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
    pinned_root: Path, tmp_path: Path
) -> None:
    """The legs differ enough to expose a fault (ND-A02), and not in a way that breaks good tools."""
    (tmp_path / "data").write_bytes(b"the same" * 10_000)
    results = []
    for variation in (VARIATION_A, VARIATION_B):
        with workspace_of(Bubblewrap(), pinned_root, tmp_path / "scratch", variation) as workspace:
            workspace.put(tmp_path / "data", "in/data")
            shell(workspace, f"{SQUASHFS}; date +%F > out/day")
            results.append((workspace.get("image").read_bytes(), workspace.get("day").read_text()))
    assert results[0][0] == results[1][0]
    assert results[0][1] != results[1][1]


def test_two_steps_of_a_leg_with_one_cpu_run_on_different_ones(pinned_root: Path, tmp_path: Path) -> None:
    """Else two long compiles would share one CPU while the other is idle."""
    engine = Bubblewrap()
    cpus = len(os.sched_getaffinity(0))
    with (
        workspace_of(engine, pinned_root, tmp_path / "one", VARIATION_B) as one,
        workspace_of(engine, pinned_root, tmp_path / "two", VARIATION_B) as two,
    ):
        affinity = "python3 -c 'import os; print(os.sched_getaffinity(0))'"
        found = {shell(workspace, affinity) for workspace in (one, two)}
    assert len(found) == min(2, cpus)


def test_a_leg_with_all_cpus_yields_to_the_one_that_has_only_one(pinned_root: Path, tmp_path: Path) -> None:
    """In bubblewrap, where niceness counts between the two; docker has control groups for that."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    niceness = []
    for variation in (VARIATION_A, VARIATION_B):
        with workspace_of(Bubblewrap(), pinned_root, tmp_path / "scratch", variation) as workspace:
            niceness.append(int(shell(workspace, "nice")))
    assert niceness == [min(19, own + 10), own]
