"""The forms in which quotes and event logs are handed around: bytes, hex, base64, or inside a JSON document."""

import binascii
import re
from dataclasses import dataclass
from typing import Any

from builder.encoding.canonical_json import parse_json
from builder.errors import DocumentError

_HEX = re.compile(rb"(?:0[xX])?([0-9a-fA-F]+)")  # a group for each pair would cost memory for each pair
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}")
_SPACE = b" \t\n\r\v\f"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
MAX_JSON = 1 << 20  # a parsed document takes up to 50 times its size; those of the field have some 100 KB
_SHORTEST_TEXT = 64  # no quote or log is shorter; of less, nobody could say what it is


@dataclass(frozen=True)
class EvidenceInput:
    """The bytes themselves, and the form they came in, for people: `binary`, `hex`, `base64`, and where in JSON."""

    data: bytes
    form: str


def quote_input(data: bytes) -> EvidenceInput:
    """A quote as bytes, as hex (with or without 0x) or base64 text, or as the member `quote` of a JSON document.

    dstack's GetQuote answers the latter with hex, confidential-containers' evidence has base64. A binary quote is never
    taken for text: its second byte is zero. DocumentError for JSON without such a member, and for its other types.
    """
    if not data.lstrip().startswith(b"{"):
        return _decoded(data)
    member = _member(parse_evidence_json(data, what="quote"), "quote", what="quote")
    inner = _decoded(member.encode("utf-8"))
    if inner.form == "binary":
        raise DocumentError("quote: the member `quote` of the JSON document is neither hex nor base64")
    return EvidenceInput(inner.data, f"{inner.form} in JSON")


def event_log_input(data: bytes) -> EvidenceInput:
    """An event log as it is, or inside a JSON object: dstack's log is the text `event_log`, a CCEL that
    confidential-containers' evidence carries is the base64 text `cc_eventlog`.

    A JSON array is dstack's log itself and left alone; so is everything binary, whose second byte is zero.
    """
    if not data.lstrip().startswith(b"{"):
        return EvidenceInput(data, "JSON") if data.lstrip().startswith(b"[") else _decoded(data)
    document = parse_evidence_json(data, what="event log")
    if "cc_eventlog" in document:
        inner = _decoded(_member(document, "cc_eventlog", what="event log").encode("utf-8"))
        return EvidenceInput(inner.data, f"{inner.form} in JSON")
    return EvidenceInput(_member(document, "event_log", what="event log").encode("utf-8"), "JSON in JSON")


def parse_evidence_json(data: bytes, *, what: str) -> Any:
    """The JSON document of evidence; DocumentError as for `parse_json`, and for more than MAX_JSON bytes."""
    if len(data) > MAX_JSON:
        raise DocumentError(f"{what}: a JSON document of {len(data)} bytes, wanted at most {MAX_JSON}")
    return parse_json(data, what=what)


def _member(document: Any, name: str, *, what: str) -> str:
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, str):
        raise DocumentError(f"{what}: a JSON document without the text {name!r}", hint="give the evidence itself")
    return value


def _decoded(data: bytes) -> EvidenceInput:
    """Hex before base64, because every hex text is base64 too; what is neither is taken as it is."""
    text = data.translate(None, _SPACE) if data[:2].isascii() and b"\0" not in data[:4] else b""
    if len(text) < _SHORTEST_TEXT:
        return EvidenceInput(data, "binary")
    match = _HEX.fullmatch(text)
    if match and len(match[1]) % 2 == 0:
        return EvidenceInput(bytes.fromhex(match[1].decode("ascii")), "hex")
    if _BASE64.fullmatch(text):
        unpadded = text.rstrip(b"=").translate(_URL_SAFE)
        try:
            return EvidenceInput(binascii.a2b_base64(unpadded + b"=" * (-len(unpadded) % 4)), "base64")
        except binascii.Error:
            pass
    return EvidenceInput(data, "binary")
