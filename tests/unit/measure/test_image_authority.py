"""Who vouches for an image under secure boot; the same verdicts were seen of firmware in emulated boots."""

import hashlib
import uuid

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BuilderError, DocumentError
from builder.measure.firmware.image_authority import ImageRefusedError, image_authorities
from builder.measure.firmware.signature_database import (
    CERT_X509,
    CERTIFICATE_DIGESTS,
    IMAGE_DIGESTS,
    SignatureEntry,
    parse_signature_lists,
)
from builder.measure.images.authenticode import authenticode_digest
from builder.measure.images.authenticode_signature import image_signatures, verifies
from builder.measure.images.der import parse_der
from tests.fakes.boot_files import bzimage
from tests.fakes.signed_images import (
    Signer,
    indirect_data,
    sequence,
    signed_data,
    signed_image,
    signer,
    value,
    win_certificate,
    with_certificates,
)
from tests.fakes.variable_stores import OWNER, signature_list

IMAGE = bzimage()
ROOT = signer("root")
MIDDLE = signer("middle", ROOT)
LEAF = signer("leaf", MIDDLE)
OTHER = signer("root")  # the same name, another key
SIGNED = signed_image(IMAGE, LEAF, chain=(MIDDLE,))


def certificates(*signers: Signer) -> bytes:
    return b"".join(signature_list(CERT_X509, each.der) for each in signers)


def image_digest(algorithm: str, image: bytes = IMAGE) -> bytes:
    return signature_list(IMAGE_DIGESTS[algorithm], authenticode_digest(image, algorithm=algorithm))


def x509_entry(of: Signer) -> SignatureEntry:
    return SignatureEntry(CERT_X509, OWNER, of.der)


@pytest.mark.parametrize("trusted", [ROOT, MIDDLE, LEAF], ids=["root", "intermediate", "signer itself"])
def test_any_certificate_of_the_chain_vouches(trusted: Signer) -> None:
    """edk2 verifies with a partial chain: the certificate in db need not be a root."""
    assert image_authorities(SIGNED, db=certificates(OTHER, trusted), dbx=b"") == (x509_entry(trusted),)


def test_the_first_certificate_that_vouches_is_the_one_measured() -> None:
    assert image_authorities(SIGNED, db=certificates(MIDDLE, ROOT), dbx=b"") == (x509_entry(MIDDLE),)


@pytest.mark.parametrize("db", [b"", certificates(OTHER), image_digest("sha256", bzimage(release=b"6.1"))])
def test_an_image_that_nothing_in_db_vouches_for_is_refused(db: bytes) -> None:
    with pytest.raises(ImageRefusedError, match="no certificate in db"):
        image_authorities(SIGNED, db=db, dbx=b"")
    with pytest.raises(ImageRefusedError, match="not signed"):
        image_authorities(IMAGE, db=db, dbx=b"")


@pytest.mark.parametrize(
    ("dbx", "reason"),
    [(certificates(ROOT), "certificate in dbx"), (image_digest("sha256"), "digest [0-9a-f]{64} is in dbx")],
)
def test_dbx_wins_over_db(dbx: bytes, reason: str) -> None:
    with pytest.raises(ImageRefusedError, match=reason):
        image_authorities(SIGNED, db=certificates(ROOT), dbx=dbx)


@pytest.mark.parametrize("of", [LEAF, MIDDLE, ROOT], ids=["signer", "intermediate", "in db only"])
@pytest.mark.parametrize("algorithm", CERTIFICATE_DIGESTS)
def test_a_certificate_revoked_by_digest_is_never_decided(of: Signer, algorithm: str) -> None:
    digest = hashlib.new(algorithm, of.certificate.tbs_certificate_bytes).digest()
    dbx = signature_list(CERTIFICATE_DIGESTS[algorithm], digest + bytes(16))
    with pytest.raises(DocumentError, match="revokes a certificate") as refusal:
        image_authorities(SIGNED, db=certificates(ROOT), dbx=dbx)
    assert not isinstance(refusal.value, ImageRefusedError)


def test_a_revoked_certificate_of_somebody_else_changes_nothing() -> None:
    digest = hashlib.sha256(OTHER.certificate.tbs_certificate_bytes).digest()
    dbx = signature_list(CERTIFICATE_DIGESTS["sha256"], digest + bytes(16))
    assert image_authorities(SIGNED, db=certificates(ROOT), dbx=dbx) == (x509_entry(ROOT),)


def test_every_digest_of_an_unsigned_image_that_db_has_is_measured() -> None:
    found = image_authorities(IMAGE, db=image_digest("sha256") + image_digest("sha384"), dbx=b"")
    assert [entry.type for entry in found] == [IMAGE_DIGESTS["sha384"], IMAGE_DIGESTS["sha256"]]


