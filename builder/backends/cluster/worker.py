"""What a worker of a cluster runs, and what it says about itself. Needs the extra `cluster`.

A worker is a stock `dask worker` where this version of tdx-builder is installed. What it keeps lies in
$TDX_BUILDER_STORE; without one, in the worker's own directory, which goes with the worker. Everything else of a build
lies in that directory.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from builder import __version__
from builder.backends.cluster.object_store import transfer_all
from builder.backends.cluster.site import BuildOnWorker, WorkerSettings
from builder.backends.prepared_root import leg_program_digests
from builder.backends.scratch import scratch_directory
from builder.errors import BuilderError, MissingError
from builder.model.task import StepResult, StepTask, programs_digest
from builder.pipeline.run_step import Site, log_path, run_step

STORE_VARIABLE = "TDX_BUILDER_STORE"
LOG_ATTRIBUTE = "step_log"  # of an error: SHA-256 of the log of the step that failed, in the shared store

_POLL_SECONDS = 0.5
_IDENTITY = "identity"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_WANTED = ("executing", "long-running")  # states of a task that runs
_ENDING = ("closing", "closed", "failed")  # states of a worker; one that is paused only takes no new task

_builds: dict[tuple[str, str], BuildOnWorker] = {}  # by worker, of which one process may have several, and build
_mutex = threading.Lock()


def describe_worker(dask_worker: Any) -> dict[str, str]:
    """Run in a worker by `Client.run`: its name, the identity of its machine's running kernel (its boot id, the same in
    all of its containers), the identity of its store and where that is, its version of tdx-builder and the digest of
    what that puts into a leg.

    Plain values, because they are read by versions that do not know each other.
    """
    return {
        "name": _shown_name(dask_worker),
        "machine": _machine(),
        "store": _store_identity(_store_directory(dask_worker)),
        "directory": str(_store_directory(dask_worker)),
        "version": __version__,
        "programs": own_programs(),
    }


def own_programs() -> str:
    """The digest of the programs that this installation puts into a leg."""
    return programs_digest(leg_program_digests())


def run_remote_step(task: StepTask, settings: WorkerSettings) -> StepResult:
    """Run in a task of a worker: the step, with inputs from the shared store and outputs and log into it.

    Ends the sandbox when nobody waits for the result any more: the client cancelled it or is gone, or the worker is
    closing. Errors name the worker; that of a failed step has its log as `LOG_ATTRIBUTE`.
    """
    worker = import_module("distributed").get_worker()
    name = _shown_name(worker)
    with _errors_of(name), _build(settings, worker).holding() as build:
        directory = build.directory / f"{task.variation.name}-{os.urandom(8).hex()}"
        with scratch_directory(directory), _cancelled_with(worker, build):
            _fetch_inputs(task, build)
            return _run(task, build, directory=directory, name=name)


def end_build(build: str, dask_worker: Any) -> None:
    """Run in a worker by `Client.run`: nothing more is coming for a build, and what it keeps there may go."""
    with _mutex:
        found = _builds.pop((dask_worker.id, build), None)
    if found is not None:
        found.end()


def _run(task: StepTask, build: BuildOnWorker, *, directory: Path, name: str) -> StepResult:
    site = Site(
        store=build.store,
        sandbox=build.engine(task.engine),
        root=build.root,
        scratch=directory / "work",
        logs=directory / "logs",
        programs=own_programs(),
        clock=lambda: int(time.time()),
        worker=name,
    )
    try:
        return run_step(task, site)
    except BuilderError as error:
        log = log_path(site.logs, task.step)
        if log.is_file():
            with suppress(BuilderError):  # what went wrong first is what is told
                setattr(error, LOG_ATTRIBUTE, build.store.add_file(log)[0])
        raise


def _fetch_inputs(task: StepTask, build: BuildOnWorker) -> None:
    """Have every input here, each no larger than the task says."""
    wanted = dict([*task.root.debs, *((item.sha256, item.size) for item in task.inputs)])
    transfer_all(lambda content: build.store.fetch(*content), wanted.items())


def _build(settings: WorkerSettings, worker: Any) -> BuildOnWorker:
    key = worker.id, settings.build
    with _mutex:
        if key not in _builds:
            directory = Path(worker.local_directory) / "tdx-builder" / settings.build
            _builds[key] = BuildOnWorker(settings, _store_directory(worker), directory)
        return _builds[key]


@contextmanager
def _cancelled_with(worker: Any, build: BuildOnWorker) -> Iterator[None]:
    """Cancel what the build runs here as soon as the task that this thread is in is not wanted any more.

    Dask does not interrupt a task: it forgets it. A step that is not wanted means that the whole build has ended.
    """
    key, done = worker.get_current_task(), threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_SECONDS):
            state = worker.state.tasks.get(key)
            if state is None or state.state not in _WANTED or worker.status.name in _ENDING:
                build.cancel()
                return

    watcher = threading.Thread(target=watch, name="step-watcher", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Errors of the block with the worker's name in front; those of its system are MissingError."""
    try:
        yield
    except BuilderError as error:
        error.message = f"worker {name}: {error.message}"
        error.args = (error.message,)
        raise
    except (OSError, MemoryError) as error:
        raise MissingError(
            f"worker {name}: {type(error).__name__}: {error}", hint="this is no verdict; give the worker room or access"
        ) from error


def _shown_name(worker: Any) -> str:
    return f"{worker.name} ({socket.gethostname()}, boot {_machine()[:8]})"


def _machine() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()


def _store_directory(worker: Any) -> Path:
    given = os.environ.get(STORE_VARIABLE)
    return Path(given).absolute() if given else Path(worker.local_directory) / "tdx-builder" / "store"


def _store_identity(store: Path) -> str:
    """What is the same for all who have this store, by whatever path, link or mount, and on whatever machine."""
    store.mkdir(parents=True, exist_ok=True)
    path = store / _IDENTITY
    if not path.exists():
        new = store / f"{_IDENTITY}.{os.urandom(8).hex()}"
        new.write_text(new.suffix, encoding="ascii")
        with suppress(FileExistsError):  # another worker was faster, and its text counts
            path.hardlink_to(new)
        new.unlink()
    return path.read_text(encoding="ascii")
