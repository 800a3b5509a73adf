"""shim's lists (`measurement.md` 7.5): what a shim measures where nobody has enrolled anything."""

import struct
import uuid

import pytest

from builder.errors import DocumentError
from builder.measure.boot.shim import SHIM_LOCK, ShimLists, default_shim_lists, shim_events
from builder.measure.firmware.efi_variables import EfiVariable, encode_variable_data
from builder.measure.images.authenticode import authenticode_digest
from builder.model.digest import sha384_hex
from builder.model.event import PredictedEvent, UnpredictedEvent
from tests.fakes.efi_images import Section, pe_image, shim

DER = b"\x30\x82\x00\x04cert"
REVOKED = b"a list of revoked hashes, taken as it is"
SHIM = shim(DER, REVOKED)
X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
SHA256 = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")


def signature_list(kind: uuid.UUID, data: bytes) -> bytes:
    sizes = struct.pack("<III", 44 + len(data), 0, 16 + len(data))
    return kind.bytes_le + sizes + SHIM_LOCK.bytes_le + data


def test_the_vendors_certificate_becomes_a_list_and_its_revoked_hashes_are_one() -> None:
    assert default_shim_lists(SHIM) == ShimLists(signature_list(X509, DER), REVOKED, b"\x01")


def test_a_vendor_may_have_a_list_of_keys_already() -> None:
    keys = signature_list(X509, DER) + signature_list(X509, DER)
    assert default_shim_lists(shim(keys, b"")).mok_list == keys


def test_without_any_both_lists_hold_one_hash_of_zeros() -> None:
    """The value in the logs of Google's guests."""
    nothing = signature_list(SHA256, bytes(32))
    assert default_shim_lists(shim(b"", b"")) == ShimLists(nothing, nothing, b"\x01")
    assert sha384_hex(nothing).startswith("80ee2571")


def test_events_of_a_shim() -> None:
    image, mok_list, mok_list_x, trusted, sbat = shim_events(SHIM)
    assert isinstance(image, PredictedEvent)
    assert (image.register, image.digest) == ("rtmr1", authenticode_digest(SHIM).hex())
    for event, content in ((mok_list, signature_list(X509, DER)), (mok_list_x, REVOKED), (trusted, b"\x01")):
        assert isinstance(event, PredictedEvent)
        assert (event.register, event.type_name, event.digest) == ("rtmr2", "EV_IPL", sha384_hex(content))
    assert isinstance(sbat, UnpredictedEvent)
    assert sbat.register == "rtmr0"


def test_given_authorities_are_measured_as_variables_in_their_order() -> None:
    given = [
        EfiVariable(SHIM_LOCK, "SbatLevel", b"sbat,1,2021030218\n"),
        EfiVariable(SHIM_LOCK, "MokListTrusted", b"\1"),
    ]
    events = [event for event in shim_events(SHIM, authorities=given) if event.register == "rtmr0"]
    for event, variable in zip(events, given, strict=True):
        assert isinstance(event, PredictedEvent)
        assert (event.name, event.type_name) == (variable.name, "EV_EFI_VARIABLE_AUTHORITY")
        assert event.digest == sha384_hex(encode_variable_data(variable))
    assert not [event for event in shim_events(SHIM, authorities=[]) if event.register == "rtmr0"]


def test_given_lists_take_the_place_of_the_shims_own() -> None:
    lists = ShimLists(b"mine", b"revoked", b"\x00")
    found = {event.name: event.digest for event in shim_events(SHIM, lists=lists) if isinstance(event, PredictedEvent)}
    assert (found["MokList"], found["MokListTrusted"]) == (sha384_hex(b"mine"), sha384_hex(b"\x00"))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (pe_image([Section(".text", b"x")]), r"no section \.vendor_cert"),
        (b"", "e_lfanew"),
        (SHIM.replace(struct.pack("<I", len(DER)), b"\xff\xff\xff\xff"), "vendor's list at offset"),
    ],
)
def test_other_programs_and_broken_tables_are_refused(image: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        shim_events(image)
