"""The record of one leg: what it was given, really saw, and made. The format is `schemas/leg-v1.json`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from builder.encoding.canonical_json import encode_canonical, encode_readable, parse_json
from builder.encoding.schema import validate
from builder.model.build_info import BuildInfo, build_info_document, parse_build_info
from builder.model.digest import sha256_hex
from builder.model.plan import Artifact, BuildPlan

SCHEMA = "tdx-builder/leg/v1"
LEG_RECORD = "leg.json"


@dataclass(frozen=True)
class LegRecord:
    """One leg by digests: two records can be compared only if recipe, lock and plan are the same.

    `cached_steps` did not run in this build: their outputs are those of an earlier one, which no release may use.
    """

    recipe_sha256: str
    lock_sha256: str
    plan_sha256: str
    build_info: BuildInfo
    artifacts: tuple[Artifact, ...]
    cached_steps: tuple[str, ...] = ()

    def artifact(self, name: str) -> Artifact | None:
        """The artefact called `name`, or None."""
        return next((artifact for artifact in self.artifacts if artifact.name == name), None)


def plan_digest(plan: BuildPlan, programs: Mapping[str, str]) -> str:
    """SHA-256 over the plan and the digests of the programs that run inside the legs: the same work, or another."""
    return sha256_hex(encode_canonical({"plan": asdict(plan), "programs": dict(programs)}))


def encode_leg_record(record: LegRecord) -> bytes:
    """The bytes of `leg.json`."""
    return encode_readable(
        {
            "schema": SCHEMA,
            "recipe_sha256": record.recipe_sha256,
            "lock_sha256": record.lock_sha256,
            "plan_sha256": record.plan_sha256,
            "build_info": build_info_document(record.build_info),
            "artifacts": [asdict(artifact) for artifact in record.artifacts],
            "cached_steps": list(record.cached_steps),
        }
    )


def parse_leg_record(data: bytes, *, what: str) -> LegRecord:
    """Parse a `leg.json`; DocumentError names what is wrong with it."""
    document: dict[str, Any] = parse_json(data, what=what)
    validate(document, schema_name="leg-v1", what=what)
    return LegRecord(
        recipe_sha256=document["recipe_sha256"],
        lock_sha256=document["lock_sha256"],
        plan_sha256=document["plan_sha256"],
        build_info=parse_build_info(document["build_info"]),
        artifacts=tuple(Artifact(**entry) for entry in document["artifacts"]),
        cached_steps=tuple(document["cached_steps"]),
    )
