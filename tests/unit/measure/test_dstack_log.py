"""dstack's JSON event log (`quotes.md` 3.6, 5.1)."""

import json
from typing import Any

import pytest

from builder.errors import BuilderError, DocumentError
from builder.measure import parse_dstack_event_log, replay
from builder.measure.dstack.log import runtime_event_digest
from builder.model.event import DSTACK_RUNTIME_EVENT

BOOT = {"imr": 0, "event_type": 4, "digest": "ab" * 48, "event": "", "event_payload": ""}
RUNTIME = {"imr": 3, "event_type": DSTACK_RUNTIME_EVENT, "digest": "", "event": "app-id", "event_payload": "0102"}


def log(*events: Any) -> bytes:
    return json.dumps(events).encode()


def test_the_register_is_the_rtmr_index_and_not_the_mr_index() -> None:
    events = parse_dstack_event_log(log(*({**BOOT, "imr": index} for index in range(3)), RUNTIME))
    assert [event.register for event in events] == ["rtmr0", "rtmr1", "rtmr2", "rtmr3"]


def test_a_missing_runtime_digest_is_computed() -> None:
    digest = runtime_event_digest("app-id", b"\1\2").hex()
    (computed,) = parse_dstack_event_log(log(RUNTIME))
    (stated,) = parse_dstack_event_log(log({**RUNTIME, "digest": digest}))
    assert computed.digest == stated.digest == digest
    assert replay([computed]) == replay([stated])


def test_both_versions_of_a_runtime_digest_are_known() -> None:
    second = runtime_event_digest("app-id", b"\1\2", version=2).hex()
    (event,) = parse_dstack_event_log(log({**RUNTIME, "digest": second}))
    assert event.digest == second
    with pytest.raises(ValueError, match="version 3"):
        runtime_event_digest("app-id", b"", version=3)


@pytest.mark.parametrize("change", [{"event": "app-ie"}, {"event_payload": "0103"}, {"event_payload": ""}])
def test_a_runtime_event_with_another_ones_digest_is_refused(change: dict[str, str]) -> None:
    digest = runtime_event_digest("app-id", b"\1\2").hex()
    with pytest.raises(DocumentError, match="not that of its name and payload"):
        parse_dstack_event_log(log({**RUNTIME, "digest": digest, **change}))


@pytest.mark.parametrize(
    "change",
    [
        {"imr": 4},
        {"imr": -1},
        {"imr": True},
        {"imr": "0"},
        {"event_type": 1 << 32},
        {"event_type": None},
        {"digest": ""},
        {"digest": "AB" * 48},
        {"digest": "ab" * 32},
        {"digest": 7},
        {"event": None},
        {"event_payload": "0"},
        {"event_payload": "zz"},
        {"event_payload": "AB"},
        {"event_payload": []},
    ],
    ids=str,
)
def test_bad_members_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match="event 1"):
        parse_dstack_event_log(log(BOOT, {**BOOT, **change}))


@pytest.mark.parametrize("missing", BOOT)
def test_missing_members_are_refused(missing: str) -> None:
    with pytest.raises(DocumentError, match=missing):
        parse_dstack_event_log(log({name: value for name, value in BOOT.items() if name != missing}))


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"[", b"[[]]", b"[1]", b'[{"imr":0,"imr":1}]', b"\xff"])
def test_what_is_no_array_of_events_is_refused(data: bytes) -> None:
    with pytest.raises(BuilderError):
        parse_dstack_event_log(data)


def test_an_event_name_is_harmless_to_show() -> None:
    (event,) = parse_dstack_event_log(log({**RUNTIME, "event": "\x1b[2Jgone"}))
    assert event.name == ""


@pytest.mark.parametrize("version", [1, 2])
def test_a_stated_version_decides_a_missing_digest(version: int) -> None:
    (event,) = parse_dstack_event_log(log({**RUNTIME, "version": version}))
    assert event.digest == runtime_event_digest("app-id", b"\1\2", version=version).hex()


def test_a_digest_of_another_version_than_stated_is_refused() -> None:
    first = runtime_event_digest("app-id", b"\1\2").hex()
    with pytest.raises(DocumentError, match="not that of its name and payload"):
        parse_dstack_event_log(log({**RUNTIME, "version": 2, "digest": first}))


@pytest.mark.parametrize("version", [0, 3, -1, True, "2", None], ids=repr)
def test_a_version_that_nobody_knows_is_refused(version: object) -> None:
    with pytest.raises(DocumentError, match="version"):
        parse_dstack_event_log(log({**RUNTIME, "version": version}))


def test_a_log_that_no_boot_makes_is_refused_unread() -> None:
    for hostile in (b"[" + b"{}," * (1 << 19) + b"{}]", b"[" * (1 << 21)):
        with pytest.raises(DocumentError, match="wanted at most 1048576"):
            parse_dstack_event_log(hostile)


@pytest.mark.parametrize("payload", ["abc", "AB", "zz", "a b "])
def test_a_payload_is_whole_bytes_in_lower_case_hex(payload: str) -> None:
    with pytest.raises(DocumentError, match="not lower-case hex"):
        parse_dstack_event_log(log({**BOOT, "event_payload": payload}))
