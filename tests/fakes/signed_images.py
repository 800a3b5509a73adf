"""EFI images with Authenticode signatures, by keys made for the run."""

import datetime
import hashlib
import struct
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from builder.measure.images.authenticode import authenticode_digest

SHA256 = bytes.fromhex("0609608648016503040201")
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_INDIRECT_DATA = bytes.fromhex("060a2b060104018237020104")
_PE_IMAGE = bytes.fromhex("060a2b06010401823702010f")
_MESSAGE_DIGEST = bytes.fromhex("06092a864886f70d010904")
_RSA = bytes.fromhex("06092a864886f70d010101")
# over: firmware has no clock to trust
_VALID = (datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC))

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Signer:
    """A key with its certificate."""

    key: Key
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate, as db has it."""
        return self.certificate.public_bytes(Encoding.DER)


def signer(name: str, issuer: Signer | None = None, *, key: Key | None = None) -> Signer:
    """A new signer, certified by `issuer` or by itself."""
    own = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).public_key(own.public_key())
    builder = builder.issuer_name(issuer.certificate.subject if issuer else subject)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(_VALID[0]).not_valid_after(_VALID[1])
    return Signer(own, builder.sign(issuer.key if issuer else own, hashes.SHA256()))


def signed_image(image: bytes, by: Signer, *, chain: tuple[Signer, ...] = (), digest: bytes | None = None) -> bytes:
    """`image` with a certificate table of one signature, over `digest` in place of its own if given."""
    content = indirect_data(digest or authenticode_digest(image, algorithm="sha256"))
    return with_certificates(image, win_certificate(signed_data(content, by, chain)))


def with_certificates(image: bytes, table: bytes) -> bytes:
    """`image` with this certificate table at its end."""
    optional = int.from_bytes(image[0x3C:0x40], "little") + 24
    entry = struct.pack("<II", len(image), len(table))
    return image[: optional + 144] + entry + image[optional + 152 :] + table


def win_certificate(data: bytes, *, kind: int = 2) -> bytes:
    """One entry of a certificate table, padded to 8 bytes."""
    entry = struct.pack("<IHH", 8 + len(data), 0x200, kind) + data
    return entry.ljust(-(-len(entry) // 8) * 8, b"\0")


def indirect_data(digest: bytes) -> bytes:
    """SpcIndirectDataContent over a SHA-256 digest of an image."""
    return sequence(sequence(_PE_IMAGE), sequence(sequence(SHA256), value(0x04, digest)))


def signed_data(content: bytes, by: Signer, chain: tuple[Signer, ...] = ()) -> bytes:
    """PKCS #7 SignedData of one signer, with the certificates of its chain."""
    inner = content[2 if content[1] < 0x80 else 2 + (content[1] & 0x7F) :]
    digest = hashlib.sha256(inner).digest()
    attributes = sequence(_MESSAGE_DIGEST, value(0x31, value(0x04, digest)))
    info = sequence(
        value(0x02, b"\x01"),
        sequence(by.certificate.issuer.public_bytes(), value(0x02, _integer(by.certificate.serial_number))),
        sequence(SHA256),
        value(0xA0, attributes),
        sequence(_RSA),
        value(0x04, _signature(by.key, value(0x31, attributes))),
    )
    certificates = b"".join(each.der for each in (by, *chain))
    body = sequence(
        value(0x02, b"\x01"),
        value(0x31, sequence(SHA256)),
        sequence(_INDIRECT_DATA, value(0xA0, content)),
        value(0xA0, certificates),
        value(0x31, info),
    )
    return sequence(_SIGNED_DATA, value(0xA0, body))


def sequence(*values: bytes) -> bytes:
    """A DER SEQUENCE."""
    return value(0x30, b"".join(values))


def value(tag: int, content: bytes) -> bytes:
    """A DER value."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _integer(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _signature(key: Key, data: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(data, ec.ECDSA(hashes.SHA256()))
