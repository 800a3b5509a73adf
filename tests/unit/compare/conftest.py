"""What the tests of the comparison share: two legs that are known, and a short way to explain two byte strings."""

from collections.abc import Callable
from hashlib import sha256

import pytest

from builder.compare.artifacts import compare_legs
from builder.compare.causes.evidence import NO_EVIDENCE, Evidence, KnownLeg, evidence_of_legs
from builder.compare.explain import explain
from builder.compare.formats.squashfs import MemberReader
from builder.compare.source import BytesSource
from builder.model.build_info import BuildInfo, Probe
from builder.model.comparison import ArtifactComparison
from builder.model.plan import Artifact
from builder.model.variation import VARIATION_A, VARIATION_B, Variation

STARTED, FINISHED = 1_790_000_000, 1_790_000_600  # 2026-09-21
SHIFT = 400 * 86400

AXES_A = {"kernel": "6.1.0-42-amd64", "num_cpus": "affinity 16, online 16", "timezone": "+0000"}
AXES_B = {"kernel": "2.6.61-42-amd64", "num_cpus": "affinity 1, online 1", "timezone": "+1400"}

Explain = Callable[..., ArtifactComparison]


def known_leg(variation: Variation, axes: dict[str, str], **not_varied: str) -> KnownLeg:
    probe = Probe(axes, {})
    return KnownLeg(
        variation, BuildInfo(variation.name, "bubblewrap", "1", (probe, probe), not_varied, STARTED, FINISHED)
    )


@pytest.fixture(scope="session")
def legs() -> Evidence:
    """Evidence of the usual two legs, which ran for ten minutes side by side."""
    return evidence_of_legs(known_leg(VARIATION_A, AXES_A), known_leg(VARIATION_B, AXES_B))


@pytest.fixture(scope="session")
def explained() -> Explain:
    """`explained(a, b)` compares two byte strings as one artefact and explains the difference."""

    def explain_bytes(
        a: bytes,
        b: bytes,
        *,
        component: str = "initrd",
        name: str = "initrd.img",
        evidence: Evidence = NO_EVIDENCE,
        reader: MemberReader | None = None,
    ) -> ArtifactComparison:
        sides = [{name: Artifact(component, name, len(data), sha256(data).hexdigest())} for data in (a, b)]
        (artifact,) = compare_legs(sides[0], sides[1]).artifacts
        return explain(artifact, (BytesSource(a), BytesSource(b)), evidence=evidence, squashfs_members=reader)

    return explain_bytes
