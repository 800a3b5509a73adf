"""Which entry of db lets an image start under secure boot, and is measured for it (`measurement.md` 5.10).

The steps and their order are those of edk2's `DxeImageVerificationLib`, which measures every entry of db that it used.
"""

import hashlib
from collections.abc import Iterable

from cryptography import x509

from builder.errors import DocumentError
from builder.measure.firmware.signature_database import (
    CERT_X509,
    CERTIFICATE_DIGESTS,
    IMAGE_DIGESTS,
    SignatureEntry,
    parse_signature_lists,
)
from builder.measure.images.authenticode import authenticode_digest
from builder.measure.images.authenticode_signature import Signature, image_signatures, load_certificate, verifies


class ImageRefusedError(DocumentError):
    """The firmware would not start this image under secure boot."""


def image_authorities(image: bytes, *, db: bytes, dbx: bytes) -> tuple[SignatureEntry, ...]:
    """The entries of db that vouch for an EFI image, in the order in which the firmware measures them.

    ImageRefusedError if none does or dbx forbids the image; another DocumentError where that cannot be told: broken
    lists and signatures, keys that are not RSA, certificates revoked by their digest (dbt would decide).
    """
    allowed = parse_signature_lists(db, what="db")
    forbidden = parse_signature_lists(dbx, what="dbx")
    signatures = image_signatures(image)
    if signatures:
        return _signed(image, signatures, allowed, forbidden)
    return _unsigned(image, allowed, forbidden)


def _unsigned(
    image: bytes, allowed: tuple[SignatureEntry, ...], forbidden: tuple[SignatureEntry, ...]
) -> tuple[SignatureEntry, ...]:
    found: list[SignatureEntry] = []
    for algorithm in IMAGE_DIGESTS:
        digest = authenticode_digest(image, algorithm=algorithm)
        if _with_digest(forbidden, algorithm, digest):
            raise ImageRefusedError(f"EFI image: its {algorithm} digest {digest.hex()} is in dbx")
        found += _with_digest(allowed, algorithm, digest)[:1]
    if not found:
        raise ImageRefusedError("EFI image: not signed, and its digest is not in db")
    return tuple(found)


def _signed(
    image: bytes,
    signatures: tuple[Signature, ...],
    allowed: tuple[SignatureEntry, ...],
    forbidden: tuple[SignatureEntry, ...],
) -> tuple[SignatureEntry, ...]:
    found: list[SignatureEntry] = []
    for signature in signatures:
        digest = authenticode_digest(image, algorithm=signature.algorithm)
        _check_not_forbidden(signature, digest, forbidden)
        if not found:
            found += _vouching(signature, digest, allowed)[:1]
            _check_not_revoked([_certificate(entry) for entry in found], forbidden)
        if not found:
            found += _with_digest(allowed, signature.algorithm, digest)[:1]
    if not found:
        raise ImageRefusedError("EFI image: signed, but no certificate in db verifies a signature of it")
    return tuple(found)


def _check_not_forbidden(signature: Signature, digest: bytes, forbidden: tuple[SignatureEntry, ...]) -> None:
    if _vouching(signature, digest, forbidden):
        raise ImageRefusedError("EFI image: a certificate in dbx verifies a signature of it")
    if _with_digest(forbidden, signature.algorithm, digest):
        raise ImageRefusedError(f"EFI image: its {signature.algorithm} digest {digest.hex()} is in dbx")
    _check_not_revoked(signature.certificates, forbidden)


def _check_not_revoked(certificates: Iterable[x509.Certificate], forbidden: tuple[SignatureEntry, ...]) -> None:
    for algorithm, kind in CERTIFICATE_DIGESTS.items():
        size = hashlib.new(algorithm).digest_size
        revoked = {entry.data[:size] for entry in forbidden if entry.type == kind}
        for certificate in certificates:
            if hashlib.new(algorithm, certificate.tbs_certificate_bytes).digest() in revoked:
                raise DocumentError(
                    "EFI image: dbx revokes a certificate of its signature by digest; when it was signed decides then, "
                    "and no rule here covers that"
                )


def _vouching(signature: Signature, digest: bytes, entries: tuple[SignatureEntry, ...]) -> list[SignatureEntry]:
    """The certificates among `entries` that verify this signature of an image with this digest."""
    if signature.image_digest != digest:
        return []
    certificates = (entry for entry in entries if entry.type == CERT_X509)
    return [entry for entry in certificates if verifies(signature, _certificate(entry))]


def _certificate(entry: SignatureEntry) -> x509.Certificate:
    return load_certificate(entry.data, what=f"signature database: an entry of {entry.owner}")


def _with_digest(entries: tuple[SignatureEntry, ...], algorithm: str, digest: bytes) -> list[SignatureEntry]:
    return [entry for entry in entries if entry.type == IMAGE_DIGESTS[algorithm] and entry.data == digest]
