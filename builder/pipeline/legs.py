"""Leg directories: what a leg left, read back, and the two legs of one build compared."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from builder.compare.artifacts import compare_legs
from builder.compare.legs import compare_axes, require_varied
from builder.errors import BytesDifferError, DocumentError, NotProvenError
from builder.model.build_info import AxisComparison
from builder.model.comparison import Comparison
from builder.model.digest import sha256_hex
from builder.model.leg import LEG_RECORD, LegRecord, parse_leg_record
from builder.model.plan import BuildPlan
from builder.pipeline.files import hash_file, read_document

ARTIFACTS = "artifacts"


@dataclass(frozen=True)
class Leg:
    """One leg's record, and the directory with its artefacts."""

    directory: Path
    record: LegRecord

    def artifact_path(self, name: str) -> Path:
        """Where the artefact `name` lies."""
        return self.directory / ARTIFACTS / name

    def checked_path(self, name: str) -> Path:
        """The same, of an artefact too large to be read whole; BytesDifferError unless its bytes are what the record
        lists, now that it is used."""
        listed = self.record.artifact(name)
        _check_artifact(self, name, listed.sha256 if listed else "no artefact of this name")
        return self.artifact_path(name)

    def read_artifact(self, name: str) -> bytes:
        """The artefact `name`, whole; BytesDifferError unless it is what the record lists, now that it is used."""
        data = read_document(self.artifact_path(name))
        listed = self.record.artifact(name)
        if listed is None or listed.sha256 != sha256_hex(data):
            wanted = listed.sha256 if listed else "no artefact of this name"
            raise BytesDifferError(
                f"{self.artifact_path(name)}: SHA-256 is {sha256_hex(data)}, the leg's record has {wanted}",
                hint="build the leg again",
            )
        return data


@dataclass(frozen=True)
class Work:
    """What a leg has to have done, by digest. A plan only names the pinned roots: which packages they are made of is in
    the lock, which holds the recipe's digest too."""

    lock_sha256: str
    plan_sha256: str


Explain = Callable[[Comparison, Leg, Leg], Comparison]


def load_leg(directory: Path) -> Leg:
    """A leg as `build` left it, every artefact hashed again; DocumentError for a missing record, BytesDifferError for
    an artefact that is missing or not what the record says."""
    path = directory / LEG_RECORD
    record = parse_leg_record(read_document(path), what=str(path))
    leg = Leg(directory, record)
    for artifact in record.artifacts:
        _check_artifact(leg, artifact.name, artifact.sha256)
    return leg


def require_planned(leg: Leg, plan: BuildPlan, work: Work) -> None:
    """NotProvenError unless the record of a leg from elsewhere says that it did this work, and made all of it.

    A record that left an artefact out would leave it out of the comparison as well (I3).
    """
    found = [(artifact.component, artifact.name) for artifact in leg.record.artifacts]
    wanted = [(artifact.component, artifact.output) for artifact in plan.artifacts]
    for what, one, other in (
        ("lock", leg.record.lock_sha256, work.lock_sha256),
        ("plan", leg.record.plan_sha256, work.plan_sha256),
        ("list of artefacts", found, wanted),
    ):
        if one != other:
            raise NotProvenError(
                f"{leg.directory}: its {what} is {one}, wanted {other}",
                hint="build both legs from this recipe and lock, with this version of tdx-builder",
            )


def require_uncached(leg: Leg) -> None:
    """NotProvenError if steps of a leg did not run in its build: what the step cache gave proves nothing about them."""
    if leg.record.cached_steps:
        raise NotProvenError(
            f"{leg.directory}: outputs of its steps {', '.join(leg.record.cached_steps)} came from the step cache, and "
            f"a release needs legs that ran every step",
            hint="build the leg with --cold",
        )


def reusable_leg(directory: Path, work: Work, engine: str | None) -> Leg | None:
    """The leg in `directory` if it did this work, in this engine (None: in any), and every artefact is intact: nothing
    to do."""
    try:
        leg = load_leg(directory)
    except (DocumentError, BytesDifferError):
        return None
    did = Work(leg.record.lock_sha256, leg.record.plan_sha256)
    return leg if did == work and engine in (None, leg.record.build_info.engine) else None


def compare(a: Leg, b: Leg, explain: Explain) -> Comparison:
    """Compare the artefacts of two legs of the same plan; what differs is explained."""
    require_same_work(a.record, b.record)
    comparison = compare_legs(
        {artifact.name: artifact for artifact in a.record.artifacts},
        {artifact.name: artifact for artifact in b.record.artifacts},
    )
    return comparison if comparison.identical else explain(comparison, a, b)


def compare_variations(a: Leg, b: Leg, required: tuple[str, ...]) -> tuple[AxisComparison, ...]:
    """What the legs saw along every axis; NotProvenError if they were not different where the recipe requires it."""
    axes = compare_axes(a.record.build_info, b.record.build_info)
    require_varied(axes, required)
    return axes


def require_same_work(a: LegRecord, b: LegRecord) -> None:
    """NotProvenError unless both legs built the same plan from the same recipe and lock, as two legs."""
    for name in ("recipe_sha256", "lock_sha256", "plan_sha256"):
        found, wanted = getattr(b, name), getattr(a, name)
        if found != wanted:
            raise NotProvenError(
                f"the legs did not do the same work: {name} is {wanted} in leg {a.build_info.leg} and {found} in leg "
                f"{b.build_info.leg}",
                hint="build both legs from one revision, with one version of tdx-builder",
            )
    if a.build_info.leg == b.build_info.leg:
        raise NotProvenError(
            f"both records are of leg {a.build_info.leg!r}: one build compared with itself proves nothing"
        )


def _check_artifact(leg: Leg, name: str, sha256: str) -> None:
    path = leg.artifact_path(name)
    if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
        raise BytesDifferError(f"{path}: no regular file; the leg's record lists it", hint="build the leg again")
    found, _ = hash_file(path)
    if found != sha256:
        raise BytesDifferError(
            f"{path}: SHA-256 is {found}, the leg's record says {sha256}", hint="build the leg again"
        )
