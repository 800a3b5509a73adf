"""The options of a cluster: half of them is an error, and dask is loaded by nothing but a build that uses it."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from builder.backends.cluster.runners import ClusterOrder, cluster_runners
from builder.backends.local_store import LocalStore
from builder.cli.cluster import ClusterChoice, chosen_cluster, cluster_options, cluster_order
from builder.cli.wiring import default_store
from builder.errors import MissingError


@click.command()
@cluster_options
def verb(cluster: str | None, artifacts: str | None, cluster_wait: float) -> None:
    click.echo(repr(chosen_cluster(cluster, artifacts, cluster_wait)))


def run(*arguments: str) -> None:
    verb.main(list(arguments), standalone_mode=False)


def test_without_the_options_steps_run_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    run()
    assert capsys.readouterr().out == "None\n"


def test_options_are_taken_together(capsys: pytest.CaptureFixture[str]) -> None:
    run("--cluster", "tcp://host:8786", "--artifacts", "s3://bucket", "--cluster-wait", "5")
    assert capsys.readouterr().out == f"{ClusterChoice('tcp://host:8786', 's3://bucket', 5.0)!r}\n"


def test_environment_says_how_long_to_wait(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TDX_BUILDER_CLUSTER_WAIT", "7")
    run("--cluster", "x:1", "--artifacts", "y")
    assert "wait=7.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--cluster", "tcp://host:8786"),
        ("--artifacts", "shared"),
        ("--cluster", "", "--artifacts", "shared"),
        ("--cluster", "tcp://host:8786", "--artifacts", ""),
        ("--cluster", ""),
        ("--cluster", "x:1", "--artifacts", "y", "--cluster-wait", "-1"),
        ("--cluster", "x:1", "--artifacts", "y", "--cluster-wait", "long"),
    ],
)
def test_half_of_the_options_is_an_error_and_never_a_build_on_this_machine(arguments: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        run(*arguments)


@pytest.mark.parametrize("verb", ["build", "release"])
def test_help_loads_neither_dask_nor_fsspec(verb: str) -> None:
    code = (
        "import sys; from builder.cli.main import run; import builder.backends.cluster.runners, builder.cli.cluster;"
        f"assert run(['{verb}', '--help']) == 0; assert not {{'distributed', 'dask', 'fsspec'}} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["distributed", "fsspec.core"])
def test_without_the_extra_the_command_that_installs_it_is_told(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    choice = ClusterChoice("tcp://127.0.0.1:1", str(tmp_path / "shared"), 0.1)
    order = cluster_order(choice, store=LocalStore(tmp_path / "store"), logs={"a": tmp_path}, cold=False)
    with pytest.raises(MissingError, match="is not there") as caught, cluster_runners(order):
        pass
    assert caught.value.hint == "pip install 'tdx-builder[cluster]'"


@pytest.mark.parametrize("address", ["tls://127.0.0.1:1", "nothing://127.0.0.1:1", "tcp://127.0.0.1:1", "no address"])
def test_address_that_leads_nowhere_is_an_error_that_names_it(address: str, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    store = LocalStore(tmp_path / "store")
    order = ClusterOrder(address, str(tmp_path / "shared"), store, {"a": tmp_path}, cold=False, patience=0.2)
    with pytest.raises(MissingError, match=f"cluster {address}: no scheduler to be reached"), cluster_runners(order):
        pass


def test_workers_find_their_store_by_the_variable_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from builder.backends.cluster.worker import STORE_VARIABLE

    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path))
    assert default_store() == tmp_path
