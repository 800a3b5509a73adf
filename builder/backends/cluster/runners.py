"""A Dask cluster as the place where steps run. Needs the extra `cluster`; nothing of it is loaded before it is used.

The legs are on different workers (see `placement`), and everything they read and write goes through the shared
store by digest. Whoever can reach the scheduler can run programs as its workers and as us: dask pickles what it sends.
TLS comes from distributed's own configuration and an address that starts with `tls://`.
"""

import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from builder.backends.cluster.executor import ClusterExecutor, LegOnCluster
from builder.backends.cluster.object_store import ObjectStore, absolute_location
from builder.backends.cluster.site import WorkerSettings
from builder.backends.cluster.view import ClusterView, end_on_workers
from builder.backends.cluster.worker import end_build, run_remote_step
from builder.errors import MissingError
from builder.pipeline.graph import LegRunner
from builder.ports import ArtifactStore

_CONNECT_SECONDS = 15.0
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class ClusterOrder:
    """A build on a cluster: the scheduler's address (`tcp://HOST:PORT`, `tls://HOST:PORT`), the shared store (a folder
    or an fsspec URL, the same for us and every worker), our own store, and where each leg keeps its logs.

    `cold`: workers unpack pinned roots anew for this build. `patience`: seconds to wait for the scheduler, and for a
    worker in place of a lost one.
    """

    address: str
    artifacts: str
    store: ArtifactStore
    logs: Mapping[str, Path]
    cold: bool
    patience: float


@contextmanager
def cluster_runners(order: ClusterOrder) -> Iterator[Mapping[str, LegRunner]]:
    """Where the steps of each leg run, by leg; at the end of the block, whatever still runs there is cancelled.

    Every input of a task has to be in the order's store; its outputs and log are there when its future is done.
    MissingError without the extra or a scheduler, NotProvenError if the cluster has too few workers that fit.
    """
    settings = WorkerSettings(absolute_location(order.artifacts), build=secrets.token_hex(8), cold=order.cold)
    store = ObjectStore(settings.artifacts, order.store)
    with ExitStack() as stack:
        client = _open_client(order.address, order.patience)
        stack.callback(_close, client)
        view = ClusterView(client, tuple(order.logs), address=order.address)
        stack.callback(end_on_workers, client, end_build, settings.build)
        runners = {}
        for leg, logs in order.logs.items():
            executor = ClusterExecutor(LegOnCluster(leg, client, view, store, logs, order.patience))
            stack.callback(executor.shutdown, wait=True, cancel_futures=True)
            runners[leg] = LegRunner(executor, partial(run_remote_step, settings=settings), executor.cancel)
        yield runners


def _open_client(address: str, patience: float) -> Any:
    try:
        distributed = import_module("distributed")
    except ImportError as error:
        raise MissingError(
            "dask's `distributed` is not there, and --cluster needs it", hint="pip install 'tdx-builder[cluster]'"
        ) from error
    for name in ("distributed", "distributed.client", "distributed.core", "distributed.comm"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # we say it ourselves
    try:
        timeout = min(_CONNECT_SECONDS, patience)
        return distributed.Client(address, timeout=timeout, set_as_default=False, name="tdx-builder")
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # TypeError: tls:// without certificates
        raise MissingError(
            f"cluster {address}: no scheduler to be reached: {error}",
            hint="start one with `dask scheduler`; for tls:// configure distributed.comm.tls",
        ) from error


def _close(client: Any) -> None:
    with suppress(OSError, TimeoutError, RuntimeError):
        client.close(timeout=_CLOSE_SECONDS)
