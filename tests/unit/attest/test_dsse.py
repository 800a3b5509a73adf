"""Envelopes as bytes: nothing here is verified."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.attest import dsse
from builder.attest.dsse import (
    PAYLOAD_TYPE,
    Envelope,
    Signature,
    decode_envelope,
    encode_envelope,
    pre_authentication_encoding,
    sign_payload,
)
from builder.errors import DocumentError
from tests.fakes.key_pairs import KeyPair


def envelope_json(**changes: Any) -> bytes:
    document = {
        "payload": base64.b64encode(b"{}").decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": "k", "sig": base64.b64encode(b"sig").decode()}],
    }
    document |= changes
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


def decoded(data: bytes) -> Envelope:
    return decode_envelope(data, what="envelope")


def test_the_published_example_is_encoded_as_published() -> None:
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_lengths_count_bytes_and_not_characters() -> None:
    assert pre_authentication_encoding("tü", b"\xff\n") == b"DSSEv1 3 t\xc3\xbc 2 \xff\n"
    assert pre_authentication_encoding("", b"") == b"DSSEv1 0  0 "


@given(st.text(), st.binary(), st.text(), st.binary())
def test_no_two_messages_are_encoded_alike(kind: str, payload: bytes, other_kind: str, other_payload: bytes) -> None:
    same = (kind, payload) == (other_kind, other_payload)
    encoded = pre_authentication_encoding(kind, payload)
    assert (encoded == pre_authentication_encoding(other_kind, other_payload)) == same


envelopes = st.builds(
    Envelope,
    payload=st.binary(),
    payload_type=st.text(),
    signatures=st.lists(st.builds(Signature, key_id=st.text(), value=st.binary()), max_size=4).map(tuple),
)


@given(envelopes)
def test_what_was_encoded_is_decoded_and_encoded_alike(envelope: Envelope) -> None:
    data = encode_envelope(envelope)
    assert decoded(data) == envelope
    assert encode_envelope(decoded(data)) == data


def test_every_signer_signs_type_and_payload() -> None:
    signers = [KeyPair(), KeyPair()]
    envelope = sign_payload(b"payload", signers)
    assert envelope.payload_type == PAYLOAD_TYPE
    assert envelope.signed_bytes == b"DSSEv1 28 application/vnd.in-toto+json 7 payload"
    assert [signature.key_id for signature in envelope.signatures] == [signer.key_id for signer in signers]
    for signer, signature in zip(signers, envelope.signatures, strict=True):
        assert signer.public.verifies(signature.value, envelope.signed_bytes)


def test_an_envelope_without_a_signer_is_not_made() -> None:
    with pytest.raises(DocumentError, match="needs a signer"):
        sign_payload(b"payload", [])


def test_both_base64_alphabets_are_read() -> None:
    payload = bytes(range(248, 256))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert decoded(envelope_json(payload=encode(payload).decode())).payload == payload


def test_a_signature_without_key_id_has_an_empty_one() -> None:
    assert decoded(envelope_json(signatures=[{"sig": ""}])).signatures == (Signature("", b""),)


def test_unknown_members_are_ignored() -> None:
    signatures = [{"keyid": "k", "sig": "c2ln", "cert": "x"}]
    assert decoded(envelope_json(signatures=signatures, extra={"a": [1]})) == decoded(envelope_json())


def test_no_signatures_are_for_the_verifier_to_refuse() -> None:
    assert decoded(envelope_json(signatures=[])).signatures == ()


@pytest.mark.parametrize("name", ["payload", "payloadType", "signatures"])
@pytest.mark.parametrize("value", [None, 1, True, ["x"], {"x": "y"}])
def test_a_member_that_is_missing_or_of_another_type_is_named(name: str, value: object) -> None:
    data = envelope_json(**{name: value})
    with pytest.raises(DocumentError, match=f"envelope.*: no member '({name}|sig)' that is a"):
        decoded(data)


@pytest.mark.parametrize(
    "signature",
    [
        "text",
        1,
        None,
        [],
        {},
        {"keyid": "k"},
        {"keyid": 1, "sig": ""},
        {"keyid": None, "sig": ""},
        {"sig": 1},
        {"sig": []},
    ],
)
def test_a_signature_that_is_none_is_refused(signature: object) -> None:
    with pytest.raises(DocumentError, match="signature 0: no member"):
        decoded(envelope_json(signatures=[signature]))


@pytest.mark.parametrize(
    "text",
    [
        "e",
        "e3",
        "e30",
        "e30=\n",
        "e30 =",
        " e30=",
        "e30==",
        "e3==",
        "e30=e30=",
        "e31=",
        "e/0=\0",
        "ė30=",
        "=",
        "====",
        "e30%3D",
    ],
)
def test_anything_but_canonical_base64_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="payload: not"):
        decoded(envelope_json(payload=text))
    with pytest.raises(DocumentError, match="signature 0: sig: not"):
        decoded(envelope_json(signatures=[{"sig": text}]))


def test_duplicate_members_are_refused() -> None:
    doubled = envelope_json().replace(b'{"payload"', b'{"payload": "", "payload"')
    with pytest.raises(DocumentError, match="'payload' appears twice"):
        decoded(doubled)
    doubled = envelope_json().replace(b'"sig"', b'"sig": "", "sig"')
    with pytest.raises(DocumentError, match="'sig' appears twice"):
        decoded(doubled)


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{}", b'"text"', b"1", b"\xff", b"\xef\xbb\xbf{}", b"[" * 10**6]
)
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        decoded(data)


@pytest.mark.parametrize("trailing", [b"x", b"{}", b"\0", b","])
def test_bytes_after_the_envelope_are_refused(trailing: bytes) -> None:
    with pytest.raises(DocumentError):
        decoded(envelope_json() + trailing)


def test_a_truncated_envelope_is_refused_at_every_length() -> None:
    data = envelope_json()
    for length in range(len(data)):
        with pytest.raises(DocumentError):
            decoded(data[:length])


def test_an_oversized_envelope_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(DocumentError, match="bytes, more than the"):
        decoded(b"\xff" * (dsse.MAX_ENVELOPE_SIZE + 1))


def test_too_many_signatures_are_refused() -> None:
    signature = {"sig": ""}
    assert len(decoded(envelope_json(signatures=[signature] * dsse.MAX_SIGNATURES)).signatures) == dsse.MAX_SIGNATURES
    with pytest.raises(DocumentError, match="65 signatures, more than the 64"):
        decoded(envelope_json(signatures=[signature] * (dsse.MAX_SIGNATURES + 1)))


@given(st.binary(max_size=200))
def test_hostile_bytes_give_an_error_and_never_anything_else(data: bytes) -> None:
    with pytest.raises(DocumentError):
        decoded(data)
