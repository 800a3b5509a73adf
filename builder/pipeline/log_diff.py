"""`eventlog diff`: a log, and where there is one a quote, against published or predicted Reference Values.

The verdict is `explain.log_comparison`'s of the measuring core; what a difference means is `explain.neighbours`'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.attest.dsse import decode_envelope
from builder.attest.release import PREDICATE_TYPE
from builder.encoding.canonical_json import parse_json
from builder.encoding.schema import validate
from builder.errors import DocumentError, ExitStatus, RegisterDiffersError
from builder.measure.evidence.quote import TdReportBody
from builder.measure.explain.log_comparison import Outcome, RegisterComparison, best_comparison, compare_log
from builder.measure.explain.neighbours import Case, Materials, explain, explain_mrtd
from builder.measure.predict import check_predictions
from builder.model.event import ParsedEvent
from builder.model.reference_values import Prediction, ReferenceValues, parse_reference_values
from builder.pipeline.files import read_document
from builder.verify.envelope import TrustedKey, verify_envelope
from builder.verify.release import verified_release

_STATUSES = {
    Outcome.EQUAL: ExitStatus.OK,
    Outcome.DIFFERS: ExitStatus.REGISTER_DIFFERS,
    Outcome.NOT_PROVEN: ExitStatus.NOT_PROVEN,
}


@dataclass(frozen=True)
class Expectation:
    """What a log is compared with; `command_line` only if the document has one, `origin` says what was checked."""

    values: ReferenceValues
    command_line: str | None
    origin: str


@dataclass(frozen=True)
class ExplainedRegister:
    """One register's comparison, and what its difference means, as far as something tried fits."""

    comparison: RegisterComparison
    meaning: tuple[str, ...]


@dataclass(frozen=True)
class LogDifference:
    """The verdict of one profile. `chosen` says why this profile: `stated`, `fits` or `nearest`."""

    profile: str
    chosen: str
    registers: tuple[ExplainedRegister, ...]

    @property
    def statuses(self) -> list[ExitStatus]:
        """0 for equal, 6 for what differs, 8 for what could not be compared."""
        return [_STATUSES[each.comparison.outcome] for each in self.registers]


def read_expectation(path: Path, keys: Sequence[TrustedKey]) -> Expectation:
    """Reference Values out of a manifest, the JSON output of `measure`, or a document of `reference-values-v1`.

    With keys the document has to be a manifest that one of them signed (VerificationError). DocumentError for any other
    document, and for one whose events do not replay to its registers.
    """
    data = read_document(path)
    what = str(path)
    if keys:
        statement = verify_envelope(data, keys, threshold=1, what=what)
        release = verified_release(statement, what=what)
        return Expectation(release.values, release.command_line, f"signed by key {', '.join(statement.key_ids)}")
    values, command_line, origin = _unverified(parse_json(data, what=what), data, what)
    try:
        check_predictions(values)
    except RegisterDiffersError as error:
        raise DocumentError(f"{what}: {error.message}", hint=error.hint) from error
    return Expectation(values, command_line, origin)


def diff_log(
    expectation: Expectation,
    events: Sequence[ParsedEvent],
    *,
    profile: str | None,
    quote: TdReportBody | None,
    materials: Materials,
) -> LogDifference:
    """Compare with the profile of this name, or with all of them: then the one that fits, else the nearest, is told.

    DocumentError for a profile that the document does not have.
    """
    predictions = expectation.values.predictions
    if profile is not None:
        prediction = _profile(predictions, profile)
        compared, chosen = compare_log(prediction, events, quote=quote), "stated"
    else:
        prediction, compared = best_comparison(predictions, events, quote=quote)
        fits = all(each.outcome is Outcome.EQUAL for each in compared)
        chosen = "fits" if fits else "nearest"
    registers = tuple(
        ExplainedRegister(
            each, _meaning(each, prediction, expectation.values, events, quote=quote, materials=materials)
        )
        for each in compared
    )
    return LogDifference(prediction.profile.name, chosen, registers)


def _meaning(
    comparison: RegisterComparison,
    prediction: Prediction,
    values: ReferenceValues,
    events: Sequence[ParsedEvent],
    *,
    quote: TdReportBody | None,
    materials: Materials,
) -> tuple[str, ...]:
    if comparison.register == "mrtd" and comparison.outcome is Outcome.DIFFERS and quote is not None:
        return explain_mrtd(values, quote.mrtd)
    if comparison.difference is None or not comparison.difference.proven:
        return ()
    return explain(Case(comparison.difference, prediction, values.predictions, tuple(events), materials))


def _profile(predictions: Sequence[Prediction], name: str) -> Prediction:
    for prediction in predictions:
        if prediction.profile.name == name:
            return prediction
    names = ", ".join(prediction.profile.name for prediction in predictions)
    raise DocumentError(f"no profile {name!r} among those published", hint=f"there are {names[:300]}")


def _unverified(document: Any, data: bytes, what: str) -> tuple[ReferenceValues, str | None, str]:
    if not isinstance(document, dict):
        raise _unknown(what)
    if "payloadType" in document:
        release = _release(data, what)
        values = parse_reference_values(release["reference_values"], what=what)
        return values, release["command_line"], "a manifest, whose signature was not checked"
    result = document.get("result")
    if document.get("verb") == "measure" and isinstance(result, dict) and "reference_values" in result:
        return parse_reference_values(result["reference_values"], what=what), None, "the output of `measure`"
    if document.get("verb") == "measure" and isinstance(result, dict) and "platform_values" in result:
        raise DocumentError(
            f"{what}: predictions for a platform, with which logs are not compared yet",
            hint="compare `tdx-builder eventlog show` with its events by hand",
        )
    if "profiles" in document:
        return parse_reference_values(document, what=what), None, "Reference Values"
    raise _unknown(what)


def _release(data: bytes, what: str) -> dict[str, Any]:
    statement = parse_json(decode_envelope(data, what=what).payload, what=what)
    if not isinstance(statement, dict) or statement.get("predicateType") != PREDICATE_TYPE:
        raise _unknown(what)
    predicate: Any = statement.get("predicate")
    validate(predicate, schema_name="release-v1", what=what)
    release: dict[str, Any] = predicate["release"]
    return release


def _unknown(what: str) -> DocumentError:
    return DocumentError(
        f"{what}: neither a manifest nor Reference Values",
        hint="give a manifest.json, or what `tdx-builder measure --json` prints",
    )
