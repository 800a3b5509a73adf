"""Running one step at a site, with a sandbox that does not isolate."""

from dataclasses import replace
from pathlib import Path

import pytest

from builder.backends.local_store import LocalStore
from builder.errors import BuildFailedError, MissingError
from builder.model.digest import sha256_hex
from builder.model.plan import Step
from builder.model.task import Content, StepTask, TaskInput, task_for
from builder.model.variation import Variation
from builder.pipeline.run_step import MOST_OUTPUT, Site, limited, run_step
from tests.fakes.fake_sandbox import FakeSandbox
from tests.fakes.step_graphs import frame_of


def copy_input(directory: Path, variation: Variation) -> None:
    (directory / "out/output").write_bytes((directory / "in/input").read_bytes() + variation.name.encode())


STEPS = {"copy": copy_input}


def site_of(path: Path, sandbox: FakeSandbox | None = None) -> Site:
    (path / "root").mkdir(exist_ok=True)
    return Site(
        store=LocalStore(path / "store"),
        sandbox=sandbox or FakeSandbox(STEPS),
        root=lambda _: path / "root",
        scratch=path / "work",
        logs=path / "logs",
        programs="e" * 64,
        clock=lambda: 1_790_000_000,
        worker="worker-1",
    )


def task_of(site: Site, path: Path) -> StepTask:
    (path / "input").write_bytes(b"data of ")
    sha256, size = site.store.add_file(path / "input")
    task = task_for(Step("copy", ("copy",), (), ("output",)), frame_of("b"), {})
    return replace(task, inputs=(TaskInput(sha256, size, "in/input"),))


def test_a_step_leaves_its_outputs_and_log_in_the_store_and_says_who_ran_it(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    result = run_step(task_of(site, tmp_path), site)
    assert result.outputs == {"output": Content(sha256_hex(b"data of b"), 9)}
    stored = site.store.path(result.outputs["output"].sha256)
    assert stored is not None
    assert stored.read_bytes() == b"data of b"
    log = site.store.path(result.log)
    assert log is not None
    assert log.read_bytes() == (tmp_path / "logs/copy.log").read_bytes() == b"copy runs in leg b\n"
    assert (result.engine, result.engine_version, result.worker) == ("fake", "fake 1", "worker-1")
    assert [probe.axes["umask"] for probe in result.probes] == ["umask of leg b"] * 2
    assert not (tmp_path / "work/copy").exists()


@pytest.mark.parametrize("change", [{"engine": "docker"}, {"programs": "f" * 64}])
def test_a_machine_that_is_not_one_for_the_task_refuses_it(tmp_path: Path, change: dict[str, str]) -> None:
    sandbox = FakeSandbox(STEPS)
    site = site_of(tmp_path, sandbox)
    (name,) = change
    with pytest.raises(MissingError, match=f"leg b, step copy: worker-1 has the {name}.*wanted {change[name]}"):
        run_step(replace(task_of(site, tmp_path), **change), site)  # type: ignore[arg-type]
    assert sandbox.runs == []


def test_an_input_that_is_not_in_the_store_is_named_and_nothing_runs(tmp_path: Path) -> None:
    sandbox = FakeSandbox(STEPS)
    site = site_of(tmp_path, sandbox)
    task = replace(task_of(site, tmp_path), inputs=(TaskInput("1" * 64, 1, "in/input"),))
    with pytest.raises(MissingError, match=f"input in/input, sha256:{'1' * 64}"):
        run_step(task, site)
    assert sandbox.runs == []


def test_the_log_of_a_step_that_fails_stays(tmp_path: Path) -> None:
    site = site_of(tmp_path, FakeSandbox({"copy": lambda _directory, _variation: None}))
    with pytest.raises(BuildFailedError, match="output"):
        run_step(task_of(site, tmp_path), site)
    assert (tmp_path / "logs/copy.log").read_bytes() == b"copy runs in leg b\n"


def test_an_output_beyond_all_reason_fails_the_step(tmp_path: Path) -> None:
    def huge(directory: Path, variation: Variation) -> None:
        with (directory / "out/output").open("wb") as file:
            file.truncate(MOST_OUTPUT + 1)  # a hole, which takes no room

    site = site_of(tmp_path, FakeSandbox({"copy": huge}))
    with pytest.raises(BuildFailedError, match=f"output output has {MOST_OUTPUT + 1} bytes"):
        run_step(task_of(site, tmp_path), site)


def test_a_probe_that_never_stops_talking_fails_the_step(tmp_path: Path) -> None:
    site = site_of(tmp_path, FakeSandbox(STEPS, probe_output=b"x" * (2 << 20)))
    with pytest.raises(BuildFailedError, match="probe: more than"):
        run_step(task_of(site, tmp_path), site)


def test_a_limited_sink_takes_what_it_may_and_refuses_the_rest() -> None:
    taken: list[bytes] = []
    sink = limited(taken.append, most=10, what="leg a, step x: log")
    sink(b"12345")
    sink(b"67890")
    with pytest.raises(BuildFailedError, match="leg a, step x: log: more than 10 bytes"):
        sink(b"1")
    with pytest.raises(BuildFailedError):
        sink(b"2")
    assert b"".join(taken) == b"1234567890"
