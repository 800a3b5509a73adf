"""From an envelope to a verified statement (`formats.md` 2.4, 2.5). Pure.

The steps, in this order:
1. decode the envelope;
2. check every signature over the decoded bytes, with every given key: a key id decides nothing;
3. count the different keys that verified, and require `threshold` of them;
4. check the payload type, which the signatures cover;
5. parse those same bytes as an in-toto Statement v1.
What the caller still owes: that the keys are the right ones, that it wants this predicate type, and that files have the
digests of the subjects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from types import MappingProxyType
from typing import Any, Protocol, final

from builder.attest.dsse import PAYLOAD_TYPE, Envelope, decode_envelope
from builder.attest.statement import STATEMENT_TYPE
from builder.encoding.canonical_json import parse_json
from builder.errors import DocumentError, VerificationError
from builder.model.digest import checked_sha256

_VERIFIED = object()


class TrustedKey(Protocol):
    """A public key that the caller trusts (`builder.verify.public_key`)."""

    @property
    def key_id(self) -> str:
        """Derived from the key itself, so that equal keys have equal ids and different ones do not."""

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether this key made `signature` over `data`."""


@final
@dataclass(frozen=True, kw_only=True)
class VerifiedStatement:
    """A statement whose signatures were verified. Only `verify_envelope` can make one (I4).

    `key_ids` are those of the trusted keys that signed, sorted; `subjects` is SHA-256 by name; `payload` the bytes that
    were signed. Members of the statement that the specification does not name were ignored.
    """

    key_ids: tuple[str, ...]
    subjects: Mapping[str, str]
    predicate_type: str
    predicate: Mapping[str, Any]
    payload: bytes
    verified: InitVar[object]

    def __post_init__(self, verified: object) -> None:
        if verified is not _VERIFIED:
            raise TypeError("a VerifiedStatement comes from verify_envelope only")


def verify_envelope(
    data: bytes, keys: Sequence[TrustedKey], *, threshold: int, what: str = "envelope"
) -> VerifiedStatement:
    """The statement in an envelope file that at least `threshold` of `keys` signed.

    VerificationError if fewer did, or if they signed something else than a statement; DocumentError if the envelope or
    the statement cannot be decoded, and for a threshold that is less than 1 or more than the number of different keys.
    """
    trusted = {key.key_id: key for key in keys}
    if not 1 <= threshold <= len(trusted):
        raise DocumentError(
            f"{what}: {threshold} signatures required of {len(trusted)} different keys, wanted 1 to all of them",
            hint="name every trusted key once; without a key nothing can be verified",
        )
    envelope = decode_envelope(data, what=what)
    key_ids = _verifying_keys(envelope, trusted)
    if len(key_ids) < threshold:
        raise _too_few(envelope, trusted, found=len(key_ids), threshold=threshold, what=what)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise VerificationError(
            f"{what}: signed is a payload of type {envelope.payload_type!r}, wanted {PAYLOAD_TYPE!r}"
        )
    return _statement(envelope.payload, key_ids, f"{what}: payload")


def _verifying_keys(envelope: Envelope, trusted: Mapping[str, TrustedKey]) -> tuple[str, ...]:
    """The ids of all trusted keys that made one of the signatures; bad signatures change nothing (`formats.md` 2.5)."""
    data = envelope.signed_bytes
    values = {signature.value for signature in envelope.signatures}
    return tuple(
        sorted(key_id for key_id, key in trusted.items() if any(key.verifies(value, data) for value in values))
    )


def _too_few(
    envelope: Envelope, trusted: Mapping[str, TrustedKey], *, found: int, threshold: int, what: str
) -> VerificationError:
    named = ", ".join(sorted({repr(signature.key_id[:64]) for signature in envelope.signatures})) or "none"
    return VerificationError(
        f"{what}: {found} of the given keys signed this payload, wanted {threshold}"
        f" (given: {', '.join(sorted(trusted))}; the envelope names: {named})",
        hint="the file was altered, or somebody else signed it: get the publisher's key from a source of its own",
    )


def _statement(payload: bytes, key_ids: tuple[str, ...], what: str) -> VerifiedStatement:
    document = parse_json(payload, what=what)
    if not isinstance(document, dict) or document.get("_type") != STATEMENT_TYPE:
        raise DocumentError(f"{what}: is not an in-toto Statement of type {STATEMENT_TYPE}")
    return VerifiedStatement(
        key_ids=key_ids,
        subjects=MappingProxyType(_subjects(document.get("subject"), what)),
        predicate_type=_member(document, "predicateType", str, what),
        predicate=_member(document, "predicate", dict, what),
        payload=payload,
        verified=_VERIFIED,
    )


def _subjects(entries: Any, what: str) -> dict[str, str]:
    """SHA-256 by name. Other digests are ignored: only this one is looked at anywhere (`formats.md` 3.3)."""
    if not isinstance(entries, list) or not entries:
        raise DocumentError(f"{what}: has no subject")
    subjects: dict[str, str] = {}
    for index, entry in enumerate(entries):
        name = _member(entry, "name", str, f"{what}: subject {index}")
        if name in subjects:
            raise DocumentError(f"{what}: two subjects are called {name!r}")
        digests = _member(entry, "digest", dict, f"{what}: subject {name!r}")
        subjects[name] = checked_sha256(digests.get("sha256"), what=f"{what}: subject {name!r}")
    return subjects


def _member(document: Any, name: str, kind: type, what: str) -> Any:
    """A member that must be there and must not be empty."""
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, kind) or not value:
        raise DocumentError(f"{what}: no member {name!r} that is a {kind.__name__} with content")
    return value
