"""Authenticode signatures: PKCS #7 SignedData over the digest of an EFI image (RFC 2315; "Windows Authenticode Portable
Executable Signature Format").

Verified as edk2's AuthenticodeVerify does it: one certificate is trusted, whether it is a root or not, and times do not
matter. What is not covered is refused: keys other than RSA, more than one signer.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.measure.images import der
from builder.measure.images.der import DerValue, parse_der

_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_INDIRECT_DATA = bytes.fromhex("2b060104018237020104")
_MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")
_ALGORITHMS = {
    bytes.fromhex("2b0e03021a"): "sha1",
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - the firmware takes it
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_PKCS_SIGNED_DATA = 0x0002
_CERTIFICATE_HEADER = 8
_LONGEST_CHAIN = 10
_MOST_SIGNATURES = 16
# what the library raises for certificates, names and keys that are not what they should be
_UNREADABLE = (ValueError, x509.InvalidVersion, UnsupportedAlgorithm)


@dataclass(frozen=True)
class Signature:
    """One signature: the image digest it is over, by hashlib name, and what is needed to verify it."""

    algorithm: str
    image_digest: bytes
    content: bytes
    attributes: bytes
    signed_digest: bytes
    signer_algorithm: str
    value: bytes
    signer: x509.Certificate
    certificates: tuple[x509.Certificate, ...]


def image_signatures(image: bytes) -> tuple[Signature, ...]:
    """The signatures in an EFI image's certificate table, in order; none in an unsigned one.

    DocumentError for tables and signatures that are broken or not covered, and for more than 16 signatures.
    """
    entries = tuple(islice(_table_entries(ByteReader(image, "EFI image")), _MOST_SIGNATURES + 1))
    if len(entries) > _MOST_SIGNATURES:
        raise DocumentError(f"EFI image: more than {_MOST_SIGNATURES} signatures, which is not covered")
    return tuple(_parse_signature(data) for data in entries)


def verifies(signature: Signature, trusted: x509.Certificate) -> bool:
    """Whether the signature is right and its signer's chain leads to `trusted`. Not checked: times, key usages, and
    that the image has the digest signed (`Signature.image_digest`). DocumentError for keys that are not covered."""
    key = _key_of(signature.signer)
    signed = hashlib.new(signature.signer_algorithm, signature.content).digest()
    if signed != signature.signed_digest:
        return False
    try:
        key.verify(signature.value, signature.attributes, padding.PKCS1v15(), _HASHES[signature.signer_algorithm])
    except InvalidSignature:
        return False
    except _UNREADABLE as error:  # a host may forbid SHA-1, say: that tells nothing about the firmware
        raise DocumentError(f"EFI image: its signature cannot be checked here: {error}") from error
    return _leads_to(signature.signer, trusted, signature.certificates)


def load_certificate(data: bytes, *, what: str) -> x509.Certificate:
    """An X.509 certificate; DocumentError naming `what` if it is none."""
    try:
        return x509.load_der_x509_certificate(data)
    except _UNREADABLE as error:
        raise DocumentError(f"{what}: no X.509 certificate: {error}") from error


def _key_of(signer: x509.Certificate) -> rsa.RSAPublicKey:
    try:
        key = signer.public_key()
    except _UNREADABLE as error:
        raise DocumentError(f"EFI image: its signer's key cannot be read: {error}") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise DocumentError("EFI image: its signer's key is not RSA, which is not covered")
    return key


def _leads_to(signer: x509.Certificate, trusted: x509.Certificate, others: tuple[x509.Certificate, ...]) -> bool:
    """Each certificate is looked at once: of many that issue each other there are too many chains to try."""
    reached: list[x509.Certificate] = []
    last = [signer]
    for _ in range(_LONGEST_CHAIN + 1):
        if any(each == trusted or _issued(each, trusted) for each in last):
            return True
        reached += last
        last = [other for other in others if other not in reached and any(_issued(each, other) for each in last)]
    return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*_UNREADABLE, TypeError, InvalidSignature):
        return False
    return True


def _table_entries(reader: ByteReader) -> Iterator[bytes]:
    """PKCS #7 data of each entry of the certificate table, data directory 4, whose address is a file offset."""
    optional = reader.u32(0x3C, name="e_lfanew") + 24
    directories = optional + (112 if reader.u16(optional, name="magic") == 0x20B else 96)
    if reader.u32(directories - 4, name="number of data directories") <= 4:
        return
    offset = reader.u32(directories + 32, name="certificate table")
    end = offset + reader.u32(directories + 36, name="certificate table size")
    while offset < end:
        length = reader.u32(offset, name="certificate length")
        kind = reader.u16(offset + 6, name="certificate type")
        if length <= _CERTIFICATE_HEADER or kind != _PKCS_SIGNED_DATA:
            raise DocumentError(f"EFI image: certificate of type {kind:#x} and {length} bytes, which is not covered")
        yield reader.slice(offset + _CERTIFICATE_HEADER, length - _CERTIFICATE_HEADER, name="certificate")
        offset += -(-length // 8) * 8
    if offset != end:
        raise DocumentError(f"EFI image: certificates end at {offset:#x}, their table at {end:#x}")


def _parse_signature(data: bytes) -> Signature:
    try:
        return _signed_data(_explicit(parse_der(data), _SIGNED_DATA))
    except (IndexError, *_UNREADABLE) as error:
        raise DocumentError(f"EFI image: its signature is no PKCS #7 SignedData of Authenticode ({error})") from error


def _signed_data(signed: DerValue) -> Signature:
    _, _, content_info, *optional, signers = signed.children()
    (signer,) = signers.children()
    content = _explicit(content_info, _INDIRECT_DATA)
    digest_info = content.children()[1].children()
    certificates = tuple(
        load_certificate(each.encoded, what="EFI image: its signature")
        for value in optional
        if value.tag == der.EXPLICIT_0
        for each in value.children()
    )
    _, issuer_and_serial, digest_algorithm, attributes, _, value = signer.children()[:6]
    if attributes.tag != der.EXPLICIT_0 or value.tag != der.OCTET_STRING:
        raise ValueError("its signer signed no attributes")
    return Signature(
        algorithm=_algorithm(digest_info[0]),
        image_digest=digest_info[1].content,
        content=content.content,
        attributes=bytes([der.SET]) + attributes.encoded[1:],
        signed_digest=_message_digest(attributes),
        signer_algorithm=_algorithm(digest_algorithm),
        value=value.content,
        signer=_signer(issuer_and_serial, certificates),
        certificates=certificates,
    )


def _explicit(content_info: DerValue, wanted: bytes) -> DerValue:
    """The content of a ContentInfo of the type `wanted`."""
    kind, content = content_info.children()
    if kind.content != wanted:
        raise ValueError(f"content type {kind.content.hex()}, wanted {wanted.hex()}")
    return content.children()[0]


def _algorithm(identifier: DerValue) -> str:
    oid = identifier.children()[0].content
    if oid not in _ALGORITHMS:
        raise ValueError(f"digest algorithm {oid.hex()}")
    return _ALGORITHMS[oid]


def _message_digest(attributes: DerValue) -> bytes:
    values = [each.children()[1] for each in attributes.children() if each.children()[0].content == _MESSAGE_DIGEST]
    (digests,) = values
    return digests.children()[0].content


def _signer(issuer_and_serial: DerValue, certificates: tuple[x509.Certificate, ...]) -> x509.Certificate:
    issuer, serial = issuer_and_serial.children()
    number = int.from_bytes(serial.content, "big", signed=True)
    found = [
        certificate
        for certificate in certificates
        if certificate.serial_number == number and certificate.issuer.public_bytes() == issuer.encoded
    ]
    if not found:
        raise ValueError("its signer's certificate is not among those it brings")
    return found[0]
