"""Parsers meet anything: they may refuse it with a BuilderError, and do nothing else."""

import contextlib
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import builder.measure
from builder.errors import BuilderError
from builder.measure.evidence.event_data import event_name
from builder.model.event import EVENT_TYPE_NAMES
from tests.fakes.large_examples import LARGE, NOT_REPEATING
from tests.fakes.parser_examples import FED_BY_ANOTHER, PARSERS, Parser

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


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, so that a hang or a bomb fails the test and not the machine."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=False)


def test_ten_megabytes_take_no_more_than_ten_seconds_and_64_more() -> None:
    """Of fills, and of what makes each parser go on."""
    result = run("-m", "tests.fakes.limited_parsers")
    assert (result.stdout, result.returncode) == ("", 0), result.stderr


@pytest.mark.parametrize("bomb", ["bytes(65 << 20)", "[data for data in [b'x'] * (9 << 20)]"])
def test_the_limit_of_that_is_real(bomb: str) -> None:
    code = f"from tests.fakes.limited_parsers import feed; print(feed(lambda _: {bomb}, b''), feed(len, b'x') == '')"
    assert run("-c", code).stdout.startswith("MemoryError at ")
    assert run("-c", code).stdout.endswith(" True\n")


def test_every_parser_is_fed_what_makes_it_go_on_or_cannot() -> None:
    assert set(LARGE) | NOT_REPEATING == set(PARSERS)
    assert not NOT_REPEATING & set(LARGE)


def test_every_public_parser_is_fed_hostile_bytes() -> None:
    parsers = {parser for parser, _, _ in PARSERS.values()}
    fed = {parser.__name__ for parser in parsers} | {name for name, by in FED_BY_ANOTHER.items() if by in parsers}
    public = {name for name in builder.measure.__all__ if name.startswith(("parse_", "read_"))}
    assert public - fed == {"parse_reference_values"}  # takes a document, not bytes
