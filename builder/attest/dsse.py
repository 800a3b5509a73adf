"""DSSE envelopes: what exactly is signed, and how it is written and read (`formats.md` 2). No cryptography here.

Reading is strict where the specification is silent, so that a file has few other spellings: JSON without duplicate
members, base64 in its one canonical form. Unknown members are ignored, as it demands.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from builder.encoding.canonical_json import encode_readable, parse_json
from builder.errors import DocumentError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_ENVELOPE_SIZE = 64 << 20
MAX_SIGNATURES = 64

_URL_SAFE = str.maketrans("-_", "+/")


class Signer(Protocol):
    """A private key that is used and never shown: a file, a token, a key service."""

    @property
    def key_id(self) -> str:
        """What names its public key in envelopes: a hint for the reader, which proves nothing."""

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`, in the form of `builder.verify.public_key`."""


@dataclass(frozen=True)
class Signature:
    """One signature, and the key id it came with: empty if it came with none."""

    key_id: str
    value: bytes


@dataclass(frozen=True)
class Envelope:
    """A decoded envelope. Nothing in it is verified."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]

    @property
    def signed_bytes(self) -> bytes:
        """What every signature is over."""
        return pre_authentication_encoding(self.payload_type, self.payload)


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """PAE (`formats.md` 2.1): type and payload with their lengths in bytes, so that neither can run into the other."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_payload(payload: bytes, signers: Sequence[Signer]) -> Envelope:
    """An envelope with the signature of each signer, over an in-toto payload. DocumentError without any signer."""
    if not signers:
        raise DocumentError("an envelope needs a signer, and none was given")
    data = pre_authentication_encoding(PAYLOAD_TYPE, payload)
    signatures = tuple(Signature(signer.key_id, signer.sign(data)) for signer in signers)
    return Envelope(payload, PAYLOAD_TYPE, signatures)


def encode_envelope(envelope: Envelope) -> bytes:
    """The file of an envelope: one byte string for each envelope, decoded ones included."""
    return encode_readable(
        {
            "payload": _base64(envelope.payload),
            "payloadType": envelope.payload_type,
            "signatures": [{"keyid": each.key_id, "sig": _base64(each.value)} for each in envelope.signatures],
        }
    )


def decode_envelope(data: bytes, *, what: str) -> Envelope:
    """Read an envelope file called `what` in errors; DocumentError for anything that is none, or is too large."""
    if len(data) > MAX_ENVELOPE_SIZE:
        raise DocumentError(f"{what}: {len(data)} bytes, more than the {MAX_ENVELOPE_SIZE} an envelope may have")
    document = parse_json(data, what=what)
    signatures = _member(document, "signatures", list, what)
    if len(signatures) > MAX_SIGNATURES:
        raise DocumentError(f"{what}: {len(signatures)} signatures, more than the {MAX_SIGNATURES} it may have")
    return Envelope(
        payload=_decode_base64(_member(document, "payload", str, what), f"{what}: payload"),
        payload_type=_member(document, "payloadType", str, what),
        signatures=tuple(_signature(entry, f"{what}: signature {i}") for i, entry in enumerate(signatures)),
    )


def _signature(entry: Any, what: str) -> Signature:
    value = _decode_base64(_member(entry, "sig", str, what), f"{what}: sig")
    key_id = _member(entry, "keyid", str, what) if "keyid" in entry else ""
    return Signature(key_id, value)


def _member(document: Any, name: str, kind: type, what: str) -> Any:
    if not isinstance(document, dict) or not isinstance(document.get(name), kind):
        raise DocumentError(
            f"{what}: no member {name!r} that is a {kind.__name__}", hint="a DSSE envelope is wanted (`formats.md` 2.2)"
        )
    return document[name]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode_base64(text: str, what: str) -> bytes:
    """Either alphabet, padded, and with the unused bits of the last character zero (RFC 4648 3.5)."""
    text = text.translate(_URL_SAFE)
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise DocumentError(f"{what}: not base64: {error}") from error
    if _base64(data) != text:
        raise DocumentError(f"{what}: not the canonical base64 of its content")
    return data
