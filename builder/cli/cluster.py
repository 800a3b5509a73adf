"""Options of a build whose steps run on a Dask cluster. Dask is loaded when such a build begins, not before."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from builder.ports import ArtifactStore

if TYPE_CHECKING:
    from builder.backends.cluster.runners import ClusterOrder

Command = TypeVar("Command", bound=Callable[..., object])

WAIT_VARIABLE = "TDX_BUILDER_CLUSTER_WAIT"
DEFAULT_WAIT = 60.0


@dataclass(frozen=True)
class ClusterChoice:
    """The scheduler's address, the store that client and workers share, and how long to wait for a worker (seconds)."""

    address: str
    artifacts: str
    wait: float


def cluster_options(command: Command) -> Command:
    """--cluster, --artifacts and --cluster-wait: parameters of `chosen_cluster`."""
    command = click.option(
        "--cluster-wait",
        type=click.FloatRange(min=0),
        default=DEFAULT_WAIT,
        show_default=True,
        envvar=WAIT_VARIABLE,
        metavar="SECONDS",
        help="How long to wait for the scheduler, and for a worker in place of one that was lost.",
    )(command)
    command = click.option(
        "--artifacts",
        metavar="URL",
        help="With --cluster: the store that all machines share, a folder or an fsspec URL.",
    )(command)
    return click.option(
        "--cluster", metavar="ADDRESS", help="Run the steps on this Dask cluster, each leg on workers of its own."
    )(command)


def chosen_cluster(cluster: str | None, artifacts: str | None, cluster_wait: float) -> ClusterChoice | None:
    """What the options say, None for this machine; a usage error for half of it."""
    if cluster is None and artifacts is None:
        return None
    if not cluster:
        raise click.UsageError("--artifacts goes with --cluster ADDRESS")
    if not artifacts:
        raise click.UsageError("--cluster needs --artifacts: the store that this machine and the workers share")
    return ClusterChoice(cluster, artifacts, cluster_wait)


def cluster_order(
    choice: ClusterChoice, *, store: ArtifactStore, logs: Mapping[str, Path], cold: bool
) -> "ClusterOrder":
    """The order of a build; `logs` is where each of its legs keeps its logs."""
    from builder.backends.cluster.runners import ClusterOrder

    return ClusterOrder(choice.address, choice.artifacts, store, logs, cold=cold, patience=choice.wait)
