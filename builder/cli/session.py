"""One build directory at work: inputs fetched, pinned roots unpacked, engines and readers wired to the pipeline."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from builder.cli.inputs import fetch_missing
from builder.cli.wiring import clock, open_store
from builder.errors import MissingError
from builder.model.comparison import Comparison
from builder.model.digest import sha256_hex
from builder.model.leg import plan_digest
from builder.model.plan import BuildPlan
from builder.model.reference_values import ReferenceValues
from builder.model.variation import VARIATIONS
from builder.pipeline.build import BuildJob, LegOrder
from builder.pipeline.files import hash_file, read_document
from builder.pipeline.inputs import BuildInputs, RecipeDirectory, load_locked_recipe
from builder.pipeline.legs import Leg, load_leg, require_planned, reusable_leg
from builder.ports import AcpiReader, Progress, Sandbox

TOOLS = "roots.tools"
VMM = "roots.vmm"


@dataclass(frozen=True)
class Places:
    """What the options say: the recipe, the build directory, the store, and where to fetch from.

    `cold` builds everything anew, pinned roots included, as a release does.
    """

    recipe: Path
    out: Path | None
    store: Path
    mirrors: tuple[str, ...]
    snapshot: str | None
    offline: bool
    cold: bool


class Session:
    """Everything a build or release of one recipe needs. Made by `open_session`."""

    def __init__(self, places: Places, recipe: RecipeDirectory, out: Path, progress: Progress) -> None:
        self.recipe = recipe
        self.out = out
        self.progress = progress
        self._places = places
        self._store = open_store(places.store)
        self._work = out / "work"
        fetch_missing(
            recipe.lock,
            self._store,
            progress,
            mirrors=places.mirrors,
            snapshot=places.snapshot,
            offline=places.offline,
        )
        self._inputs = BuildInputs(recipe, self._store, self._work / "texts")

    def leg_directory(self, name: str) -> Path:
        """Where leg `name` lies."""
        return self.out / "legs" / name

    @cached_property
    def plan(self) -> BuildPlan:
        """The build plan of the recipe."""
        from builder.components.plan import plan_build

        return plan_build(self.recipe.recipe, self.recipe.lock)

    @cached_property
    def programs(self) -> dict[str, str]:
        """The programs that run inside the legs, with their SHA-256."""
        from builder.inside import leg_files

        return {name: hash_file(path)[0] for name, path in leg_files().items()}

    def job(self) -> BuildJob:
        """The plan with its inputs and programs; unpacks the root of the tools."""
        roots = {"tools": self.root(TOOLS)}
        return BuildJob(plan=self.plan, inputs=self._inputs, roots=roots, programs=self.programs, clock=clock)

    def leg_from(self, directory: Path) -> Leg:
        """A leg that was built elsewhere, by this very plan; NotProvenError or BytesDifferError if it is not that."""
        leg = load_leg(directory)
        require_planned(leg, self.plan, plan_digest(self.plan, self.programs))
        return leg

    def built_leg(self, name: str) -> Leg | None:
        """Leg `name` of an earlier run, if every artefact is intact and it is of this very plan; None otherwise."""
        digest = plan_digest(self.plan, self.programs)
        return reusable_leg(self.leg_directory(name), digest, self.sandbox().engine)

    def order(self, name: str, sandbox: Sandbox) -> LegOrder:
        """An order to build leg `name`, whose directory is emptied."""
        from builder.backends.scratch import remove_tree

        directory = self.leg_directory(name)
        if directory.exists():
            remove_tree(directory)
        return LegOrder(sandbox, VARIATIONS[name], directory)

    def sandbox(self) -> Sandbox:
        """The engine legs run in."""
        from builder.backends.bubblewrap import Bubblewrap

        return Bubblewrap()

    def acpi_reader(self) -> AcpiReader:
        """The VMM of the recipe, from its own pinned root."""
        from builder.backends.qemu import QemuAcpiReader

        return QemuAcpiReader(self.root(VMM))

    def root(self, group: str) -> Path:
        """The pinned root of a package group, unpacked; a cold build unpacks it anew."""
        from builder.backends.deb_root import LAYOUT_VERSION, unpack_root

        debs = self._inputs.debs(group)
        identity = sha256_hex("\n".join([str(LAYOUT_VERSION), *(deb.name for deb in debs)]).encode())
        parent = self._work if self._places.cold else self._places.store
        path = parent / "roots" / identity / group.removeprefix("roots.")
        path.parent.mkdir(parents=True, exist_ok=True)
        unpack_root(debs, path, self.progress)
        return path

    def measure(self, leg: Leg) -> ReferenceValues:
        """Reference Values of a leg's artefacts, the bytes that its record lists, for every launch profile."""
        return self._measure(leg.read_artifact)

    def measure_files(self, artifacts: Path) -> ReferenceValues:
        """The same, of whatever lies in a directory."""
        return self._measure(lambda name: read_document(artifacts / name))

    def _measure(self, read: Callable[[str], bytes]) -> ReferenceValues:
        from builder.pipeline.measure import LaunchMatrix, boot_files, reference_values

        recipe = self.recipe.recipe
        matrix = LaunchMatrix(recipe.measure.vmm, recipe.firmware.edk2, recipe.measure.vcpus, recipe.measure.memory)
        names = {artifact.component: artifact.output for artifact in self.plan.artifacts}
        return reference_values(boot_files(read, names), matrix, self.acpi_reader(), self.progress)

    def explain(self, comparison: Comparison, a: Leg, b: Leg) -> Comparison:
        """Name place, cause and register of every difference between two legs."""
        from builder.backends.member_reader import SquashfsMembers
        from builder.pipeline.diff import evidence_of
        from builder.pipeline.explain import ExplainTools, explain_comparison

        lister = SquashfsMembers(self.sandbox(), self.root(TOOLS))
        return explain_comparison(
            comparison,
            (_paths(a), _paths(b)),
            ExplainTools(self._work / "explain", lister),
            evidence=evidence_of(a.record, b.record),
        )


@contextmanager
def open_session(places: Places, progress: Progress) -> Iterator[Session]:
    """A session that owns its build directory; what it needs only while it works is gone at the end."""
    from builder.backends.scratch import remove_tree

    recipe = load_locked_recipe(places.recipe)
    out = places.out or Path("out") / recipe.recipe.image / recipe.recipe.version
    out.mkdir(parents=True, exist_ok=True)
    with _exclusive(out):
        work = out / "work"
        if work.exists():  # of a run that was killed
            remove_tree(work)
        try:
            yield Session(places, recipe, out, progress)
        finally:
            if work.exists():
                remove_tree(work)


@contextmanager
def _exclusive(out: Path) -> Iterator[None]:
    """Only one run at a time works in `out`; MissingError if another does."""
    descriptor = os.open(out / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MissingError(
                f"{out}: another run works in this directory", hint="wait for it, or name another --out"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _paths(leg: Leg) -> dict[str, Path]:
    return {artifact.name: leg.artifact_path(artifact.name) for artifact in leg.record.artifacts}
