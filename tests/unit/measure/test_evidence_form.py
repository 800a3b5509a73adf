"""Quotes and logs as people hand them around."""

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuilderError, DocumentError
from builder.measure import parse_ccel, parse_quote
from builder.measure.evidence.form import MAX_JSON, event_log_input, quote_input
from builder.measure.evidence.quote import QE_VENDOR_INTEL
from tests.fakes.boot_files import log_header, log_record

QUOTE = (
    struct.pack("<HHIHH16s20s", 4, 2, 0x81, 1, 2, QE_VENDOR_INTEL, bytes(20))
    + bytes(range(256)) * 2
    + bytes(72)
    + b"\4\0\0\0abcd"
)
CCEL = log_header([(0xC, 48)]) + log_record(1, 4, [(0xC, bytes(48))], b"\xfb\xff\xbf")
HEX = QUOTE.hex().encode()

FORMS = {
    "binary": (QUOTE, "binary"),
    "hex": (HEX, "hex"),
    "upper case": (HEX.upper(), "hex"),
    "0x": (b"0x" + HEX + b"\n", "hex"),
    "hex in lines": (b"\n".join(HEX[start : start + 64] for start in range(0, len(HEX), 64)), "hex"),
    "base64": (base64.b64encode(QUOTE), "base64"),
    "base64 in lines": (base64.encodebytes(QUOTE), "base64"),
    "URL-safe base64, unpadded": (base64.urlsafe_b64encode(QUOTE).rstrip(b"="), "base64"),
    "dstack": (json.dumps({"quote": QUOTE.hex(), "event_log": "[]"}).encode(), "hex in JSON"),
    "confidential-containers": (json.dumps({"quote": base64.b64encode(QUOTE).decode()}).encode(), "base64 in JSON"),
}


@pytest.mark.parametrize(("data", "form"), FORMS.values(), ids=FORMS)
def test_a_quote_is_found_in_every_form_and_the_form_is_told(data: bytes, form: str) -> None:
    found = quote_input(data)
    assert found.form == form
    assert parse_quote(found.data) == parse_quote(QUOTE)


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"{}",
        b'{"quote": null}',
        b'{"quote": ""}',
        b'{"quote": "zz"}',
        b'{"quote": 1}',
        b'{"quote": "a", "quote": "b"}',
        json.dumps({"quote": QUOTE.hex() + "!"}).encode(),
    ],
)
def test_json_without_a_quote_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        quote_input(data)


@pytest.mark.parametrize(
    "data", [b"", b"a" * 63, b"z" * 65, HEX[:-1] + b"!", b"\xff" * 500, b"this is no quote!\n" * 100]
)
def test_what_is_no_text_form_is_left_alone_and_then_no_quote(data: bytes) -> None:
    found = quote_input(data)
    assert (found.data, found.form) == (data, "binary")
    with pytest.raises(DocumentError):
        parse_quote(found.data)


@given(st.binary(max_size=200))
def test_any_input_is_a_form_or_an_error(data: bytes) -> None:
    for read in (quote_input, event_log_input):
        try:
            read(data)
        except BuilderError:
            continue


def test_a_log_is_found_in_the_evidence_of_both_kinds() -> None:
    inner = '[{"imr": 0}]'
    assert event_log_input(json.dumps({"event_log": inner, "quote": ""}).encode()).data == inner.encode()
    coco = event_log_input(json.dumps({"cc_eventlog": base64.b64encode(CCEL).decode(), "quote": ""}).encode())
    assert (coco.data, coco.form) == (CCEL, "base64 in JSON")
    assert parse_ccel(event_log_input(base64.b64encode(CCEL)).data) == parse_ccel(CCEL)


@pytest.mark.parametrize("data", [CCEL, CCEL + b"\xff" * 999, b'[{"imr": 0}]', b" [\n]"])
def test_a_log_that_is_none_of_these_is_left_alone(data: bytes) -> None:
    assert event_log_input(data).data == data


@pytest.mark.parametrize("data", [b"{}", b'{"event_log": []}', b'{"cc_eventlog": null}', b'{"quote": "00"}'])
def test_json_without_a_log_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match="without the text"):
        event_log_input(data)


def test_json_larger_than_any_evidence_is_refused_unread() -> None:
    for read in (quote_input, event_log_input):
        with pytest.raises(DocumentError, match=f"wanted at most {MAX_JSON}"):
            read(b'{"x":"' + b"a" * MAX_JSON + b'"}')


def test_an_odd_number_of_hex_digits_is_not_hex() -> None:
    assert quote_input(b"ab" * 40).form == "hex"
    assert quote_input(b"ab" * 40 + b"a").form != "hex"
