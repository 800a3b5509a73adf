"""`release`: compare two legs, measure and rehearse what both produced identically, sign, and publish in one step.

Reference Values come only from artefacts that both legs produced identically (I3): everything after the comparison
reads leg A's files, whose digests are those of leg B. Nothing appears below `manifests/` before all of it is decided.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import __version__
from builder.attest.dsse import Signer, encode_envelope, sign_payload
from builder.attest.provenance import leg_provenance
from builder.attest.release import PREDICATE_TYPE, ReleaseContent, RunRecord, release_digest, release_predicate
from builder.attest.statement import encode_statement, statement
from builder.encoding.canonical_json import encode_readable
from builder.encoding.schema import validate
from builder.errors import BytesDifferError, DocumentError
from builder.model.build_info import AxisComparison
from builder.model.comparison import Comparison, comparison_document
from builder.model.reference_values import ReferenceValues, reference_values_document
from builder.model.rehearsal import Rehearsal, rehearsal_record
from builder.pipeline.files import link_or_copy
from builder.pipeline.inputs import RecipeDirectory
from builder.pipeline.legs import ARTIFACTS, Explain, Leg, compare, compare_variations, require_uncached
from builder.pipeline.measure import COMMAND_LINE, parse_command_line
from builder.pipeline.rehearse import DIRECTORY, require_rehearsed
from builder.verify.rehearsal import check_rehearsal

MANIFEST = "manifest.json"
COMPARISON = "comparison.json"

Measure = Callable[[Leg], ReferenceValues]
Rehearse = Callable[[Leg, ReferenceValues], Rehearsal]


@dataclass(frozen=True)
class ReleaseOrder:
    """What to release: the locked recipe, the directory of this build, where manifests are published, and the key."""

    recipe: RecipeDirectory
    out: Path
    manifests: Path
    signer: Signer


class LegsDifferError(BytesDifferError):
    """The two legs are not the same bytes; `comparison` says where and, where it can be told, why."""

    def __init__(self, comparison: Comparison, kept: Path) -> None:
        names = ", ".join(artifact.name for artifact in comparison.differing) or "no artefact at all"
        super().__init__(f"the legs differ in {names}", hint=f"both sides and {COMPARISON} are kept in {kept}")
        self.comparison = comparison


def manifest_path(order: ReleaseOrder) -> Path:
    """Where the release is published: the path is its identity."""
    return order.manifests / order.recipe.recipe.image / order.recipe.recipe.release_version / MANIFEST


def require_unpublished(order: ReleaseOrder) -> None:
    """DocumentError if this version is published already: a version is never published twice."""
    path = manifest_path(order)
    if path.parent.exists():
        raise DocumentError(
            f"{path.parent}: this version is published already",
            hint="raise `version` in the recipe, or name another --manifests",
        )


@dataclass(frozen=True)
class PublishedRelease:
    """What was published: the manifest's path, the release digest, the Reference Values, how the legs differed, and the
    rehearsal, None if there was none."""

    path: Path
    digest: str
    values: ReferenceValues
    axes: tuple[AxisComparison, ...]
    rehearsal: Rehearsal | None


def release(
    order: ReleaseOrder, legs: tuple[Leg, Leg], measure: Measure, explain: Explain, *, rehearse: Rehearse | None
) -> PublishedRelease:
    """Publish the release of two legs; with None for `rehearse` the manifest says that it was not rehearsed.

    LegsDifferError (exit 1), RegisterDiffersError (exit 6), NotProvenError (exit 8) and the errors of measuring,
    rehearsing and signing leave nothing published. So do a rehearsal that did not pass, and VerificationError or
    DocumentError for one that `verify` would refuse: it is of other values, or does not fit the schema.
    """
    require_unpublished(order)
    a, b = legs
    require_uncached(a)
    require_uncached(b)
    (order.out / COMPARISON).unlink(missing_ok=True)  # of an earlier run, about other legs
    comparison = compare(a, b, explain)
    if not comparison.identical:
        order.out.mkdir(parents=True, exist_ok=True)
        (order.out / COMPARISON).write_bytes(encode_readable(comparison_document(comparison)))
        raise LegsDifferError(comparison, order.out)
    axes = compare_variations(a, b, order.recipe.recipe.required_axes)
    values = measure(a)
    rehearsal = rehearse(a, values) if rehearse is not None else None
    if rehearsal is not None:
        require_rehearsed(rehearsal, order.out / DIRECTORY)
    predicate = release_predicate(_content(order, a, values), _run_record(order, legs, axes, rehearsal))
    _check_predicate(predicate, values)
    payload = encode_statement(statement(a.record.artifacts, PREDICATE_TYPE, predicate))
    path = _publish(manifest_path(order), encode_envelope(sign_payload(payload, [order.signer])))
    return PublishedRelease(path, release_digest(predicate), values, axes, rehearsal)


def _check_predicate(predicate: dict[str, Any], values: ReferenceValues) -> None:
    """What is signed is what the schema and `verify` accept, whoever made the parts."""
    validate(predicate, schema_name="release-v1", what=MANIFEST)
    check_rehearsal(predicate["run"], values, what=MANIFEST)


def _content(order: ReleaseOrder, leg: Leg, values: ReferenceValues) -> ReleaseContent:
    recipe = order.recipe.recipe
    return ReleaseContent(
        image=recipe.image,
        version=recipe.release_version,
        flavour=recipe.flavour,
        recipe_sha256=recipe.digest,
        lock_sha256=order.recipe.lock_sha256,
        source_date_epoch=recipe.source_date_epoch,
        command_line=_command_line(leg),
        artifacts=leg.record.artifacts,
        reference_values=reference_values_document(values),
    )


def _run_record(
    order: ReleaseOrder, legs: tuple[Leg, Leg], axes: tuple[AxisComparison, ...], rehearsal: Rehearsal | None
) -> RunRecord:
    return RunRecord(
        tool_version=__version__,
        plan_sha256=legs[0].record.plan_sha256,
        provenance={
            leg.record.build_info.leg: leg_provenance(
                leg.record, order.recipe.lock, flavour=order.recipe.recipe.flavour
            )
            for leg in legs
        },
        required_axes=order.recipe.recipe.required_axes,
        axes=axes,
        rehearsal=rehearsal_record(rehearsal) if rehearsal is not None else None,
    )


def _command_line(leg: Leg) -> str:
    return parse_command_line(leg.read_artifact(COMMAND_LINE), what=str(leg.artifact_path(COMMAND_LINE)))


def show_artifacts(order: ReleaseOrder, leg: Leg) -> Path:
    """Show the artefacts once, beside the legs: `<out>/artifacts`, the same files under a second name, or copies."""
    shown = order.out / ARTIFACTS
    shutil.rmtree(shown, ignore_errors=True)
    shown.mkdir(parents=True)
    for artifact in leg.record.artifacts:
        link_or_copy(leg.artifact_path(artifact.name), shown / artifact.name)
    return shown


def _publish(path: Path, data: bytes) -> Path:
    """Make the version's directory appear with everything in it, or not at all."""
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{path.parent.name}.", suffix=".partial", dir=path.parent.parent))
    try:
        staged.chmod(0o755)
        with (staged / path.name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        staged.rename(path.parent)  # fails if somebody else published meanwhile: a directory that is not empty
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return path