def test_the_digest_of_a_signed_image_vouches_too() -> None:
    (entry,) = image_authorities(SIGNED, db=image_digest("sha256"), dbx=b"")
    assert entry.data == authenticode_digest(SIGNED, algorithm="sha256")


def test_one_changed_byte_of_the_image_is_refused() -> None:
    changed = bytearray(SIGNED)
    changed[0x4000] ^= 1
    with pytest.raises(ImageRefusedError):
        image_authorities(bytes(changed), db=certificates(ROOT), dbx=b"")


def test_a_signature_of_another_image_is_refused() -> None:
    stolen = signed_image(IMAGE, LEAF, chain=(MIDDLE,), digest=bytes(32))
    with pytest.raises(ImageRefusedError):
        image_authorities(stolen, db=certificates(ROOT), dbx=b"")


def test_a_chain_with_a_missing_link_is_refused() -> None:
    with pytest.raises(ImageRefusedError):
        image_authorities(signed_image(IMAGE, LEAF), db=certificates(ROOT), dbx=b"")


def test_a_signature_by_another_key_than_the_certificates_is_refused() -> None:
    forged = signed_image(IMAGE, Signer(OTHER.key, LEAF.certificate), chain=(MIDDLE,))
    with pytest.raises(ImageRefusedError):
        image_authorities(forged, db=certificates(ROOT), dbx=b"")


def test_signed_attributes_of_other_content_do_not_verify() -> None:
    """The image's digest is swapped in the content, behind the back of the signed attributes."""
    digest = authenticode_digest(IMAGE, algorithm="sha256")
    table = win_certificate(signed_data(indirect_data(bytes(32)), LEAF, (MIDDLE,)).replace(bytes(32), digest))
    swapped = with_certificates(IMAGE, table)
    (signature,) = image_signatures(swapped)
    assert signature.image_digest == digest
    assert not verifies(signature, ROOT.certificate)
    with pytest.raises(ImageRefusedError):
        image_authorities(swapped, db=certificates(ROOT), dbx=b"")


