"""Parsers meet anything: they may refuse it with a BuilderError, and do nothing else."""

import contextlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import builder.measure
from builder.errors import BuilderError
from builder.measure import parse_ccel
from builder.measure.evidence.event_data import event_name
from builder.model.event import EVENT_TYPE_NAMES
from tests.fakes.boot_files import log_header, log_record
from tests.fakes.parser_examples import PARSERS, Parser

EVERY = pytest.mark.parametrize(("parser", "valid", "offsets"), PARSERS.values(), ids=PARSERS)
VALUES = st.one_of(st.sampled_from([b"\0", b"\xff", b"\xff" * 4, bytes(8), b"\x7f" * 8]), st.binary(max_size=8))


def feed(parser: Parser, data: bytes) -> None:
    with contextlib.suppress(BuilderError):
        parser(data)


@EVERY
def test_the_examples_are_valid(parser: Parser, valid: bytes, offsets: range) -> None:
    parser(valid)
    assert offsets.start < len(valid)


@EVERY
@given(data=st.binary(max_size=600))
@settings(max_examples=40)
def test_arbitrary_bytes(parser: Parser, valid: bytes, offsets: range, data: bytes) -> None:
    feed(parser, data)


@EVERY
@given(size=st.floats(min_value=0, max_value=1))
@settings(max_examples=40)
def test_truncated_examples(parser: Parser, valid: bytes, offsets: range, size: float) -> None:
    feed(parser, valid[: int(size * len(valid))])
    feed(parser, valid[: int(size * (offsets.stop + 1))])


@EVERY
@given(st.data())
@settings(max_examples=60)
def test_changed_examples(parser: Parser, valid: bytes, offsets: range, data: st.DataObject) -> None:
    changed = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 3))):
        offset = data.draw(st.integers(offsets.start, min(offsets.stop, len(valid)) - 1))
        value = data.draw(VALUES)
        changed[offset : offset + len(value)] = value
    feed(parser, bytes(changed))


@given(st.sampled_from([*EVENT_TYPE_NAMES, 0, 0xFFFFFFFF]), st.binary(max_size=200))
def test_an_event_of_any_data_has_a_name_that_can_be_shown(event_type: int, data: bytes) -> None:
    name = event_name(event_type, data)
    assert name.isascii()
    assert name == "" or name.isprintable()


@EVERY
@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"[", b"\x01\0\0\0"], ids=bytes.hex)
def test_ten_megabytes_take_less_than_64_more(parser: Parser, valid: bytes, offsets: range, fill: bytes) -> None:
    """Behind a valid beginning and before a valid end, since parsers look at both."""
    filling = fill * ((10 << 20) // len(fill))
    examples = [valid + filling, filling + valid]
    tracemalloc.start()
    try:
        for example in examples:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            feed(parser, example)
            assert tracemalloc.get_traced_memory()[1] - before < 64 << 20
    finally:
        tracemalloc.stop()


def test_a_megabyte_of_nothing_but_events_stays_small() -> None:
    record = log_record(1, 4, [(0xC, bytes(48))], b"")
    log = log_header([(0xC, 48)]) + record * ((1 << 20) // len(record))
    tracemalloc.start()
    try:
        assert len(parse_ccel(log)) > 10_000
        assert tracemalloc.get_traced_memory()[1] < 6 << 20  # so 10 MB take less than 64
    finally:
        tracemalloc.stop()


def test_every_public_parser_is_fed_hostile_bytes() -> None:
    fed = {parser.__name__ for parser, _, _ in PARSERS.values()}
    public = {name for name in builder.measure.__all__ if name.startswith("parse_")}
    assert public - fed == {"parse_reference_values"}  # takes a document, not bytes
