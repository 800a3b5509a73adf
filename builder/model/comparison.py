"""What comparing two sides found: per artefact equal or not, and each difference with its place, cause and register.

Side `a` and side `b` are two legs, or any two sets of artefacts. Equality is decided by size and SHA-256 alone; the
differences only explain. An empty set and a missing side are never identical (design I6).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class DifferenceKind(StrEnum):
    """What differs at a place."""

    CONTENT = "content"
    SIZE = "size"
    TRAILING = "trailing"
    ORDER = "order"
    ONLY_IN_A = "only-in-a"
    ONLY_IN_B = "only-in-b"
    MODE = "metadata-mode"
    MTIME = "metadata-mtime"
    OWNER = "metadata-owner"
    OTHER = "metadata-other"


class CauseName(StrEnum):
    """Where a difference likely comes from. `consequence`: it follows from another difference of the same artefact."""

    CLOCK = "clock"
    PATH = "path"
    HOSTNAME = "hostname"
    USER = "user"
    LOCALE = "locale"
    TIMEZONE = "timezone"
    UMASK = "umask"
    ORDER = "order"
    RANDOM = "random"
    CPU_COUNT = "cpu-count"
    ENVIRONMENT = "environment"
    KERNEL_RELEASE = "kernel-release"
    PID = "pid"
    FILE_SYSTEM = "file-system"
    CONSEQUENCE = "consequence"
    UNKNOWN = "unknown"


class Confidence(StrEnum):
    """How strong the evidence for a cause is."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NONE = "none"


class Register(StrEnum):
    """The register an artefact's bytes end up in with direct kernel boot (`determinism.md` 1.3)."""

    MRTD = "mrtd"
    RTMR0 = "rtmr0"
    RTMR1 = "rtmr1"
    RTMR2 = "rtmr2"
    UNMEASURED = "unmeasured"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Cause:
    """A likely cause and the bytes that speak for it, as text. Without evidence the name is `unknown`."""

    name: CauseName
    confidence: Confidence
    evidence: str


UNKNOWN_CAUSE = Cause(CauseName.UNKNOWN, Confidence.NONE, "")


@dataclass(frozen=True)
class Measured:
    """The register that a difference changes, and by which way it gets there."""

    register: Register
    via: str


@dataclass(frozen=True)
class Difference:
    """One place where the sides differ.

    `path` leads from the artefact through nested members. `offset` is the first differing byte within the innermost
    member, `artifact_offset` the same byte within the artefact (of side b where only b has it); None where there is no
    such byte, for example inside compressed data. Excerpts are hex of at most 16 bytes for content, the value itself
    for metadata (`field` names it), and empty for a side that has nothing there.
    """

    path: tuple[str, ...]
    kind: DifferenceKind
    offset: int | None
    artifact_offset: int | None
    a_excerpt: str
    b_excerpt: str
    cause: Cause
    measured: Measured
    field: str = ""


@dataclass(frozen=True)
class FileDigest:
    """Size in bytes and SHA-256 of one side of an artefact."""

    size: int
    sha256: str


@dataclass(frozen=True)
class ArtifactComparison:
    """One artefact on both sides; None stands for a missing side.

    `omitted` differences, at least, were found but not listed. `notes` say what could not be looked into, and why.
    """

    component: str
    name: str
    a: FileDigest | None
    b: FileDigest | None
    differences: tuple[Difference, ...] = ()
    omitted: int = 0
    notes: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether both sides are there and are the same bytes."""
        return self.a is not None and self.a == self.b and not self.differences

    @property
    def difference(self) -> Difference | None:
        """The first difference, or None where there is none or it has not been looked for."""
        return self.differences[0] if self.differences else None


@dataclass(frozen=True)
class Comparison:
    """Every artefact of two sides, sorted by name."""

    artifacts: tuple[ArtifactComparison, ...]

    @property
    def identical(self) -> bool:
        """Whether there is something to compare and all of it is the same; an empty comparison is not identical."""
        return bool(self.artifacts) and all(artifact.identical for artifact in self.artifacts)

    @property
    def differing(self) -> tuple[ArtifactComparison, ...]:
        """The artefacts that are not identical."""
        return tuple(artifact for artifact in self.artifacts if not artifact.identical)


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values within the domain of canonical JSON."""
    return {
        "identical": comparison.identical,
        "artifacts": [_artifact_document(artifact) for artifact in comparison.artifacts],
    }


def _artifact_document(artifact: ArtifactComparison) -> dict[str, Any]:
    return {
        "component": artifact.component,
        "name": artifact.name,
        "identical": artifact.identical,
        "a": _digest_document(artifact.a),
        "b": _digest_document(artifact.b),
        "differences": [_difference_document(difference) for difference in artifact.differences],
        "omitted": artifact.omitted,
        "notes": list(artifact.notes),
    }


def _difference_document(difference: Difference) -> dict[str, Any]:
    return {
        "path": list(difference.path),
        "kind": difference.kind.value,
        "field": difference.field,
        "offset": difference.offset,
        "artifact_offset": difference.artifact_offset,
        "a": difference.a_excerpt,
        "b": difference.b_excerpt,
        "cause": {
            "name": difference.cause.name.value,
            "confidence": difference.cause.confidence.value,
            "evidence": difference.cause.evidence,
        },
        "register": difference.measured.register.value,
        "via": difference.measured.via,
    }


def _digest_document(digest: FileDigest | None) -> dict[str, Any] | None:
    return None if digest is None else {"size": digest.size, "sha256": digest.sha256}
