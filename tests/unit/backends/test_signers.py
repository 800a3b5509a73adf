"""Keys in files."""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from builder.attest.dsse import encode_envelope, sign_payload
from builder.attest.statement import encode_statement, statement
from builder.backends.signers import KeyKind, generate_key, load_public_key, load_signer, write_new_key
from builder.errors import DocumentError, MissingError
from builder.model.plan import Artifact
from builder.verify.envelope import verify_envelope
from builder.verify.public_key import parse_public_key

KINDS = list(KeyKind)


@pytest.fixture
def loose_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_from_a_file_signs_what_its_public_key_verifies(tmp_path: Path, kind: KeyKind) -> None:
    written = write_new_key(tmp_path / "release.key", kind)
    signer, public = load_signer(written.private), load_public_key(written.public)
    assert signer.public_key == public
    assert signer.key_id == public.key_id == written.key_id
    payload = encode_statement(statement([Artifact("kernel", "vmlinuz", 1, "a" * 64)], "type", {"x": 1}))
    data = encode_envelope(sign_payload(payload, [signer]))
    assert verify_envelope(data, [public], threshold=1).payload == payload


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_pair_belongs_together_and_is_new_each_time(kind: KeyKind) -> None:
    private, public = generate_key(kind)
    assert private.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert public.startswith(b"-----BEGIN PUBLIC KEY-----\n")
    assert parse_public_key(public, what="k").kind is kind
    assert generate_key(kind)[0] != private


def test_ed25519_signatures_are_deterministic(tmp_path: Path) -> None:
    signer = load_signer(write_new_key(tmp_path / "k", KeyKind.ED25519).private)
    assert signer.sign(b"data") == signer.sign(b"data")


@pytest.mark.usefixtures("loose_umask")
def test_a_private_key_is_for_its_owner_only(tmp_path: Path) -> None:
    written = write_new_key(tmp_path / "k", KeyKind.ED25519)
    assert stat.S_IMODE(written.private.stat().st_mode) == 0o600
    assert written.public == tmp_path / "k.pub"
    assert stat.S_IMODE(written.public.stat().st_mode) == 0o644


@pytest.mark.parametrize("existing", ["k", "k.pub"])
@pytest.mark.parametrize("dangling", [True, False])
def test_nothing_is_overwritten_and_no_half_pair_is_left(tmp_path: Path, existing: str, *, dangling: bool) -> None:
    place = tmp_path / existing
    if dangling:
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.write_text("precious")
    with pytest.raises(DocumentError, match=f"{existing}: exists, and a key is never overwritten"):
        write_new_key(tmp_path / "k", KeyKind.ED25519)
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert dangling or place.read_text() == "precious"


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="nowhere"):
        write_new_key(tmp_path / "nowhere/k", KeyKind.ED25519)


def test_a_private_key_that_others_can_read_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_new_key(tmp_path / "k", KeyKind.ED25519).private
    with caplog.at_level(logging.WARNING):
        load_signer(path)
        assert caplog.messages == []
        path.chmod(0o640)
        load_signer(path)
    assert caplog.messages == [f"{path}: mode 0640 lets others use this private key; run `chmod 600 {path}`"]


@pytest.mark.parametrize("load", [load_signer, load_public_key])
def test_a_missing_key_is_missing_and_how_to_make_one_is_said(tmp_path: Path, load: Any) -> None:
    with pytest.raises(MissingError, match="nothing: no such key file") as caught:
        load(tmp_path / "nothing")
    assert "key new" in str(caught.value.hint)
    with pytest.raises(MissingError, match="cannot be read"):
        load(tmp_path)


def test_a_public_key_does_not_sign(tmp_path: Path) -> None:
    written = write_new_key(tmp_path / "k", KeyKind.ED25519)
    with pytest.raises(DocumentError, match=r"k\.pub: is a public key, wanted the private key"):
        load_signer(written.public)


def test_a_private_key_does_not_verify(tmp_path: Path) -> None:
    written = write_new_key(tmp_path / "k", KeyKind.ECDSA_P256)
    with pytest.raises(DocumentError, match="k: is a private key, wanted its public key"):
        load_public_key(written.private)


def test_an_encrypted_key_is_refused_with_a_way_out(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    path = tmp_path / "k"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    with pytest.raises(DocumentError, match="is encrypted with a passphrase") as caught:
        load_signer(path)
    assert "-nocrypt" in str(caught.value.hint)


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP521R1()), ed448.Ed448PrivateKey.generate()],
    ids=["rsa", "p521", "ed448"],
)
def test_keys_of_other_kinds_are_refused(tmp_path: Path, key: Any) -> None:
    path = tmp_path / "k"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(DocumentError, match=r"k: is a key of kind .*, wanted Ed25519 or ECDSA on P-256"):
        load_signer(path)


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"\0" * 1000, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_without_a_key_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "k"
    path.write_bytes(data)
    with pytest.raises(DocumentError, match="k: is not a private key in PEM"):
        load_signer(path)


def test_a_truncated_private_key_is_refused_at_every_length(tmp_path: Path) -> None:
    private = generate_key(KeyKind.ED25519)[0].rstrip(b"\n")
    path = tmp_path / "k"
    for length in range(len(private)):
        path.write_bytes(private[:length])
        with pytest.raises(DocumentError):
            load_signer(path)


@pytest.mark.parametrize("load", [load_signer, load_public_key])
def test_a_huge_file_is_not_read_as_a_key(tmp_path: Path, load: Any) -> None:
    path = tmp_path / "k"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(DocumentError, match="which no key file has"):
        load(path)
