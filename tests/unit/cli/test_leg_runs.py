"""How legs are built, as the options say it."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from builder.cli.build import build, release
from builder.cli.leg_runs import engine_name, leg_options

NOTHING = {
    "jobs": None,
    "engine_a": None,
    "engine_b": None,
    "cluster": None,
    "artifacts": None,
    "cluster_wait": 60.0,
}
CLUSTER = {**NOTHING, "cluster": "tcp://scheduler:8786", "artifacts": "store"}


def test_on_a_cluster_both_legs_run_in_bubblewrap_unless_somebody_chose() -> None:
    options = leg_options(**CLUSTER)  # type: ignore[arg-type]
    assert options.engines == {"a": "bubblewrap", "b": "bubblewrap"}
    assert options.cluster is not None
    assert options.cluster.address == "tcp://scheduler:8786"
    options = leg_options(**{**CLUSTER, "engine_b": "docker"})  # type: ignore[arg-type]
    assert options.engines == {"a": "bubblewrap", "b": "docker"}


@pytest.mark.parametrize("engine", ["docker=context", "docker=tcp://host:2375"])
def test_on_a_cluster_a_context_of_this_machine_is_refused(engine: str) -> None:
    with pytest.raises(click.UsageError, match="no context or URL"):
        leg_options(**{**CLUSTER, "engine_b": engine})  # type: ignore[arg-type]


def test_a_leg_that_is_not_built_needs_no_engine() -> None:
    assert leg_options(**{**NOTHING, "engine_a": "no such engine"}, legs=()).engines == {}  # type: ignore[arg-type]


def test_an_engine_is_named_without_where_it_is() -> None:
    assert engine_name("docker=unix:///run/docker.sock") == engine_name("docker") == "docker"


@pytest.mark.parametrize("jobs", ["0", "-1", "many", "1.5"])
def test_a_number_of_jobs_that_is_none_is_refused(jobs: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(build, [str(tmp_path), "--jobs", jobs])
    assert result.exit_code == 2
    assert "--jobs" in result.output


def test_a_release_cannot_be_asked_to_use_the_step_cache() -> None:
    names = {option for command in (build, release) for parameter in command.params for option in parameter.opts}
    assert "--no-cache" in names
    assert not [option for parameter in release.params for option in parameter.opts if "cache" in option]
