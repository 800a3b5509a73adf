"""Only a signature by enough trusted keys makes a verified statement."""

import base64
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as ReferenceEnvelope
from securesystemslib.exceptions import VerificationError as ReferenceVerificationError
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

from builder.attest.dsse import (
    MAX_ENVELOPE_SIZE,
    PAYLOAD_TYPE,
    Envelope,
    Signature,
    encode_envelope,
    pre_authentication_encoding,
    sign_payload,
)
from builder.attest.statement import STATEMENT_TYPE
from builder.errors import DocumentError, ExitStatus, VerificationError
from builder.verify.envelope import VerifiedStatement, verify_envelope
from builder.verify.public_key import KeyKind
from tests.fakes.key_pairs import KeyPair

PREDICATE_TYPE = "https://example.com/predicate/v1"
ALICE, BOB, EVE = KeyPair(), KeyPair(KeyKind.ECDSA_P256), KeyPair()


def document(**changes: Any) -> dict[str, Any]:
    whole = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "vmlinuz", "digest": {"sha256": "a" * 64}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"x": 1},
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def signed(*signers: KeyPair, payload: bytes | None = None, **changes: Any) -> bytes:
    return encode_envelope(sign_payload(payload or json.dumps(document(**changes)).encode(), signers))


def verified(data: bytes, *keys: KeyPair, threshold: int = 1) -> VerifiedStatement:
    return verify_envelope(data, [key.public for key in keys], threshold=threshold)


def test_a_statement_by_a_trusted_key_is_verified() -> None:
    statement = verified(signed(ALICE), ALICE)
    assert statement.key_ids == (ALICE.key_id,)
    assert statement.predicate_type == PREDICATE_TYPE
    assert statement.predicate == {"x": 1}
    assert dict(statement.subjects) == {"vmlinuz": "a" * 64}
    assert json.loads(statement.payload) == document()


def test_an_unverified_statement_cannot_be_typed_as_a_verified_one() -> None:
    statement = verified(signed(ALICE), ALICE)
    fields = {field.name: getattr(statement, field.name) for field in dataclasses.fields(statement)}
    for token in (None, True, object(), statement):
        with pytest.raises(TypeError, match="comes from verify_envelope only"):
            VerifiedStatement(**fields, verified=token)
    with pytest.raises(TypeError):
        VerifiedStatement(**fields)
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(statement, predicate={"x": 2})  # type: ignore[call-arg]
    with pytest.raises(dataclasses.FrozenInstanceError):
        statement.predicate = {"x": 2}  # type: ignore[misc]
    with pytest.raises(TypeError):
        statement.subjects["vmlinuz"] = "b" * 64  # type: ignore[index]


def test_a_signature_by_somebody_else_is_no_signature() -> None:
    with pytest.raises(VerificationError, match="0 of the given keys signed this payload, wanted 1") as caught:
        verified(signed(EVE), ALICE)
    assert caught.value.status is ExitStatus.NOT_VERIFIED


def test_a_claimed_key_id_decides_nothing() -> None:
    with pytest.raises(VerificationError):
        verified(signed(KeyPair(claims=ALICE.key_id)), ALICE)
    for claim in ("", EVE.key_id, "x"):
        honest = KeyPair(claims=claim)
        assert verified(signed(honest), honest).key_ids == (honest.public.key_id,)


def test_an_envelope_without_signatures_is_not_verified() -> None:
    data = encode_envelope(Envelope(json.dumps(document()).encode(), PAYLOAD_TYPE, ()))
    with pytest.raises(VerificationError, match="the envelope names: none"):
        verified(data, ALICE)


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\0" * 63, b"0\6\2\1\1\2\1\1", b"\x30" * 1000])
def test_bytes_that_are_no_signature_are_none(signature: bytes) -> None:
    payload = json.dumps(document()).encode()
    data = encode_envelope(Envelope(payload, PAYLOAD_TYPE, (Signature(ALICE.key_id, signature),)))
    with pytest.raises(VerificationError):
        verified(data, ALICE, BOB)


def test_two_keys_of_two_kinds_make_two_signatures() -> None:
    statement = verified(signed(ALICE, BOB), ALICE, BOB, EVE, threshold=2)
    assert statement.key_ids == tuple(sorted((ALICE.key_id, BOB.key_id)))


