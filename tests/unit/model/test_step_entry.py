"""Entries of the step cache: what was written, or refused."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.model.build_info import Probe
from builder.model.step_entry import encode_step_entry, parse_step_entry
from builder.model.task import Content, StepResult

DIGEST = "a" * 64
PROBE = Probe({"umask": "0022"}, {"machine": "x86_64"})
RESULT = StepResult(
    "kernel",
    {"vmlinuz": Content("1" * 64, 5)},
    "2" * 64,
    (PROBE, PROBE),
    {"kernel": "why"},
    "fake",
    "1",
    1,
    2,
    "worker",
)
ENTRY = encode_step_entry(DIGEST, RESULT)


def test_an_entry_gives_the_result_back_and_says_that_it_is_cached() -> None:
    assert parse_step_entry(ENTRY, task_sha256=DIGEST) == replace(RESULT, cached=True)


def test_the_entry_of_another_task_is_refused() -> None:
    with pytest.raises(DocumentError, match="it is the entry of aaaa"):
        parse_step_entry(ENTRY, task_sha256="b" * 64)


@given(st.integers(0, len(ENTRY) - 2))
def test_a_truncated_entry_is_refused(length: int) -> None:
    with pytest.raises(DocumentError):
        parse_step_entry(ENTRY[:length], task_sha256=DIGEST)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("outputs", {"vmlinuz": {"sha256": "../../etc/passwd", "size": 1}}),
        ("outputs", {"vmlinuz": {"sha256": "1" * 64, "size": -1}}),
        ("outputs", {"vmlinuz": {"sha256": "1" * 64, "size": 1, "path": "/etc/passwd"}}),
        ("outputs", []),
        ("log", "1" * 63),
        ("probes", []),
        ("probes", [{"axes": {}, "facts": {}}]),
        ("started", "1"),
        ("cached", False),
        ("schema", "tdx-builder/step/v2"),
    ],
)
def test_an_entry_out_of_form_is_refused(name: str, value: object) -> None:
    document = {**json.loads(ENTRY), name: value}
    with pytest.raises(DocumentError):
        parse_step_entry(json.dumps(document).encode(), task_sha256=DIGEST)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b'{"schema": 1}', b"[" * 10_000])
def test_what_is_no_entry_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_step_entry(data, task_sha256=DIGEST)
