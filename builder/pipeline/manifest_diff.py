"""`diff` of two manifests: is it the same release, and if not, which artefact, register or input differs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.attest.dsse import decode_envelope
from builder.attest.release import PREDICATE_TYPE, release_digest
from builder.encoding.canonical_json import parse_json
from builder.encoding.schema import validate
from builder.errors import DocumentError, ExitStatus
from builder.model.reference_values import parse_reference_values
from builder.pipeline.files import read_document
from builder.pipeline.verify import register_differences


@dataclass(frozen=True)
class ManifestDifference:
    """What two manifests say differently: artefacts, registers, and other members of the release."""

    digests: tuple[str, str]
    artifact_count: int
    profile_count: int
    artifacts: tuple[str, ...]
    registers: tuple[str, ...]
    other: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether both are about one release, by its digest."""
        return self.digests[0] == self.digests[1]

    @property
    def statuses(self) -> list[ExitStatus]:
        """1 for artefacts, 6 for registers, 1 for anything else that makes it another release."""
        found = [ExitStatus.REGISTER_DIFFERS] if self.registers else []
        if self.artifacts or (self.other and not found):
            found.append(ExitStatus.BYTES_DIFFER)
        return found or [ExitStatus.OK]


def diff_manifests(a: Path, b: Path) -> ManifestDifference:
    """Compare the `release` halves of two manifests. Signatures are not checked; DocumentError for other documents."""
    left, right = _release(a), _release(b)
    artifacts, registers = _artifact_differences(left, right), _register_differences(left, right, (a, b))
    others = [name for name in left if name not in ("artifacts", "reference_values") and left[name] != right[name]]
    if not (artifacts or registers or others) and left != right:
        others = ["reference_values"]
    return ManifestDifference(
        digests=(release_digest({"release": left}), release_digest({"release": right})),
        artifact_count=len(left["artifacts"]),
        profile_count=len(left["reference_values"]["profiles"]),
        artifacts=tuple(artifacts),
        registers=tuple(registers),
        other=tuple(text for name in others for text in _field_differences(name, left[name], right[name])),
    )


def _release(path: Path) -> dict[str, Any]:
    envelope = decode_envelope(read_document(path), what=str(path))
    statement = parse_json(envelope.payload, what=str(path))
    if not isinstance(statement, dict) or statement.get("predicateType") != PREDICATE_TYPE:
        raise DocumentError(f"{path}: not a manifest of tdx-builder")
    predicate: Any = statement.get("predicate")
    validate(predicate, schema_name="release-v1", what=str(path))
    release: dict[str, Any] = predicate["release"]
    return release


def _field_differences(name: str, left: Any, right: Any) -> list[str]:
    """The members that differ, by path, with both values as far as they fit a line."""
    if isinstance(left, dict) and isinstance(right, dict):
        members = sorted(member for member in left.keys() | right.keys() if left.get(member) != right.get(member))
        return [
            text
            for member in members
            for text in _field_differences(f"{name}.{member}", left.get(member), right.get(member))
        ]
    return [f"{name}: {_short(left)} and {_short(right)}"]


def _short(value: Any, width: int = 60) -> str:
    text = str(value)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _artifact_differences(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    a, b = ({entry["name"]: entry["sha256"] for entry in side["artifacts"]} for side in (left, right))
    return [
        f"artefact {name}: {a.get(name, 'absent')} and {b.get(name, 'absent')}"
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name)
    ]


def _register_differences(left: dict[str, Any], right: dict[str, Any], paths: tuple[Path, Path]) -> list[str]:
    a, b = (
        parse_reference_values(side["reference_values"], what=str(path))
        for side, path in zip((left, right), paths, strict=True)
    )
    return register_differences(a, b)
