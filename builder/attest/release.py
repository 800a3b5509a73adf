"""The release predicate: what a manifest says (`docs/predicates/release-v1.md`, `schemas/release-v1.json`).

It has two members. `release` is what everybody who builds the same recipe and lock gets, byte for byte: inputs,
artefacts and Reference Values; its SHA-256 names the release. `run` is what happened on the publisher's machine: the
provenance of each leg and the axes proven different. It is signed too, but never compared.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from builder.encoding.canonical_json import encode_canonical
from builder.model.build_info import AxisComparison
from builder.model.digest import sha256_hex
from builder.model.plan import Artifact

PREDICATE_TYPE = "https://tdx-builder.github.io/predicates/release/v1"


@dataclass(frozen=True)
class ReleaseContent:
    """The reproducible half: the same on every machine. `reference_values` is a `reference_values_document`.

    `version` is that of the release, which ends in the name of a `flavour` other than `prod`.
    """

    image: str
    version: str
    flavour: str
    recipe_sha256: str
    lock_sha256: str
    source_date_epoch: int
    command_line: str
    artifacts: tuple[Artifact, ...]
    reference_values: Mapping[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """The volatile half: what built it, the SLSA provenance predicate of each leg, and the comparison of the legs.

    `rehearsal` is a `rehearsal_record`, None for a release that was published without one.
    """

    tool_version: str
    plan_sha256: str
    provenance: Mapping[str, Mapping[str, Any]]
    required_axes: tuple[str, ...]
    axes: tuple[AxisComparison, ...]
    rehearsal: Mapping[str, Any] | None


def release_predicate(content: ReleaseContent, run: RunRecord) -> dict[str, Any]:
    """The predicate as plain values."""
    return {
        "release": {
            "image": content.image,
            "version": content.version,
            "flavour": content.flavour,
            "recipe": {"sha256": content.recipe_sha256},
            "lock": {"sha256": content.lock_sha256},
            "source_date_epoch": content.source_date_epoch,
            "command_line": content.command_line,
            "artifacts": [asdict(artifact) for artifact in content.artifacts],
            "reference_values": dict(content.reference_values),
        },
        "run": {
            "tool": {"name": "tdx-builder", "version": run.tool_version},
            "plan": {"sha256": run.plan_sha256},
            "legs": {name: dict(predicate) for name, predicate in run.provenance.items()},
            "comparison": {
                "identical": True,
                "required_axes": list(run.required_axes),
                "axes": [_axis(axis) for axis in run.axes],
            },
            "rehearsal": {"rehearsed": run.rehearsal is not None, **(run.rehearsal or {})},
        },
    }


def release_digest(predicate: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of the reproducible half: two builds of one release agree on it."""
    return sha256_hex(encode_canonical(predicate["release"]))


def _axis(axis: AxisComparison) -> dict[str, str]:
    return {
        "axis": axis.axis,
        "code": axis.code,
        "a": axis.a,
        "b": axis.b,
        "verdict": str(axis.verdict),
        "reason": axis.reason,
    }