def test_one_signature_is_not_two() -> None:
    with pytest.raises(VerificationError, match="1 of the given keys signed this payload, wanted 2"):
        verified(signed(ALICE), ALICE, BOB, threshold=2)


@pytest.mark.parametrize("signer", [ALICE, BOB], ids=["ed25519", "ecdsa"])
def test_the_same_key_signing_twice_counts_once(signer: KeyPair) -> None:
    with pytest.raises(VerificationError, match="1 of the given keys"):
        verified(signed(signer, signer, signer), ALICE, BOB, threshold=2)


def test_the_same_key_given_twice_counts_once() -> None:
    with pytest.raises(DocumentError, match="2 signatures required of 1 different keys"):
        verified(signed(ALICE, ALICE), ALICE, ALICE, threshold=2)


def test_a_bad_signature_beside_enough_good_ones_changes_nothing() -> None:
    good = sign_payload(json.dumps(document()).encode(), [ALICE])
    bad = (Signature(ALICE.key_id, b"\0" * 64), Signature(BOB.key_id, b""), Signature("", b"x"))
    for signatures in ((*bad, *good.signatures), (*good.signatures, *bad)):
        data = encode_envelope(dataclasses.replace(good, signatures=signatures))
        assert verified(data, ALICE, BOB).key_ids == (ALICE.key_id,)
        with pytest.raises(VerificationError):
            verified(data, ALICE, BOB, threshold=2)


@pytest.mark.parametrize(("keys", "threshold"), [([], 1), ([], 0), ([ALICE], 0), ([ALICE], -1), ([ALICE, BOB], 3)])
def test_a_threshold_that_says_nothing_or_cannot_be_met_is_refused(keys: Sequence[KeyPair], threshold: int) -> None:
    with pytest.raises(DocumentError, match=f"{threshold} signatures required of {len(keys)} different keys"):
        verified(signed(ALICE, BOB), *keys, threshold=threshold)


def test_a_signed_payload_of_another_type_is_no_statement() -> None:
    payload = json.dumps(document()).encode()
    for kind in ("application/json", "", f"{PAYLOAD_TYPE} ", PAYLOAD_TYPE.upper()):
        signature = ALICE.sign(pre_authentication_encoding(kind, payload))
        data = encode_envelope(Envelope(payload, kind, (Signature(ALICE.key_id, signature),)))
        with pytest.raises(VerificationError, match="payload of type"):
            verified(data, ALICE)


def test_the_payload_type_is_signed() -> None:
    altered = signed(ALICE).replace(PAYLOAD_TYPE.encode(), b"application/json")
    with pytest.raises(VerificationError, match="0 of the given keys"):
        verified(altered, ALICE)


def test_a_signature_over_another_payload_does_not_count() -> None:
    one, two = json.loads(signed(ALICE)), json.loads(signed(ALICE, predicate={"x": 2}))
    with pytest.raises(VerificationError):
        verified(json.dumps(one | {"signatures": two["signatures"]}).encode(), ALICE)


def test_members_that_the_specification_does_not_name_are_ignored() -> None:
    assert verified(signed(ALICE, extra={"y": 1}), ALICE).predicate == {"x": 1}


def test_digests_besides_sha256_are_ignored() -> None:
    subject = {"name": "vmlinuz", "digest": {"sha256": "b" * 64, "sha1": "0" * 40}, "uri": "x"}
    assert dict(verified(signed(ALICE, subject=[subject]), ALICE).subjects) == {"vmlinuz": "b" * 64}


SUBJECT = {"name": "vmlinuz", "digest": {"sha256": "a" * 64}}


