"""A build of three small artefacts in a fake sandbox, and the inputs, records and values that go with it."""

import shutil
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from builder.backends.local_store import LocalStore
from builder.backends.overlay_store import OverlayStore
from builder.backends.step_store import StepStore
from builder.model.digest import sha256_hex
from builder.model.lock import encode_lock
from builder.model.plan import ArtifactSource, BuildPlan, OutputInput, Step, TextInput
from builder.model.recipe import Recipe
from builder.model.task import programs_digest
from builder.model.variation import VARIATIONS, Variation
from builder.pipeline.build import BuildJob, LegOrder, run_legs
from builder.pipeline.graph import LegRunner
from builder.pipeline.inputs import BuildInputs, RecipeDirectory
from builder.pipeline.legs import Leg
from builder.pipeline.run_step import Site, run_step
from builder.pipeline.step_cache import StepCache
from tests.fakes.fake_sandbox import FakeSandbox, StepFunction
from tests.fakes.recipes import GROUPS, RECIPE, sample_lock, sample_recipe
from tests.fakes.silent_progress import SilentProgress

PROGRAMS = {"probe.py": "0" * 64}
COMMAND_LINE = "console=ttyS0 root=abc size=4096"
PLAN = BuildPlan(
    image="sample",
    version="1.2.3",
    source_date_epoch=1767225600,
    steps=(
        Step("kernel", ("make-kernel",), (TextInput("options", "in/options"),), ("vmlinuz",)),
        Step("initrd", ("make-initrd",), (OutputInput("kernel", "vmlinuz", "in/vmlinuz"),), ("initrd.img", "cmdline")),
    ),
    artifacts=(
        ArtifactSource("kernel", "kernel", "vmlinuz"),
        ArtifactSource("initrd", "initrd", "initrd.img"),
        ArtifactSource("guest_os", "initrd", "cmdline"),
    ),
)


def make_kernel(directory: Path, variation: Variation) -> None:
    assert (directory / "in/options").read_text() == "options"
    (directory / "out/vmlinuz").write_bytes(b"kernel")


def make_initrd(directory: Path, variation: Variation) -> None:
    (directory / "out/initrd.img").write_bytes(b"initrd of " + (directory / "in/vmlinuz").read_bytes())
    (directory / "out/cmdline").write_text(COMMAND_LINE)


STEPS: Mapping[str, StepFunction] = {"make-kernel": make_kernel, "make-initrd": make_initrd}


def recipe_directory(path: Path) -> RecipeDirectory:
    """A recipe that requires every axis the fake engine varies, with a lock of no files."""
    recipe: Recipe = replace(sample_recipe(RECIPE), required_axes=("time", "umask"))
    lock = sample_lock(GROUPS, sources=())
    return RecipeDirectory(path, recipe, lock, sha256_hex(encode_lock(lock)))


def small_job(path: Path, plan: BuildPlan = PLAN) -> BuildJob:
    """The job of the build, with its store below `path`."""
    store = LocalStore(path / "store")
    inputs = BuildInputs(recipe_directory(path), store, path / "texts")
    return BuildJob(plan, inputs, store, PROGRAMS, clock)


def small_order(path: Path, job: BuildJob, name: str, sandbox: FakeSandbox, pool: Executor) -> LegOrder:
    """An order for one leg, in threads of `pool`; every pinned root is the same empty directory."""
    root = path / "root"
    root.mkdir(parents=True, exist_ok=True)
    directory = path / "legs" / name
    programs = programs_digest(PROGRAMS)
    site = Site(job.store, sandbox, lambda _: root, directory / "work", directory / "logs", programs, clock)
    return LegOrder(
        VARIATIONS[name], sandbox.engine, LegRunner(pool, partial(run_step, site=site), sandbox.cancel), directory
    )


def run_small(
    path: Path, sandbox: FakeSandbox, names: str = "ab", *, plan: BuildPlan = PLAN, steps: StepStore | None = None
) -> tuple[Leg, ...]:
    """The named legs, built below `path`; what lay there of an earlier build is gone."""
    job = small_job(path, plan)
    if steps is not None:
        job = replace(job, store=OverlayStore(steps.objects, job.store))
    cache = StepCache(steps, job.store) if steps is not None else None
    shutil.rmtree(path / "legs", ignore_errors=True)
    with ThreadPoolExecutor(4) as pool:
        orders = tuple(small_order(path, job, name, sandbox, pool) for name in names)
        records = run_legs(job, orders, SilentProgress(), jobs=4, cache=cache)
    return tuple(Leg(order.directory, record) for order, record in zip(orders, records, strict=True))


def build_small(path: Path, sandbox: FakeSandbox, plan: BuildPlan = PLAN) -> tuple[Leg, Leg]:
    """Both legs, built."""
    a, b = run_small(path, sandbox, plan=plan)
    return a, b


def clock() -> int:
    return 1_790_000_000
