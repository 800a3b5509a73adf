"""One build directory at work: inputs fetched, pinned roots unpacked, engines and readers wired to the pipeline."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli.inputs import fetch_missing
from builder.cli.wiring import clock, open_store
from builder.errors import DocumentError, MissingError
from builder.model.comparison import Comparison
from builder.model.components import PROD
from builder.model.leg import plan_digest
from builder.model.plan import BuildPlan
from builder.model.reference_values import ReferenceValues
from builder.pipeline.build import BuildJob, root_task
from builder.pipeline.files import read_document
from builder.pipeline.inputs import BuildInputs, RecipeDirectory, load_locked_recipe
from builder.pipeline.legs import Leg, Work, load_leg, require_planned, reusable_leg
from builder.ports import AcpiReader, ArtifactStore, Progress

if TYPE_CHECKING:
    from builder.backends.local_site import UnpackedRoots
    from builder.pipeline.boot_disk import DiskReader

TOOLS = "roots.tools"
VMM = "roots.vmm"
_MARK = ".lock"  # stays in every build directory


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
    flavour: str = PROD


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

    @property
    def cold(self) -> bool:
        """Whether everything is made anew."""
        return self._places.cold

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
        from builder.backends.prepared_root import leg_program_digests

        return leg_program_digests()

    @cached_property
    def work(self) -> Work:
        """What a leg of this build has to have done."""
        return Work(self.recipe.lock_sha256, plan_digest(self.plan, self.programs))

    def build_store(self, outputs: ArtifactStore | None) -> ArtifactStore:
        """The inputs, and a place for what steps make: `outputs`, or one of this run that ends with it."""
        from builder.backends.local_store import LocalStore
        from builder.backends.overlay_store import OverlayStore

        return OverlayStore(outputs or LocalStore(self._work / "store"), self._store)

    def job(self, store: ArtifactStore) -> BuildJob:
        """The plan with its inputs and programs, built in a store of `build_store`."""
        return BuildJob(plan=self.plan, inputs=self._inputs, store=store, programs=self.programs, clock=clock)

    def leg_from(self, directory: Path) -> Leg:
        """A leg that was built elsewhere, by this very lock and plan; NotProvenError or BytesDifferError if it is not
        that."""
        leg = load_leg(directory)
        require_planned(leg, self.plan, self.work)
        return leg

    def built_leg(self, name: str, *, engine: str | None = None) -> Leg | None:
        """Leg `name` of an earlier run, by this engine or by any, if every artefact is intact and it is of this very
        lock and plan; None otherwise."""
        return reusable_leg(self.leg_directory(name), self.work, engine)

    def new_leg_directory(self, name: str) -> Path:
        """Where leg `name` is to lie; what was there is gone."""
        from builder.backends.scratch import remove_tree

        directory = self.leg_directory(name)
        if directory.exists():
            remove_tree(directory)
        return directory

    def acpi_reader(self) -> AcpiReader:
        """The VMM of the recipe, from its own pinned root."""
        from builder.backends.emulator.qemu import QemuAcpiReader

        return QemuAcpiReader(self.root(VMM))

    def root(self, group: str) -> Path:
        """The pinned root of a package group, unpacked."""
        return self.roots.path(root_task(self.recipe.lock, group))

    @cached_property
    def roots(self) -> "UnpackedRoots":
        """The pinned roots, kept beside the inputs; a cold build unpacks them anew."""
        from builder.backends.local_site import UnpackedRoots

        parent = self._work if self.cold else self._places.store
        return UnpackedRoots(parent / "roots", self._store, self.progress)

    def measure(self, leg: Leg) -> ReferenceValues:
        """Reference Values of a leg's artefacts, the bytes that its record lists, for every launch profile."""
        from builder.backends.esp import MtoolsPartition
        from builder.pipeline.boot_disk import read_boot_disk

        return self._measure(leg.read_artifact, lambda name: read_boot_disk(leg.checked_path(name), MtoolsPartition))

    def measure_files(self, artifacts: Path) -> ReferenceValues:
        """The same, of whatever lies in a directory."""
        from builder.backends.esp import MtoolsPartition
        from builder.pipeline.boot_disk import disk_reader

        return self._measure(lambda name: read_document(artifacts / name), disk_reader(artifacts, MtoolsPartition))

    def _measure(self, read: Callable[[str], bytes], read_disk: "DiskReader") -> ReferenceValues:
        from builder.pipeline.measure import LaunchMatrix, boot_files, reference_values

        recipe = self.recipe.recipe
        matrix = LaunchMatrix(recipe.measure.vmm, recipe.firmware.edk2, recipe.measure.vcpus, recipe.measure.memory)
        names = {artifact.component: artifact.output for artifact in self.plan.artifacts}
        return reference_values(boot_files(read, names, read_disk=read_disk), matrix, self.acpi_reader(), self.progress)

    def explain(self, comparison: Comparison, a: Leg, b: Leg) -> Comparison:
        """Name place, cause and register of every difference between two legs."""
        from builder.backends.bubblewrap import Bubblewrap
        from builder.backends.member_reader import SquashfsMembers
        from builder.pipeline.diff import evidence_of
        from builder.pipeline.explain import ExplainTools, explain_comparison

        lister = SquashfsMembers(Bubblewrap(), self.root(TOOLS))
        return explain_comparison(
            comparison,
            (_paths(a), _paths(b)),
            ExplainTools(self._work / "explain", lister),
            evidence=evidence_of(a.record, b.record),
        )


@contextmanager
def open_session(places: Places, progress: Progress) -> Iterator[Session]:
    """A session that owns its build directory; what it needs only while it works is gone at the end.

    DocumentError for a directory that has a `work` which no session made.
    """
    from builder.backends.scratch import remove_tree

    recipe = load_locked_recipe(places.recipe, flavour=places.flavour)
    out = places.out or Path("out") / recipe.recipe.image / recipe.recipe.release_version
    out.mkdir(parents=True, exist_ok=True)
    work = out / "work"
    if work.exists() and not (out / _MARK).exists():
        raise DocumentError(
            f"{work}: exists, and no build made it: it would be removed", hint="name another --out, or remove it"
        )
    with _exclusive(out):
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
    descriptor = os.open(out / _MARK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
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
