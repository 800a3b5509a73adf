"""Signers with real keys that never were in a file."""

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from builder.verify.public_key import KeyKind, PublicKey, public_key


class KeyPair:
    """A Signer of `builder.attest.dsse`, with the key that verifies what it signs."""

    def __init__(self, kind: KeyKind = KeyKind.ED25519, *, claims: str | None = None) -> None:
        """`claims` is the key id that it writes into envelopes, if not its own."""
        self._key = Ed25519PrivateKey.generate() if kind is KeyKind.ED25519 else generate_private_key(SECP256R1())
        self.public: PublicKey = public_key(self._key.public_key(), what="fake key")
        self.key_id = self.public.key_id if claims is None else claims

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`."""
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(data)
        return self._key.sign(data, ECDSA(SHA256()))
