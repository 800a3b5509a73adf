"""Canonical JSON: one byte string for each document, and no document that a reader could take for another."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.encoding.canonical_json import (
    MAX_DEPTH,
    MAX_SAFE_INTEGER,
    encode_canonical,
    encode_readable,
    parse_json,
)
from builder.errors import DocumentError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
    | st.text(alphabet=st.characters(codec="utf-8"))
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="ascii")), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(DOCUMENTS)
def test_document_is_read_back_from_either_form(document: object) -> None:
    assert parse_json(encode_canonical(document), what="x") == document
    assert parse_json(encode_readable(document), what="x") == document


@given(st.dictionaries(st.text(st.characters(codec="ascii")), SCALARS))
def test_order_of_members_does_not_matter(document: dict[str, object]) -> None:
    reordered = dict(reversed(document.items()))

    assert encode_canonical(reordered) == encode_canonical(document)
    assert encode_readable(reordered) == encode_readable(document)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"b": 1, "a": [True, None]}, b'{"a":[true,null],"b":1}'),
        ({"A": 1, "a": 2, "_": 3}, b'{"A":1,"_":3,"a":2}'),
        ('\u20ac$\u000f\nA\'B"\\\\"/', b'"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'),  # RFC 8785 3.2.2
        ("\u007f\u2028", '"\u007f\u2028"'.encode()),
        (-MAX_SAFE_INTEGER, b"-9007199254740991"),
        ((), b"[]"),
    ],
)
def test_canonical_form_is_that_of_rfc_8785(value: object, data: bytes) -> None:
    assert encode_canonical(value) == data


def test_readable_form_ends_with_a_newline() -> None:
    assert encode_readable({"a": [1]}) == b'{\n "a": [\n  1\n ]\n}\n'


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.0, "float has no place"),
        (float("nan"), "float has no place"),
        (2**53, "beyond 2\\^53 - 1"),
        (-(2**53), "beyond 2\\^53 - 1"),
        ({"a": [{"b": 0.5}]}, r"\$\.a\[0\]\.b: float"),
        ({"ä": 1}, "not ASCII text"),
        ({1: 2}, "not ASCII text"),
        ("\ud800", "lone surrogate"),
        (b"bytes", "bytes has no place"),
        ({1, 2}, "set has no place"),
    ],
)
def test_value_outside_of_the_domain_is_never_written(value: object, message: str) -> None:
    for encode in (encode_canonical, encode_readable):
        with pytest.raises(DocumentError, match=message):
            encode(value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1, "a": 2}', "member 'a' appears twice"),
        (b'{"x": {"a": 1, "\\u0061": 2}}', "member 'a' appears twice"),
        (b"NaN", "not an integer"),
        (b"[Infinity]", "not an integer"),
        (b"-Infinity", "not an integer"),
        (b"1.0", "not an integer"),
        (b"1e2", "not an integer"),
        (b"9007199254740992", "beyond 2\\^53 - 1"),
        (b"9" * 5000, "not a valid JSON document"),
        (b'\xef\xbb\xbf{"a": 1}', "byte order mark"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b'{"a": 1} {"b": 2}', "Extra data"),
        (b'{"a": 1}\0', "Extra data"),
        (b"", "not a valid JSON document"),
        (b'{"a": 1', "not a valid JSON document"),
        (b"{'a': 1}", "not a valid JSON document"),
        (b'{"a": 1,}', "not a valid JSON document"),
        (b"[01]", "not a valid JSON document"),
        (b'"\x01"', "not a valid JSON document"),
        (b'"\\ud800"', "lone surrogate"),
        ('{"ä": 1}'.encode(), "not ASCII text"),
        (b"[" * 100_000, "nested|not a valid JSON"),
        (b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2), f"nested deeper than {MAX_DEPTH} levels"),
    ],
)
def test_document_that_two_readers_could_take_differently_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=message) as caught:
        parse_json(data, what="lock.json")

    assert caught.value.message.startswith("lock.json: ")


@given(st.binary(max_size=100))
def test_no_bytes_crash_the_parser(data: bytes) -> None:
    try:
        value = parse_json(data, what="x")
    except DocumentError:
        return
    assert json.loads(data) == value
