"""Public keys from PEM files, and signatures by them."""

import base64
import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from builder.attest.dsse import pre_authentication_encoding
from builder.errors import DocumentError
from builder.verify.public_key import KeyKind, parse_public_key, public_key
from tests.fakes.key_pairs import KeyPair

ED25519 = ed25519.Ed25519PrivateKey.generate()
P256 = ec.generate_private_key(ec.SECP256R1())


def pem(key: Any, kind: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    data: bytes = key.public_key().public_bytes(Encoding.PEM, kind)
    return data


@pytest.mark.parametrize(("key", "kind"), [(ED25519, KeyKind.ED25519), (P256, KeyKind.ECDSA_P256)])
def test_a_key_is_named_by_the_digest_of_its_encoding(key: Any, kind: KeyKind) -> None:
    parsed = parse_public_key(pem(key), what="k.pub")
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert parsed.kind is kind
    assert parsed.key_id == hashlib.sha256(spki).hexdigest()
    assert parsed == public_key(key.public_key(), what="k.pub")


def test_one_key_in_two_encodings_has_one_id() -> None:
    point = P256.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    header = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    text = base64.encodebytes(header + point).decode()
    compressed = f"-----BEGIN PUBLIC KEY-----\n{text}-----END PUBLIC KEY-----\n".encode()
    assert compressed != pem(P256)
    assert parse_public_key(compressed, what="k") == parse_public_key(pem(P256), what="k")


def private_pem(key: Any) -> bytes:
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return data


@pytest.mark.parametrize("data", [private_pem(ED25519), private_pem(P256), pem(ED25519) + private_pem(ED25519)])
def test_a_private_key_is_not_taken_for_a_public_one(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"k\.pub: is a private key, wanted its public key"):
        parse_public_key(data, what="k.pub")


@pytest.mark.parametrize(
    ("key", "found"),
    [
        (rsa.generate_private_key(65537, 2048), "RSA"),
        (ec.generate_private_key(ec.SECP384R1()), "secp384r1"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (ed448.Ed448PrivateKey.generate(), "Ed448"),
        (x25519.X25519PrivateKey.generate(), "X25519"),
    ],
    ids=["rsa", "p384", "k256", "ed448", "x25519"],
)
def test_keys_of_other_kinds_are_refused_by_name(key: Any, found: str) -> None:
    with pytest.raises(DocumentError, match=rf"k\.pub: is a key of kind .*{found}.*, wanted Ed25519 or ECDSA on P-256"):
        parse_public_key(pem(key), what="k.pub")


def test_two_keys_in_one_file_are_refused() -> None:
    with pytest.raises(DocumentError, match="more than one key"):
        parse_public_key(pem(ED25519) + pem(P256), what="k.pub")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== me",
        b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ED25519.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        ED25519.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    ],
    ids=["empty", "zeros", "ssh text", "no content", "short", "certificate", "DER", "OpenSSH"],
)
def test_what_is_no_pem_public_key_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"k\.pub: is not a public key in PEM"):
        parse_public_key(data, what="k.pub")


def test_a_truncated_key_is_refused_at_every_length() -> None:
    data = pem(P256).rstrip(b"\n")
    for length in range(len(data)):
        with pytest.raises(DocumentError):
            parse_public_key(data[:length], what="k.pub")


@given(st.integers(0, len(pem(P256)) - 1), st.integers(0, 255))
def test_an_altered_key_is_an_error_or_a_key(place: int, byte: int) -> None:
    data = bytearray(pem(P256))
    data[place] = byte
    try:
        key = parse_public_key(bytes(data), what="k.pub")
    except DocumentError:
        return
    assert len(key.key_id) == 64


@pytest.mark.parametrize("kind", list(KeyKind))
def test_only_the_very_signature_verifies(kind: KeyKind) -> None:
    pair = KeyPair(kind)
    signature = pair.sign(b"data")
    assert pair.public.verifies(signature, b"data")
    assert not pair.public.verifies(signature, b"Data")
    assert not pair.public.verifies(signature + b"\0", b"data")
    assert not pair.public.verifies(signature[:-1], b"data")
    assert not KeyPair(kind).public.verifies(signature, b"data")


@given(st.sampled_from(list(KeyKind)), st.binary(max_size=100))
def test_no_bytes_but_a_signature_verify_or_raise(kind: KeyKind, signature: bytes) -> None:
    assert not _PAIRS[kind].public.verifies(signature, b"data")


_PAIRS = {kind: KeyPair(kind) for kind in KeyKind}

# the example of the DSSE specification 1.0.2, protocol.md
_X = 46950820868899156662930047687818585632848591499744589407958293238635476079160
_Y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
_RAW = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="


def test_the_published_example_verifies_in_der_and_not_raw() -> None:
    key = public_key(ec.EllipticCurvePublicNumbers(_X, _Y, ec.SECP256R1()).public_key(), what="example")
    data = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    raw = base64.b64decode(_RAW)
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    assert key.verifies(der, data)
    assert not key.verifies(raw, data), "formats.md 2.1: only DER is read"
