"""`verify`: is this manifest what its signer published, and are these files what it says?

The steps, in order; a manifest that fails one of the first two is not looked at any further:
1. signature: the envelope is in the one form tdx-builder writes, and a given key signed its payload;
2. statement: the payload is a release, its parts agree, its events replay to its registers;
3. path: a manifest below manifests/IMAGE/VERSION/ is the one of that image and version;
4. artefacts: every artefact is there, with the published bytes, and nothing else is;
5. registers: the artefacts give the published Reference Values again.
What the caller still owes: knowing whose key it is, and that the ACPI digests belong to the machine in question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.attest.dsse import decode_envelope, encode_envelope
from builder.errors import BuilderError, DocumentError, ExitStatus, VerificationError
from builder.measure.explain.difference import first_difference
from builder.model.check import Check, failed, not_asked, passed
from builder.model.components import PROD
from builder.model.reference_values import ReferenceValues
from builder.pipeline.acpi import GENERATED
from builder.pipeline.boot_disk import EspOpener
from builder.pipeline.files import hash_file, read_document
from builder.pipeline.measure import measured_command_line, read_boot_files, recomputed_values
from builder.verify.envelope import TrustedKey, verify_envelope
from builder.verify.release import VerifiedRelease, verified_release

_KEY_OWED = "that the key is the publisher's: get it from somewhere else than the manifest"
_MACHINE_OWED = "that your machine is one of the profiles: VMM, vCPUs, memory and devices decide RTMR0"
_TABLES_OWED = "that the ACPI digests are those of the machine: no rule here generates its tables"
_REHEARSAL_OWED = "that the image was rehearsed as the manifest says: `tdx-builder rehearse` repeats it"


@dataclass(frozen=True)
class Verification:
    """Every step with its outcome; `release` is None if the manifest itself failed."""

    checks: tuple[Check, ...]
    release: VerifiedRelease | None


def owed(release: VerifiedRelease) -> tuple[str, ...]:
    """What no check here can show, and the reader still has to see to."""
    tables = any(
        prediction.acpi is not None and GENERATED not in prediction.acpi.sources
        for prediction in release.values.predictions
    )
    rehearsed = release.document["run"].get("rehearsal", {}).get("rehearsed", False)
    return (
        _KEY_OWED,
        _MACHINE_OWED,
        *((_TABLES_OWED,) if tables else ()),
        *((_REHEARSAL_OWED,) if rehearsed else ()),
    )


def verify_manifest(
    path: Path, keys: Sequence[TrustedKey], artifacts: Path | None, *, open_esp: EspOpener | None = None
) -> Verification:
    """Verify the manifest at `path`, and with `artifacts` the directory that holds its files; `open_esp` reads those of
    a disk image, whose registers could not be recomputed without.

    DocumentError if the manifest cannot be read at all, or `artifacts` is no directory; everything else is an outcome.
    """
    if artifacts is not None and not artifacts.is_dir():
        raise DocumentError(f"{artifacts}: no directory there", hint="name the directory that holds the artefacts")
    data = read_document(path)
    release, checks = _verify_document(path, data, keys)
    if release is None:
        return Verification(tuple(checks), None)
    checks.append(_check_path(path, release))
    if artifacts is None:
        checks.append(not_asked("artefacts", "name their directory with --artifacts"))
        checks.append(not_asked("registers", "are recomputed from the artefacts"))
    else:
        checks += _verify_artifacts(artifacts, release, open_esp)
    return Verification(tuple(checks), release)


def _verify_document(path: Path, data: bytes, keys: Sequence[TrustedKey]) -> tuple[VerifiedRelease | None, list[Check]]:
    checks: list[Check] = []
    name = "signature"
    try:
        statement = verify_envelope(data, keys, threshold=1, what=str(path))
        _require_own_form(data, statement.key_ids, what=str(path))
        checks.append(passed(name, f"by key {', '.join(statement.key_ids)}"))
        name = "statement"
        release = verified_release(statement, what=str(path))
        profiles = len(release.values.predictions)
        events = sum(len(prediction.events) for prediction in release.values.predictions)
        checks.append(
            passed(
                name,
                f"{_named(release)}: {profiles} profiles, {events} events replayed; {_rehearsed(release)}",
            )
        )
    except BuilderError as error:
        status = error.status if error.status is ExitStatus.REGISTER_DIFFERS else ExitStatus.NOT_VERIFIED
        return None, [*checks, failed(name, error.message, status)]
    return release, checks


def _named(release: VerifiedRelease) -> str:
    """Image and version; a flavour that is not for production is said aloud."""
    flavour = "" if release.flavour == PROD else f", flavour {release.flavour}, not for production"
    return f"{release.image} {release.version}{flavour}"


def _rehearsed(release: VerifiedRelease) -> str:
    """What the manifest says of the rehearsal; that it agrees with the values was checked with the statement."""
    record = release.document["run"].get("rehearsal", {"rehearsed": False})
    return f"rehearsed as {record['profile']}, says the publisher" if record["rehearsed"] else "not rehearsed"


def _require_own_form(data: bytes, key_ids: tuple[str, ...], *, what: str) -> None:
    """VerificationError for a file whose meaning is signed and whose spelling is not the one tdx-builder writes.

    White space, base64 alphabet and key ids are not covered by a signature; an altered file is refused all the same.
    """
    envelope = decode_envelope(data, what=what)
    if encode_envelope(envelope) != data:
        raise VerificationError(f"{what}: not in the form that tdx-builder writes: the file was altered")
    named = {signature.key_id for signature in envelope.signatures}
    if not set(key_ids) <= named:
        raise VerificationError(
            f"{what}: signed by {', '.join(key_ids)}, but it names {', '.join(sorted(named)) or 'no key'}"
        )


def _check_path(path: Path, release: VerifiedRelease) -> Check:
    parents = path.resolve().parents
    if len(parents) < 3 or parents[2].name != "manifests":
        return not_asked("path", "the manifest does not lie below manifests/IMAGE/VERSION/")
    found = f"{parents[1].name}/{parents[0].name}"
    wanted = f"{release.image}/{release.version}"
    if found != wanted:
        return failed("path", f"it is the manifest of {wanted}, at the place of {found}", ExitStatus.NOT_VERIFIED)
    return passed("path", wanted)


def _verify_artifacts(directory: Path, release: VerifiedRelease, open_esp: EspOpener | None) -> list[Check]:
    problems = [*_missing_or_altered(directory, release), *_unlisted(directory, release)]
    if problems:
        return [
            failed("artefacts", "; ".join(problems), ExitStatus.BYTES_DIFFER),
            failed("registers", "not recomputed: the artefacts are not the published ones", ExitStatus.NOT_PROVEN),
        ]
    return [passed("artefacts", f"{len(release.artifacts)} files"), _check_registers(directory, release, open_esp)]


def _missing_or_altered(directory: Path, release: VerifiedRelease) -> list[str]:
    problems = []
    for artifact in release.artifacts:
        path = directory / artifact.name
        if path.is_symlink() or not path.is_file():
            problems.append(f"{artifact.name} is missing")
            continue
        sha256, size = hash_file(path)
        if (sha256, size) != (artifact.sha256, artifact.size):
            wanted = f"{artifact.sha256} ({artifact.size} bytes)"
            problems.append(f"{artifact.name} has SHA-256 {sha256} ({size} bytes), published is {wanted}")
    return problems


def _unlisted(directory: Path, release: VerifiedRelease) -> list[str]:
    names = {artifact.name for artifact in release.artifacts}
    found = sorted(path.name for path in directory.iterdir())
    return [f"{name} is not in the manifest" for name in found if name not in names]


def _check_registers(directory: Path, release: VerifiedRelease, open_esp: EspOpener | None) -> Check:
    names = {artifact.component: artifact.name for artifact in release.artifacts}
    try:
        files = read_boot_files(directory, names, open_esp=open_esp)
        command_line = measured_command_line(files)
        if command_line != release.command_line:
            found = f"the command line is {command_line!r}, published is {release.command_line!r}"
            return failed("registers", found, ExitStatus.REGISTER_DIFFERS)
        computed = recomputed_values(files, release.values)
    except BuilderError as error:
        return failed("registers", f"could not be recomputed: {error.message}", ExitStatus.NOT_PROVEN)
    differences = register_differences(computed, release.values)
    if differences:
        return failed("registers", "; ".join(differences), ExitStatus.REGISTER_DIFFERS)
    return passed(
        "registers", f"MRTD and RTMR0-2 of {len(computed.predictions)} profiles recomputed from the artefacts"
    )


def register_differences(computed: ReferenceValues, published: ReferenceValues) -> list[str]:
    """Every way in which computed values are not the published ones, the first event that differs included."""
    if computed == published:
        return []
    differences = []
    for ours, theirs in zip(computed.predictions, published.predictions, strict=False):
        if ours == theirs:
            continue
        found = first_difference(ours.events, theirs.events)
        what = (
            found.describe()
            if found and found.proven
            else "the launch profile, its caveats, ACPI digests or MRTD differ"
        )
        differences.append(f"profile {theirs.profile.name}: {what}")
    return differences or ["MRTD or the set of profiles differs"]
