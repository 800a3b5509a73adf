"""Quotes and TDREPORTs: layout (`quotes.md` 1). Real ones are in tests/conformance."""

import hashlib
import struct

import pytest

from builder.errors import DocumentError
from builder.measure import parse_quote, parse_tdreport
from builder.measure.evidence.quote import QE_VENDOR_INTEL

BODY = bytes(range(256)) * 2 + bytes(range(72))


def quote(
    *,
    version: int = 4,
    key_type: int = 2,
    tee_type: int = 0x81,
    vendor: bytes = QE_VENDOR_INTEL,
    body: bytes = BODY,
    kind: tuple[int, int] | None = None,
) -> bytes:
    header = struct.pack("<HHIHH16s20s", version, key_type, tee_type, 1, 2, vendor, bytes(20))
    typed = b"" if version != 5 else struct.pack("<HI", *(kind or (2 if len(body) == 584 else 3, len(body))))
    return header + typed + body + struct.pack("<I", 10) + bytes(10)


@pytest.mark.parametrize("version", [4, 5])
def test_fields_are_taken_from_their_offsets(version: int) -> None:
    parsed = parse_quote(quote(version=version))
    body = parsed.body
    assert (parsed.version, parsed.qe_svn, parsed.pce_svn) == (version, 1, 2)
    assert body.tee_tcb_svn == BODY[:16].hex()
    assert body.mrseam == BODY[16:64].hex()
    assert body.td_attributes == BODY[120:128].hex()
    assert body.mrtd == BODY[136:184].hex()
    assert body.mrownerconfig == BODY[280:328].hex()
    assert [body.rtmr0, body.rtmr1, body.rtmr2, body.rtmr3] == [BODY[at : at + 48].hex() for at in (328, 376, 424, 472)]
    assert body.report_data == BODY[520:584].hex()
    assert body.tee_tcb_svn2 is None
    assert body.mrservicetd is None


def test_a_tdx_15_body_has_two_more_fields() -> None:
    body = BODY + b"\x11" * 16 + b"\x22" * 48
    parsed = parse_quote(quote(version=5, body=body)).body
    assert (parsed.tee_tcb_svn2, parsed.mrservicetd) == ("11" * 16, "22" * 48)


@pytest.mark.parametrize(("version", "signed"), [(4, 632), (5, 638)])
def test_the_signed_part_ends_with_the_body(version: int, signed: int) -> None:
    data = quote(version=version)
    parsed = parse_quote(data + b"trailing bytes")
    assert parsed.signed == data[:signed]
    assert parsed.used == len(data)


@pytest.mark.parametrize(("first", "debug"), [(0x00, False), (0x01, True), (0x10, False), (0xFF, True)])
def test_debug_is_bit_0_of_the_attributes(first: int, debug: bool) -> None:
    body = BODY[:120] + bytes((first,)) + bytes(7) + BODY[128:]
    assert parse_quote(quote(body=body)).body.debug is debug


@pytest.mark.parametrize("version", [4, 5])
def test_every_truncation_is_refused(version: int) -> None:
    data = quote(version=version)
    for size in range(len(data)):
        with pytest.raises(DocumentError):
            parse_quote(data[:size])


@pytest.mark.parametrize(
    "sgx", [quote(version=3, tee_type=0), quote(version=4, tee_type=0), quote(version=5, kind=(1, 384))]
)
def test_an_sgx_quote_is_called_one(sgx: bytes) -> None:
    with pytest.raises(DocumentError, match="SGX quote") as refusal:
        parse_quote(sgx)
    assert refusal.value.hint is not None
    assert "TD" in refusal.value.hint


REFUSED = {
    "version 2": (quote(version=2), "version 2"),
    "version 6": (quote(version=6), "version 6"),
    "another TEE": (quote(tee_type=0x82), "TEE type 0x82"),
    "P-384": (quote(key_type=3), "key type 3"),
    "another vendor": (quote(vendor=bytes(16)), "QE vendor"),
    "extended body": (quote(version=5, body=bytes(885), kind=(4, 885)), "body type 4 of 885"),
    "size of another type": (quote(version=5, kind=(2, 648)), "body type 2 of 648"),
    "body of 4 GiB": (quote(version=5, kind=(3, 0xFFFFFFFF)), "4294967295"),
    "signature of 4 GiB": (quote()[:-14] + b"\xff" * 4, "signature section"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_other_quotes_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        parse_quote(data)


def tdreport() -> bytes:
    rest = bytes(range(256)) * 3
    tcb_info, td_info = rest[:239], rest[256:]
    head = b"\x81" + bytes(31) + hashlib.sha384(tcb_info).digest() + hashlib.sha384(td_info).digest()
    return head + bytes(128) + rest


def test_a_tdreport_is_read_if_its_digests_fit() -> None:
    report = parse_tdreport(tdreport())
    assert report.mrtd == tdreport()[528:576].hex()
    assert report.rtmr3 == tdreport()[864:912].hex()


@pytest.mark.parametrize("offset", [32, 80, 256, 494, 512, 1023])
def test_a_changed_tdreport_is_refused(offset: int) -> None:
    data = bytearray(tdreport())
    data[offset] ^= 1
    with pytest.raises(DocumentError, match="does not fit"):
        parse_tdreport(bytes(data))


@pytest.mark.parametrize("data", [b"", tdreport()[:-1], tdreport() + b"\0", b"\x00" + tdreport()[1:]], ids=len)
def test_what_is_no_tdreport_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match="TDREPORT"):
        parse_tdreport(data)


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        ((), ()),
        ((28,), ("SEPT_VE_DISABLE",)),
        ((0, 28, 30, 31, 63), ("DEBUG", "SEPT_VE_DISABLE", "PKS", "KL", "PERFMON")),
        ((1, 29, 62), ("reserved bit 1", "reserved bit 29", "reserved bit 62")),
    ],
    ids=str,
)
def test_attributes_have_names_and_reserved_ones_are_told(bits: tuple[int, ...], names: tuple[str, ...]) -> None:
    attributes = sum(1 << bit for bit in bits).to_bytes(8, "little")
    parsed = parse_quote(quote(body=BODY[:120] + attributes + BODY[128:]))
    assert parsed.body.td_attribute_names == names


@pytest.mark.parametrize("padding", [0, 1, 3065])
def test_padding_is_counted_and_belongs_to_nothing(padding: int) -> None:
    data = quote()
    parsed = parse_quote(data + bytes(padding))
    assert (parsed.trailing, parsed.used, parsed.body) == (padding, len(data), parse_quote(data).body)
