"""Strict YAML: text stays the text that was written, and whatever could mean something else is refused."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builder.encoding.strict_yaml import MAX_BYTES, MAX_DEPTH, Node, Quoted, parse_yaml
from builder.errors import DocumentError


def parse(text: str) -> Node:
    return parse_yaml(text.encode(), what="recipe.yaml")


@pytest.mark.parametrize(
    "text",
    ["no", "yes", "on", "true", "True", "null", "~", "012", "0o14", "0x1F", "1_000", "1e3", "1.10", ".inf", ".nan",
     "12:30:45", "2024-01-01", "2024-01-01 12:00:00", "=", "1.0.0", "-0", "+1"],
)  # fmt: skip
def test_plain_text_stays_the_text_it_was_written_as(text: str) -> None:
    assert parse(f"a: {text}\nb: [{text}]\n") == {"a": text, "b": [text]}


def test_key_stays_the_text_it_was_written_as() -> None:
    assert parse("no: 1\n012: 2\n2024-01-01: 3\nnull: 4\n") == {"no": "1", "012": "2", "2024-01-01": "3", "null": "4"}


def test_quoted_text_is_marked_as_such() -> None:
    document = parse("a: '1'\nb: \"true\"\nc: |\n  1\nd: plain\n")

    assert isinstance(document, dict)
    assert document == {"a": "1", "b": "true", "c": "1\n", "d": "plain"}
    assert [isinstance(document[name], Quoted) for name in "abcd"] == [True, True, True, False]


def test_empty_value_is_none_and_empty_text_is_not() -> None:
    assert parse("a:\nb: ''\nc: []\nd: {}\n") == {"a": None, "b": "", "c": [], "d": {}}


REFUSED = {
    "duplicate key": ("a: 1\nb: 2\na: 3\n", "line 3, column 1: key 'a' appears twice"),
    "duplicate key in another spelling": ("a: 1\n'a': 2\n", "line 2, column 1: key 'a' appears twice"),
    "duplicate key inside": ("x: {a: 1, a: 2}\n", "line 1, column 11: key 'a' appears twice"),
    "anchor": ("a: &x 1\n", "line 1, column 4: anchor &x is not allowed"),
    "anchor on a mapping": ("a: &x {b: 1}\n", "anchor &x is not allowed"),
    "anchor on a key": ("&x a: 1\n", "anchor &x is not allowed"),
    "alias": ("a: *x\n", "line 1, column 4: alias \\*x is not allowed"),
    "tag": ("a: !!int 3\n", "line 1, column 4: tag tag:yaml.org,2002:int is not allowed"),
    "tag that runs code": ("!!python/object/apply:os.system [id]\n", "tag .*python.* is not allowed"),
    "tag of nothing": ("a: ! 3\n", "tag ! is not allowed"),
    "tag of one's own": ("a: !mine 3\n", "tag !mine is not allowed"),
    "merge key": ("<<: {a: 1}\n", "line 1, column 1: merge keys are not allowed"),
    "second document": ("a: 1\n---\na: 2\n", "line 2, column 1: a second document"),
    "key that is a list": ("? [a]\n: 1\n", "a key must be text"),
    "key that is a mapping": ("? {a: 1}\n: 1\n", "a key must be text"),
    "key that is nothing": ("? \n: 1\n", "a key must be text"),
    "version directive": ("%YAML 1.1\n---\na: 1\n", "a directive is not allowed"),
    "tag directive": ("%TAG ! tag:example.org,2000:\n---\na: 1\n", "a directive is not allowed"),
    "absurd directive": (f"%YAML {'9' * 5000}.1\n---\na: 1\n", "not valid YAML"),
    "escape beyond Unicode": ('a: "\\U00110000"\n', "not valid YAML"),
    "lone surrogate": ('a: "\\ud800"\n', "line 1, column 4: lone surrogate"),
    "lone surrogate in a key": ('"\\udfff": 1\n', "lone surrogate"),
    "tab for indentation": ("a:\n\tb: 1\n", "not valid YAML"),
    "unclosed bracket": ("a: [1, 2\n", "not valid YAML"),
    "control character": ("a: \x01\n", "not valid YAML"),
    "nothing": ("", "empty document"),
    "only a comment": ("# nothing\n", "empty document"),
    "end of a document in the middle": ("a: 1\n...\nb: 2\n", "not valid YAML"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_could_mean_something_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message) as caught:
        parse(text)

    assert caught.value.message.startswith("recipe.yaml: ")


@pytest.mark.parametrize("data", [b"\xff\xfea\x00:\x00", b"a: \xff", b"a: \xc0\x80", b"\xed\xa0\x80: 1"])
def test_bytes_that_are_not_utf8_are_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"recipe\.yaml: not UTF-8 at byte"):
        parse_yaml(data, what="recipe.yaml")


def test_byte_order_mark_is_refused() -> None:
    with pytest.raises(DocumentError, match="byte order mark"):
        parse_yaml(b"\xef\xbb\xbfa: 1\n", what="recipe.yaml")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_nesting_has_a_limit(opening: str) -> None:
    with pytest.raises(DocumentError, match=f"nested deeper than {MAX_DEPTH} levels"):
        parse(opening * 5000)


def test_document_has_a_largest_size() -> None:
    assert parse("a: " + "x" * (MAX_BYTES - 3)) == {"a": "x" * (MAX_BYTES - 3)}
    with pytest.raises(DocumentError, match=f"more than the {MAX_BYTES}"):
        parse("a: " + "x" * (MAX_BYTES - 2))


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_parser(data: bytes) -> None:
    try:
        parse_yaml(data, what="recipe.yaml")
    except DocumentError as error:
        assert error.message.startswith("recipe.yaml: ")


@given(st.text(alphabet="ab:-[]{}&*!|>'\"%@`#, \n\t?<=~0", max_size=60))
def test_no_yaml_like_text_crashes_the_parser(text: str) -> None:
    try:
        parse(text)
    except DocumentError as error:
        assert error.message.startswith("recipe.yaml: ")


NODES = st.recursive(
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(NODES)
def test_text_written_by_another_program_is_read_as_it_was(value: object) -> None:
    """PyYAML writes every text in quotes here; strictness must not change what is inside."""
    text = yaml.safe_dump(value, default_style='"', allow_unicode=True)
    text = re.sub(r"!!\w+ ", "", text)

    assert parse(text) == value
