"""Building legs: their engines, where their steps run, and the step cache of development builds."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import click

from builder.cli.cluster import ClusterChoice, chosen_cluster, cluster_options, cluster_order
from builder.cli.engines import chosen_engines, engine_options
from builder.cli.session import Session
from builder.cli.wiring import clock
from builder.model.task import programs_digest
from builder.model.variation import VARIATIONS
from builder.pipeline.build import LOGS, WORK, LegOrder, run_legs
from builder.pipeline.graph import LegRunner
from builder.pipeline.legs import Leg
from builder.pipeline.run_step import Site, run_step
from builder.pipeline.step_cache import StepCache
from builder.ports import ArtifactStore, Sandbox

if TYPE_CHECKING:
    from builder.backends.local_site import UnpackedRoots
    from builder.backends.step_store import StepStore

Command = TypeVar("Command", bound=Callable[..., object])

LEGS = ("a", "b")
_BUBBLEWRAP = "bubblewrap"


@dataclass(frozen=True)
class LegOptions:
    """How legs are to be built: steps at a time, None for as many as can run; the engine of each leg as an option names
    it; and the cluster to run them on, None for this machine."""

    jobs: int | None
    engines: Mapping[str, str]
    cluster: ClusterChoice | None = None


def leg_run_options(command: Command) -> Command:
    """--jobs, --engine-a, --engine-b and those of a cluster: the parameters of `leg_options`."""
    jobs = click.option(
        "--jobs",
        type=click.IntRange(1, 1024),
        help="Steps at a time, both legs together.  [default: number of CPUs; in a cluster all that can run]",
    )
    return jobs(engine_options(cluster_options(command)))


def leg_options(
    *,
    jobs: int | None,
    engine_a: str | None,
    engine_b: str | None,
    cluster: str | None,
    artifacts: str | None,
    cluster_wait: float,
    legs: Sequence[str] = LEGS,
) -> LegOptions:
    """What the options of `leg_run_options` say about `legs`.

    An engine that was asked for is tried at once, unless the legs run on a cluster: what this machine has says nothing
    about its workers, so that bubblewrap is the default there, and a context or URL is a usage error.
    """
    choice = chosen_cluster(cluster, artifacts, cluster_wait)
    if choice is None:
        return LegOptions(jobs, chosen_engines(engine_a, engine_b, legs=legs))
    engines = {"a": engine_a or _BUBBLEWRAP, "b": engine_b or _BUBBLEWRAP}
    if any("=" in engine for engine in engines.values()):
        raise click.UsageError("with --cluster an engine has no context or URL: it is that of the worker's machine")
    return LegOptions(jobs, engines, choice)


def build_legs(
    session: Session, names: Sequence[str], options: LegOptions, *, reuse: bool, steps: "StepStore | None"
) -> list[Leg]:
    """Build the named legs. With `reuse`, those that are there already, complete, of the same plan and engine, are
    kept; with None for `steps` nothing comes from the step cache, nor from a leg that used it."""
    legs = {name: leg for name in names if reuse and (leg := _built_leg(session, options, name)) is not None}
    if steps is None:
        legs = {name: leg for name, leg in legs.items() if not leg.record.cached_steps}
    missing = [name for name in names if name not in legs]
    if missing:
        legs |= _build(session, missing, options, steps)
    return [legs[name] for name in names]


def engine_name(text: str) -> str:
    """The engine in what an engine option says: `docker` in `docker=CONTEXT`."""
    return text.partition("=")[0]


def _built_leg(session: Session, options: LegOptions, name: str) -> Leg | None:
    return session.built_leg(name, engine=engine_name(options.engines[name]))


def _build(session: Session, names: Sequence[str], options: LegOptions, steps: "StepStore | None") -> dict[str, Leg]:
    store = session.build_store(steps.objects if steps is not None else None)
    cache = StepCache(steps, store) if steps is not None else None
    directories = {name: session.new_leg_directory(name) for name in names}
    with _runners(session, names, options, store) as runners:
        orders = tuple(
            LegOrder(VARIATIONS[name], engine_name(options.engines[name]), runners[name], directories[name])
            for name in names
        )
        jobs = options.jobs or _default_jobs(session, options)
        records = run_legs(session.job(store), orders, session.progress, jobs=jobs, cache=cache)
    return {name: Leg(directories[name], record) for name, record in zip(names, records, strict=True)}


def _default_jobs(session: Session, options: LegOptions) -> int:
    everything = len(LEGS) * len(session.plan.steps)
    return everything if options.cluster else len(os.sched_getaffinity(0))


@contextmanager
def _runners(
    session: Session, names: Sequence[str], options: LegOptions, store: ArtifactStore
) -> Iterator[Mapping[str, LegRunner]]:
    """Where the steps of each leg run: threads of this process, or a cluster."""
    if options.cluster is None:
        with ThreadPoolExecutor(options.jobs or _default_jobs(session, options), thread_name_prefix="step") as pool:
            yield _local_runners(session, {name: options.engines[name] for name in names}, store, pool)
        return
    from builder.backends.cluster.runners import cluster_runners

    logs = {name: session.leg_directory(name) / LOGS for name in names}
    with cluster_runners(cluster_order(options.cluster, store=store, logs=logs, cold=session.cold)) as runners:
        yield runners


def _local_runners(
    session: Session, engines: Mapping[str, str], store: ArtifactStore, pool: Executor
) -> dict[str, LegRunner]:
    from builder.backends.engines import open_engine

    sandboxes = {text: open_engine(text) for text in set(engines.values())}  # one for both legs, if they have the same
    runners = {}
    for name, text in engines.items():
        site = _site(session, name, sandboxes[text], store)
        runners[name] = LegRunner(pool, partial(run_step, site=site), partial(_cancel, sandboxes[text], session.roots))
    return runners


def _cancel(sandbox: Sandbox, roots: "UnpackedRoots") -> None:
    sandbox.cancel()
    roots.cancel()


def _site(session: Session, name: str, sandbox: Sandbox, store: ArtifactStore) -> Site:
    directory = session.leg_directory(name)
    return Site(
        store=store,
        sandbox=sandbox,
        root=session.roots.path,
        scratch=directory / WORK,
        logs=directory / LOGS,
        programs=programs_digest(session.programs),
        clock=clock,
    )
