"""Public keys that signatures are checked with: Ed25519, and ECDSA on P-256 with SHA-256. Pure.

An Ed25519 signature is the 64 bytes of RFC 8032. An ECDSA signature is the DER sequence of r and s, as securesystemslib
and OpenSSL write it; the raw `r || s` of other DSSE tools is not accepted (`formats.md` 2.1).
"""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from builder.errors import DocumentError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_HINT = "give the PEM file of a public key: `-----BEGIN PUBLIC KEY-----`, Ed25519 or ECDSA P-256"


class KeyKind(StrEnum):
    """What a key signs with."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"


@dataclass(frozen=True)
class PublicKey:
    """One key. Equal keys have equal `key_id`: the SHA-256 of the key's DER SubjectPublicKeyInfo, in hex.

    `openssl pkey -pubin -in KEY.pub -outform DER | sha256sum` gives the same.
    """

    kind: KeyKind
    key_id: str
    _key: "Ed25519PublicKey | EllipticCurvePublicKey" = field(repr=False, compare=False)

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether this key made `signature` over `data`. False for anything that is no signature at all."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            if isinstance(self._key, Ed25519PublicKey):
                self._key.verify(signature, data)
            else:
                self._key.verify(signature, data, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


def parse_public_key(data: bytes, *, what: str) -> PublicKey:
    """The key in a PEM file called `what` in errors; DocumentError for a private key, another kind, or no key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"PRIVATE KEY-----" in data:
        raise DocumentError(f"{what}: is a private key, wanted its public key", hint=_HINT)
    if data.count(b"-----BEGIN ") > 1:
        raise DocumentError(f"{what}: holds more than one key, wanted one", hint=_HINT)
    try:
        return public_key(load_pem_public_key(data), what=what)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DocumentError(f"{what}: is not a public key in PEM", hint=_HINT) from error


def public_key(key: Any, *, what: str) -> PublicKey:
    """A key of the `cryptography` library as ours; DocumentError naming `what` for a kind that is not used here."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    kind = _kind(key, what)
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(kind, hashlib.sha256(spki).hexdigest(), key)


def _kind(key: Any, what: str) -> KeyKind:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if isinstance(key, Ed25519PublicKey):
        return KeyKind.ED25519
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return KeyKind.ECDSA_P256
    curve = f" on {key.curve.name}" if isinstance(key, EllipticCurvePublicKey) else ""
    found = type(key).__name__.removeprefix("_").removesuffix("PublicKey")
    raise DocumentError(f"{what}: is a key of kind {found}{curve}, wanted Ed25519 or ECDSA on P-256")
