"""dstack's JSON event log (`quotes.md` 3.6, 5.1)."""

import hashlib
import re
import struct
from typing import Any

from builder.encoding.canonical_json import encode_canonical
from builder.errors import DocumentError
from builder.measure.evidence.event_data import event_name, plain_text
from builder.measure.evidence.form import parse_evidence_json
from builder.model.digest import checked_sha384
from builder.model.event import DSTACK_RUNTIME_EVENT, REGISTERS, ParsedEvent

_HEX = re.compile(r"[0-9a-f]*")
_WHAT = "dstack event log"


def parse_dstack_event_log(data: bytes) -> tuple[ParsedEvent, ...]:
    """The events of a log, complete or "lite"; a runtime event's missing digest is computed.

    The version of the rule is the one that the event states, 1 if it states none.

    DocumentError for anything but an array of events in at most 1 MiB, for a boot event without a digest, and for a
    runtime event whose digest is that of neither version. Members that are not used here are ignored.
    """
    document = parse_evidence_json(data, what=_WHAT)
    if not isinstance(document, list):
        raise DocumentError(f"{_WHAT}: not an array")
    return tuple(_parse_event(_Entry(entry, f"{_WHAT}: event {index}"), index) for index, entry in enumerate(document))


def runtime_event_digest(name: str, payload: bytes, *, version: int = 1) -> bytes:
    """What dstack extends RTMR[3] with for a runtime event. Version 2 was read in its source, not seen in a log."""
    if version == 1:
        message = struct.pack("<I", DSTACK_RUNTIME_EVENT) + b":" + name.encode("utf-8") + b":" + payload
    elif version == 2:
        message = encode_canonical({"name": name, "payload": payload.hex(), "type": DSTACK_RUNTIME_EVENT})
    else:
        raise ValueError(f"version {version} of dstack's runtime events")
    return hashlib.sha384(message).digest()


class _Entry:
    """One object of the array, with typed members."""

    def __init__(self, entry: Any, what: str) -> None:
        if not isinstance(entry, dict):
            raise DocumentError(f"{what} is not an object")
        self._entry = entry
        self.what = what

    def has(self, name: str) -> bool:
        return name in self._entry

    def integer(self, name: str, *, largest: int) -> int:
        value = self._entry.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
            raise DocumentError(f"{self.what}: {name} is {value!r}, wanted an integer from 0 to {largest}")
        return value

    def text(self, name: str) -> str:
        value = self._entry.get(name)
        if not isinstance(value, str):
            raise DocumentError(f"{self.what}: {name} is {value!r}, wanted text")
        return value

    def payload(self) -> bytes:
        value = self.text("event_payload")
        if len(value) % 2 or not _HEX.fullmatch(value):
            raise DocumentError(f"{self.what}: event_payload {value[:64]!r} is not lower-case hex")
        return bytes.fromhex(value)


def _parse_event(entry: _Entry, position: int) -> ParsedEvent:
    index = entry.integer("imr", largest=len(REGISTERS) - 1)
    event_type = entry.integer("event_type", largest=0xFFFFFFFF)
    name, payload = entry.text("event"), entry.payload()
    is_runtime = event_type == DSTACK_RUNTIME_EVENT
    return ParsedEvent(
        position=position,
        index=index,
        register=REGISTERS[index],
        event_type=event_type,
        digest=_runtime_digest(entry, name, payload)
        if is_runtime
        else checked_sha384(entry.text("digest"), what=f"{entry.what}: digest"),
        data=payload,
        name=plain_text(name) or event_name(event_type, payload),
    )


def _runtime_digest(entry: _Entry, name: str, payload: bytes) -> str:
    """Newer logs state the version of an event where it is 2; older ones do not know of versions."""
    versions = (entry.integer("version", largest=2),) if entry.has("version") else (1, 2)
    if versions == (0,):
        raise DocumentError(f"{entry.what}: version 0, wanted 1 or 2")
    known = [runtime_event_digest(name, payload, version=version).hex() for version in versions]
    stated = entry.text("digest")
    if stated and stated not in known:
        raise DocumentError(f"{entry.what}: digest {stated[:96]} is not that of its name and payload, {known[0]}")
    return stated or known[0]
