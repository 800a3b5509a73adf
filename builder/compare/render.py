"""A comparison as plain lines for people; colours are the business of the command line."""

from collections.abc import Iterator

from builder.model.comparison import (
    ArtifactComparison,
    CauseName,
    Comparison,
    Difference,
    DifferenceKind,
    FileDigest,
    Register,
)

_METADATA = (
    DifferenceKind.MODE,
    DifferenceKind.MTIME,
    DifferenceKind.OWNER,
    DifferenceKind.OTHER,
    DifferenceKind.ORDER,
)


def comparison_lines(comparison: Comparison) -> tuple[str, ...]:
    """A line for each artefact, and below it what is known about its differences."""
    if not comparison.artifacts:
        return ("nothing to compare: both sides are empty, which is not the same as identical",)
    return tuple(line for artifact in comparison.artifacts for line in artifact_lines(artifact))


def artifact_lines(artifact: ArtifactComparison) -> Iterator[str]:
    """The lines of one artefact."""
    verdict = "identical" if artifact.identical else "DIFFERS"
    yield f"{artifact.name}: {verdict} (a: {_digest(artifact.a)}, b: {_digest(artifact.b)})"
    for difference in artifact.differences:
        yield from _difference_lines(difference)
    if artifact.omitted:
        yield f"  and at least {artifact.omitted} more"
    for note in artifact.notes:
        yield f"  note: {note}"


def _difference_lines(difference: Difference) -> Iterator[str]:
    yield f"  {' > '.join(difference.path)}: {_what(difference)}{_where(difference)}"
    if difference.a_excerpt or difference.b_excerpt:
        yield f"    a: {difference.a_excerpt or '(nothing)'}"
        yield f"    b: {difference.b_excerpt or '(nothing)'}"
    yield f"    cause: {_cause(difference)}"
    yield f"    register: {_register(difference)}"


def _what(difference: Difference) -> str:
    return f"{difference.kind} ({difference.field})" if difference.field else str(difference.kind)


def _where(difference: Difference) -> str:
    parts = []
    if difference.offset is not None and difference.kind not in _METADATA:
        parts.append(f" at byte {difference.offset}")
    if difference.artifact_offset is not None:
        parts.append(f" (byte {difference.artifact_offset:#x} of the artefact)")
    return "".join(parts)


def _cause(difference: Difference) -> str:
    cause = difference.cause
    if cause.name is CauseName.UNKNOWN:
        return f"unknown; {cause.evidence}" if cause.evidence else "unknown"
    return f"{cause.name} ({cause.confidence} confidence): {cause.evidence}"


def _register(difference: Difference) -> str:
    measured = difference.measured
    if measured.register is Register.UNMEASURED:
        return f"none, but it must be the same all the same: {measured.via}"
    return f"{measured.register}, by {measured.via}" if measured.register is not Register.UNKNOWN else measured.via


def _digest(digest: FileDigest | None) -> str:
    return "missing" if digest is None else f"{digest.size} bytes, sha256 {digest.sha256[:16]}…"
