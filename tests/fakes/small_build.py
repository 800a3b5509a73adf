"""A build of three small artefacts in a fake sandbox, and the inputs, records and values that go with it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from builder.backends.local_store import LocalStore
from builder.model.digest import sha256_hex
from builder.model.leg import LegRecord
from builder.model.lock import encode_lock
from builder.model.plan import ArtifactSource, BuildPlan, OutputInput, Step, TextInput
from builder.model.recipe import Recipe
from builder.model.variation import VARIATIONS, Variation
from builder.pipeline.build import BuildJob, LegOrder, run_legs
from builder.pipeline.inputs import BuildInputs, RecipeDirectory
from builder.pipeline.legs import Leg
from tests.fakes.fake_sandbox import FakeSandbox, StepFunction
from tests.fakes.recipes import GROUPS, RECIPE, sample_lock, sample_recipe
from tests.fakes.silent_progress import SilentProgress

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


def small_job(path: Path) -> BuildJob:
    """The job of the build, with its store below `path`."""
    (path / "root").mkdir(parents=True, exist_ok=True)
    inputs = BuildInputs(recipe_directory(path), LocalStore(path / "store"), path / "texts")
    return BuildJob(PLAN, inputs, {"tools": path / "root"}, {"probe.py": "0" * 64}, clock=lambda: 1_790_000_000)


def build_small(path: Path, sandbox: FakeSandbox) -> tuple[Leg, Leg]:
    """Both legs, built."""
    orders = tuple(LegOrder(sandbox, VARIATIONS[name], path / "legs" / name) for name in "ab")
    records: tuple[LegRecord, ...] = run_legs(small_job(path), orders, SilentProgress())
    a, b = (Leg(order.directory, record) for order, record in zip(orders, records, strict=True))
    return a, b
