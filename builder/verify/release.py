"""A verified statement to a release: its shape, and that its parts agree with each other. Pure.

Not checked here: whether a file is what the release says (`pipeline.verify`), and whether the signer is to be trusted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.attest.release import PREDICATE_TYPE, release_digest
from builder.encoding.schema import validate
from builder.errors import VerificationError
from builder.measure.predict import check_predictions
from builder.model.components import PROD
from builder.model.plan import Artifact
from builder.model.reference_values import ReferenceValues, parse_reference_values
from builder.verify.envelope import VerifiedStatement
from builder.verify.rehearsal import check_rehearsal
from builder.verify.run import check_run

_MEASURED = ("firmware", "kernel", "initrd")


@dataclass(frozen=True)
class VerifiedRelease:
    """What a signed manifest says, after everything in it was found to agree. `document` is the predicate."""

    image: str
    version: str
    flavour: str
    digest: str
    command_line: str
    artifacts: tuple[Artifact, ...]
    values: ReferenceValues
    document: Mapping[str, Any]


def verified_release(statement: VerifiedStatement, *, what: str) -> VerifiedRelease:
    """The release a statement is about. DocumentError for another shape, VerificationError for parts that disagree."""
    if statement.predicate_type != PREDICATE_TYPE:
        raise VerificationError(f"{what}: predicate type is {statement.predicate_type!r}, wanted {PREDICATE_TYPE!r}")
    predicate = statement.predicate
    validate(predicate, schema_name="release-v1", what=what)
    release = predicate["release"]
    artifacts = tuple(Artifact(**entry) for entry in release["artifacts"])
    _check_flavour(release["flavour"], release["version"], what)
    _check_subjects(statement.subjects, artifacts, what)
    _check_components(artifacts, what)
    check_run(predicate, artifacts, what=what)
    values = parse_reference_values(release["reference_values"], what=what)
    check_predictions(values)
    check_rehearsal(predicate["run"], values, what=what)
    return VerifiedRelease(
        image=release["image"],
        version=release["version"],
        flavour=release["flavour"],
        digest=release_digest(predicate),
        command_line=release["command_line"],
        artifacts=artifacts,
        values=values,
        document=predicate,
    )


def _check_flavour(flavour: str, version: str, what: str) -> None:
    """The path of a manifest is its version: a `dev` release must not lie where `prod` is looked for."""
    if flavour != PROD and not version.endswith(f"-{flavour}"):
        raise VerificationError(f"{what}: version is {version!r} of the flavour {flavour!r}, wanted one in -{flavour}")


def _check_subjects(subjects: Mapping[str, str], artifacts: tuple[Artifact, ...], what: str) -> None:
    listed = {artifact.name: artifact.sha256 for artifact in artifacts}
    if len(listed) != len(artifacts):
        raise VerificationError(f"{what}: two artefacts have the same name")
    if dict(subjects) != listed:
        names = sorted(name for name in subjects.keys() | listed.keys() if subjects.get(name) != listed.get(name))
        raise VerificationError(f"{what}: subjects and artefacts disagree on {', '.join(names)}")


def _check_components(artifacts: tuple[Artifact, ...], what: str) -> None:
    for component in _MEASURED:
        count = sum(artifact.component == component for artifact in artifacts)
        if count != 1:
            raise VerificationError(f"{what}: {count} artefacts are the {component}, wanted one: it is measured")
