"""Keys in files: made, loaded, and used for signing through securesystemslib.

A private key is PKCS #8 in PEM without a passphrase, its public key is SubjectPublicKeyInfo in PEM.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.backends.atomic_file import storage_errors
from builder.errors import DocumentError, MissingError
from builder.verify.public_key import KeyKind as KeyKind
from builder.verify.public_key import PublicKey, parse_public_key, public_key

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # exported without __all__

_HINT = "give the PEM file of a private key, as `tdx-builder key new` writes it"
_OTHERS = 0o077
_MAX_KEY_SIZE = 1 << 14

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenKey:
    """Where a new key pair was written, and its key id."""

    private: Path
    public: Path
    key_id: str


class FileSigner:
    """A Signer of `builder.attest.dsse` with a key from a file, held in memory."""

    def __init__(self, signer: "CryptoSigner", public: PublicKey) -> None:
        self._signer = signer
        self.public_key = public

    @property
    def key_id(self) -> str:
        """That of `public_key`."""
        return self.public_key.key_id

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`: equal each time for Ed25519, different each time for ECDSA."""
        return bytes.fromhex(self._signer.sign(data).signature)


def generate_key(kind: KeyKind) -> tuple[bytes, bytes]:
    """A new private key and its public key, both in PEM. The private one is not encrypted."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = _generators()[kind]()
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    )


def write_new_key(path: Path, kind: KeyKind) -> WrittenKey:
    """Write a new private key to `path`, mode 0600, and its public key to `path`.pub, mode 0644.

    DocumentError if one of them exists: a key is never overwritten. MissingError if the disk does not take them.
    """
    public_path = path.with_name(f"{path.name}.pub")
    private, public = generate_key(kind)
    _write_new(path, private, mode=0o600)
    try:
        _write_new(public_path, public, mode=0o644)
    except BaseException:
        path.unlink()  # half a pair is none
        raise
    return WrittenKey(path, public_path, parse_public_key(public, what=str(public_path)).key_id)


def load_signer(path: Path) -> FileSigner:
    """The private key in a file. Warns if others may read it.

    MissingError if there is none; DocumentError for a public key, an encrypted one, another kind, or no key at all.
    """
    from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

    private = _parse_private_key(_read_key(path), path)
    public = public_key(private.public_key(), what=str(path))
    mode = path.stat().st_mode & 0o777
    if mode & _OTHERS:
        _log.warning("%s: mode %04o lets others use this private key; run `chmod 600 %s`", path, mode, path)
    return FileSigner(CryptoSigner(private, SSlibKey.from_crypto(private.public_key(), keyid=public.key_id)), public)


def load_public_key(path: Path) -> PublicKey:
    """The public key in a file. MissingError if there is none; DocumentError as `parse_public_key`."""
    return parse_public_key(_read_key(path), what=str(path))


def _generators() -> dict[KeyKind, Callable[[], Any]]:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return {
        KeyKind.ED25519: Ed25519PrivateKey.generate,
        KeyKind.ECDSA_P256: lambda: generate_private_key(SECP256R1()),
    }


def _parse_private_key(data: bytes, path: Path) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if b"PUBLIC KEY-----" in data:
        raise DocumentError(f"{path}: is a public key, wanted the private key", hint=_HINT)
    try:
        return load_pem_private_key(data, password=None)
    except TypeError as error:  # what the library raises for a missing passphrase
        hint = f"decrypt it for this use: `openssl pkcs8 -topk8 -nocrypt -in {path}`"
        raise DocumentError(f"{path}: is encrypted with a passphrase, wanted a key without one", hint=hint) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DocumentError(f"{path}: is not a private key in PEM", hint=_HINT) from error


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KEY_SIZE + 1)
    except FileNotFoundError as error:
        raise MissingError(f"{path}: no such key file", hint=f"make one with `tdx-builder key new {path}`") from error
    except OSError as error:
        raise MissingError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > _MAX_KEY_SIZE:
        raise DocumentError(f"{path}: more than {_MAX_KEY_SIZE} bytes, which no key file has")
    return data


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    with storage_errors(path):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError as error:
            raise DocumentError(f"{path}: exists, and a key is never overwritten", hint="name another file") from error
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
        except BaseException:
            path.unlink()  # half a key is none
            raise
