"""Two sets of artefacts by their digests: equal, different, or missing on one side. Reads no bytes."""

from collections.abc import Mapping

from builder.compare.registers import measured
from builder.model.comparison import (
    UNKNOWN_CAUSE,
    ArtifactComparison,
    Comparison,
    Difference,
    DifferenceKind,
    FileDigest,
)
from builder.model.plan import Artifact


def compare_legs(a: Mapping[str, Artifact], b: Mapping[str, Artifact]) -> Comparison:
    """Compare artefacts by name, size and SHA-256, the keys being the names. What differs is still to be explained.

    An artefact that one side lacks is a difference, and two empty sets are not identical. That the digests are those of
    the files is not checked.
    """
    return Comparison(tuple(_compared(name, a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys())))


def _compared(name: str, a: Artifact | None, b: Artifact | None) -> ArtifactComparison:
    component = next(side.component for side in (a, b) if side is not None)
    differences: tuple[Difference, ...] = ()
    if a is None or b is None:
        differences = (_missing(component, name, in_a=a is not None),)
    return ArtifactComparison(component, name, _digest(a), _digest(b), differences)


def _digest(artifact: Artifact | None) -> FileDigest | None:
    return None if artifact is None else FileDigest(artifact.size, artifact.sha256)


def _missing(component: str, name: str, *, in_a: bool) -> Difference:
    return Difference(
        path=(name,),
        kind=DifferenceKind.ONLY_IN_A if in_a else DifferenceKind.ONLY_IN_B,
        offset=None,
        artifact_offset=None,
        a_excerpt="",
        b_excerpt="",
        cause=UNKNOWN_CAUSE,
        measured=measured(component, (name,)),
    )