@pytest.mark.parametrize(
    "changes",
    [
        {"_type": None},
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"_type": [STATEMENT_TYPE]},
        {"subject": None},
        {"subject": []},
        {"subject": SUBJECT},
        {"subject": ["vmlinuz"]},
        {"subject": [SUBJECT, SUBJECT]},
        {"subject": [SUBJECT, {"name": "vmlinuz", "digest": {"sha256": "b" * 64}}]},
        {"subject": [{"digest": SUBJECT["digest"]}]},
        {"subject": [{"name": "", "digest": SUBJECT["digest"]}]},
        {"subject": [{"name": 1, "digest": SUBJECT["digest"]}]},
        {"subject": [{"name": "vmlinuz"}]},
        {"subject": [{"name": "vmlinuz", "digest": {}}]},
        {"subject": [{"name": "vmlinuz", "digest": {"sha512": "a" * 128}}]},
        {"subject": [{"name": "vmlinuz", "digest": {"sha256": "A" * 64}}]},
        {"subject": [{"name": "vmlinuz", "digest": {"sha256": "a" * 63}}]},
        {"subject": [{"name": "vmlinuz", "digest": {"sha256": 1}}]},
        {"subject": [{"name": "vmlinuz", "digest": "a" * 64}]},
        {"predicateType": None},
        {"predicateType": ""},
        {"predicateType": 1},
        {"predicate": None},
        {"predicate": []},
        {"predicate": "text"},
    ],
    ids=str,
)
def test_a_signed_statement_of_another_shape_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match="envelope: payload"):
        verified(signed(ALICE, **changes), ALICE)


@pytest.mark.parametrize("payload", [b"x", b"[]", b"null", b"{}", b'{"_type":1,"_type":2}', b"\xff", b"[" * 100_000])
def test_a_signed_payload_that_is_no_statement_is_refused(payload: bytes) -> None:
    with pytest.raises(DocumentError):
        verified(signed(ALICE, payload=payload), ALICE)


def test_duplicate_members_of_a_signed_statement_are_refused() -> None:
    payload = json.dumps(document()).encode().replace(b'"predicate":', b'"predicate": {}, "predicate":')
    with pytest.raises(DocumentError, match="'predicate' appears twice"):
        verified(signed(ALICE, payload=payload), ALICE)


def test_a_payload_is_not_parsed_before_its_signature_is_checked() -> None:
    with pytest.raises(VerificationError):
        verified(signed(EVE, payload=b"not even JSON"), ALICE)


def test_an_oversized_envelope_is_refused() -> None:
    with pytest.raises(DocumentError, match="more than the"):
        verified(b" " * MAX_ENVELOPE_SIZE + signed(ALICE), ALICE)


@pytest.mark.parametrize("signer", [ALICE, BOB], ids=["ed25519", "ecdsa"])
def test_one_flipped_bit_anywhere_never_makes_another_statement(signer: KeyPair) -> None:
    """Every bit of a small envelope. Only bits of the key id, and spaces, may be flipped without a refusal."""
    data = signed(signer)
    honest = verified(data, signer)
    free = set(range(data.index(b'"keyid"'), data.index(b'"sig"')))
    free |= {place for place, byte in enumerate(data) if byte in b" \n"}
    accepted = set()
    for place in range(len(data)):
        for bit in range(8):
            altered = bytearray(data)
            altered[place] ^= 1 << bit
            try:
                statement = verified(bytes(altered), signer)
            except (DocumentError, VerificationError):
                continue
            assert statement == honest
            accepted.add(place)
    assert accepted <= free
    assert accepted, "flips in the key id must reach the signature"


@given(st.data())
def test_no_rearranged_envelope_is_another_statement(data: st.DataObject) -> None:
    """Whatever is cut out, put in or doubled: the honest statement or an error."""
    whole = signed(ALICE)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    insert = data.draw(st.binary(max_size=8) | st.sampled_from([whole, whole[start:end] * 2, b'"payload": "e30=", ']))
    try:
        statement = verified(whole[:start] + insert + whole[end:], ALICE)
    except (DocumentError, VerificationError):
        return
    assert statement == verified(whole, ALICE)


@pytest.mark.parametrize("signer", [ALICE, BOB], ids=["ed25519", "ecdsa"])
def test_securesystemslib_agrees_about_our_envelopes(signer: KeyPair) -> None:
    data = signed(signer)
    key = SSlibKey.from_crypto(signer.public._key, keyid=signer.key_id)
    assert ReferenceEnvelope.from_dict(json.loads(data)).verify([key], 1)
    altered = json.loads(data)
    altered["payload"] = base64.b64encode(b"{}").decode()
    with pytest.raises(ReferenceVerificationError):
        ReferenceEnvelope.from_dict(altered).verify([key], 1)