def test_a_key_that_is_not_rsa_is_not_decided() -> None:
    curve = signer("curve", key=ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(DocumentError, match="not RSA") as refusal:
        image_authorities(signed_image(IMAGE, curve), db=certificates(curve), dbx=b"")
    assert not isinstance(refusal.value, ImageRefusedError)


@pytest.mark.parametrize("exponent", ["0203000001", "0203010000", "0203ffffff"])
def test_a_key_that_no_library_takes_is_not_decided(exponent: str) -> None:
    hostile = SIGNED.replace(bytes.fromhex("0203010001"), bytes.fromhex(exponent))
    assert hostile != SIGNED
    with pytest.raises(DocumentError):
        image_authorities(hostile, db=certificates(ROOT), dbx=b"")


def test_an_entry_of_db_that_is_no_certificate_is_not_skipped() -> None:
    with pytest.raises(DocumentError, match=r"no X\.509 certificate"):
        image_authorities(SIGNED, db=signature_list(CERT_X509, b"certificate"), dbx=b"")


def test_two_signatures_are_both_read() -> None:
    content = indirect_data(authenticode_digest(IMAGE, algorithm="sha256"))
    table = win_certificate(signed_data(content, OTHER)) + win_certificate(signed_data(content, LEAF, (MIDDLE,)))
    assert image_authorities(with_certificates(IMAGE, table), db=certificates(ROOT), dbx=b"") == (x509_entry(ROOT),)


BROKEN_TABLES = {
    "another kind of certificate": win_certificate(b"x" * 8, kind=1),
    "no DER": win_certificate(b"no DER!!"),
    "not SignedData": win_certificate(sequence(value(0x06, b"\x01"), value(0xA0, sequence()))),
    "empty sequence": win_certificate(sequence()),
    "entry without content": b"\x08\0\0\0\0\x02\x02\0",
    "table ends in an entry": win_certificate(b"x" * 8)[:-1],
    "indefinite length": win_certificate(b"\x30\x80\0\0\0\0"),
}


@pytest.mark.parametrize("table", BROKEN_TABLES.values(), ids=BROKEN_TABLES)
def test_a_broken_certificate_table_is_not_an_unsigned_image(table: bytes) -> None:
    db = image_digest("sha256", with_certificates(IMAGE, table))
    with pytest.raises(DocumentError) as refusal:
        image_authorities(with_certificates(IMAGE, table), db=db, dbx=b"")
    assert not isinstance(refusal.value, ImageRefusedError)


@given(st.integers(0, len(SIGNED) - len(IMAGE) - 1), st.integers(1, 255))
@settings(max_examples=300)
def test_no_change_of_a_signature_makes_another_entry_vouch(position: int, change: int) -> None:
    changed = bytearray(SIGNED)
    changed[len(IMAGE) + position] ^= change
    try:
        found = image_authorities(bytes(changed), db=certificates(OTHER), dbx=b"")
    except BuilderError:
        return
    raise AssertionError(f"{found} vouches")


@given(st.binary(max_size=300))
def test_arbitrary_signatures_are_refused(data: bytes) -> None:
    with pytest.raises(BuilderError):
        image_authorities(with_certificates(IMAGE, win_certificate(data)), db=certificates(ROOT), dbx=b"")


def test_signature_lists_give_their_entries_in_order() -> None:
    lists = signature_list(IMAGE_DIGESTS["sha256"], bytes(32), b"\x01" * 32) + certificates(ROOT)
    entries = parse_signature_lists(lists, what="db")
    assert [(entry.type, entry.data) for entry in entries] == [
        (IMAGE_DIGESTS["sha256"], bytes(32)),
        (IMAGE_DIGESTS["sha256"], b"\x01" * 32),
        (CERT_X509, ROOT.der),
    ]
    assert entries[0].encode() == OWNER.bytes_le + bytes(32)
    assert parse_signature_lists(b"", what="db") == ()


def test_a_signature_header_is_skipped() -> None:
    (entry,) = parse_signature_lists(signature_list(CERT_X509, b"data", header=b"header"), what="db")
    assert entry.data == b"data"


LIST = signature_list(CERT_X509, b"first", b"other")


@pytest.mark.parametrize("size", range(1, len(LIST)))
def test_a_truncated_signature_list_is_refused(size: int) -> None:
    with pytest.raises(DocumentError, match="db"):
        parse_signature_lists(LIST[:size], what="db")


@pytest.mark.parametrize(("offset", "number"), [(16, 0), (16, 27), (24, 0), (24, 16), (24, 22), (20, 1), (20, 1 << 31)])
def test_sizes_that_do_not_add_up_are_refused(offset: int, number: int) -> None:
    with pytest.raises(DocumentError, match="db"):
        parse_signature_lists(LIST[:offset] + number.to_bytes(4, "little") + LIST[offset + 4 :], what="db")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_are_signature_lists(data: bytes) -> None:
    for content in (data, LIST[:16] + data):
        try:
            entries = parse_signature_lists(content, what="db")
        except BuilderError:
            continue
        assert all(isinstance(entry.type, uuid.UUID) for entry in entries)


@given(st.binary(max_size=60))
def test_der_is_refused_or_lies_inside_its_bytes(data: bytes) -> None:
    try:
        parsed = parse_der(data)
    except BuilderError:
        return
    assert data.startswith(parsed.encoded)
    assert parsed.encoded.endswith(parsed.content)


def test_certificates_are_those_of_the_signature() -> None:
    (signature,) = image_signatures(SIGNED)
    assert signature.signer == LEAF.certificate
    assert signature.certificates == (LEAF.certificate, MIDDLE.certificate)
    assert isinstance(signature.certificates[0], x509.Certificate)
    assert image_signatures(IMAGE) == ()


def test_values_and_signatures_without_end_are_refused() -> None:
    assert len(parse_der(sequence(*[b"\x05\0"] * 64)).children()) == 64
    with pytest.raises(DocumentError, match="more than 64"):
        parse_der(sequence(*[b"\x05\0"] * 65)).children()
    one = win_certificate(signed_data(indirect_data(bytes(32)), LEAF))
    assert len(image_signatures(with_certificates(IMAGE, one * 16))) == 16
    with pytest.raises(DocumentError, match="more than 16 signatures"):
        image_signatures(with_certificates(IMAGE, one * 17))


def test_certificates_that_all_issue_each_other_do_not_multiply() -> None:
    """Of one name and key: tried as chains, sixteen would be more than anybody waits for."""
    chain = tuple(signer("root", ROOT, key=ROOT.key) for _ in range(16))
    (signature,) = image_signatures(signed_image(IMAGE, chain[0], chain=chain[1:]))
    assert not verifies(signature, OTHER.certificate)
    assert verifies(signature, ROOT.certificate)


def test_a_database_larger_than_any_variable_is_refused() -> None:
    with pytest.raises(DocumentError, match="wanted at most 1048576"):
        parse_signature_lists(bytes((1 << 20) + 1), what="dbx")
