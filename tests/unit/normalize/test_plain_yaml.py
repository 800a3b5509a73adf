"""The part of YAML that compose files may use: one reading for everybody, or none."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.normalize.plain_yaml import MAX_BYTES, MAX_DEPTH, Quoted, parse_plain_yaml

DOCUMENT = b"""\
# a comment
name: guest
services:
  web:   # another
    command: [/usr/bin/serve, "a, b", 'it''s'] # and one here
    empty:
    quoted: "say \\"hi\\" \\\\ # no comment"
    list:
      - one
      - "two # 2"
      - -q
    none: []
url: http://localhost:8080/#top
"""


def parse(data: bytes) -> object:
    return parse_plain_yaml(data, what="compose file")


def test_mappings_sequences_and_text_are_read() -> None:
    assert parse(DOCUMENT) == {
        "name": "guest",
        "services": {
            "web": {
                "command": ["/usr/bin/serve", "a, b", "it's"],
                "empty": None,
                "quoted": 'say "hi" \\ # no comment',
                "list": ["one", "two # 2", "-q"],
                "none": [],
            }
        },
        "url": "http://localhost:8080/#top",
    }


def test_quoted_text_is_told_from_plain_text() -> None:
    assert parse(b'a: [true, "true"]') == {"a": ["true", "true"]}
    items = parse(b"- true\n- 'true'\n- \"true\"\n")
    assert isinstance(items, list)
    assert [isinstance(item, Quoted) for item in items] == [False, True, True]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty document"),
        (b"# only\n", "empty document"),
        (b"a: 1\na: 2\n", "line 2: key 'a' appears twice"),
        (b"a:\n  b: 1\n  b: 2\n", "line 3: key 'b' appears twice"),
        (b"a: &x 1\n", "line 1: quote this"),
        (b"a: *x\n", "line 1: quote this"),
        (b"a: !!str x\n", "line 1: quote this"),
        (b"a: |\n  text\n", "line 1: quote this"),
        (b"a: {b: c}\n", "line 1: quote this"),
        (b"<<: x\n", "line 1: wanted `key: value`"),
        (b"--- \na: 1\n", "line 1: wanted `key: value`"),
        (b"%YAML 1.2\n", "line 1: wanted `key: value`"),
        (b"a: b: c\n", "line 1: quote this"),
        (b"a: b:\n", "line 1: quote this"),
        (b"a: b\n  c\n", "line 2: indented more"),
        (b"  a: b\nc: d\n", "line 2: indented less"),
        (b"a:\n    b: 1\n  c: 2\n", "line 3: indented more"),
        (b"a:\n- b\n", "line 2: wanted `key: value`"),
        (b"- a\nb: c\n", "line 2: not an item"),
        (b"- - a\n", "line 1: quote this"),
        (b"- a: b\n", "line 1: quote this"),
        (b"-\n", "line 1: an empty item"),
        (b"a: [b\n", "line 1: wanted `,` or `]`"),
        (b"a: [b,]\n", "line 1: an empty item"),
        (b"a: [,b]\n", "line 1: an empty item"),
        (b"a: [[b]]\n", "line 1: an empty item"),
        (b"a: [b: c]\n", "line 1: quote this"),
        (b"a: [b] c\n", "line 1: something follows"),
        (b'a: "b" c\n', "line 1: something follows"),
        (b'a: "b"# c\n', "line 1: something follows"),
        (b'a: "\\x41"\n', "line 1: quote this"),
        (b'a: "open\n', "line 1: quote this"),
        (b"a:\tb\n", "line 1: a tab"),
        (b"a: b\r\n", "line 1: a tab or another control"),
        (b"a: \x00\n", "line 1: a tab or another control"),
        (b"a: \xc2\x85\n", "line 1: a tab or another control"),
        (b"a: \xff\n", "not UTF-8 at byte 3"),
        (b"\xef\xbb\xbfa: b\n", "line 1: a tab or another control"),
        (b"a" * (MAX_BYTES + 1), f"wanted at most {MAX_BYTES}"),
    ],
)
def test_what_two_readers_could_differ_on_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=message.replace("(", r"\(").replace("[", r"\[")) as error:
        parse(data)
    assert str(error.value).startswith("compose file: ")


def test_nesting_is_bounded() -> None:
    text = "".join(f"{' ' * level}a:\n" for level in range(MAX_DEPTH + 2))
    with pytest.raises(DocumentError, match=f"nested deeper than {MAX_DEPTH} levels"):
        parse(text.encode() + b" " * (MAX_DEPTH + 2) + b"b: c\n")


_LINES = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=3),
        st.text(alphabet="ab:- #[],'\"\\{}&*!|>%@`?~<=.1\n", max_size=12),
    ).map(lambda line: "  " * line[0] + line[1]),
    max_size=6,
).map("\n".join)


@given(_LINES)
def test_whatever_is_accepted_means_the_same_to_a_full_reader(text: str) -> None:
    try:
        ours = parse(text.encode())
    except DocumentError:
        return
    theirs = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - it makes text, lists and mappings, nothing else
    assert theirs == _without_none(ours)


def _without_none(node: object) -> object:
    """PyYAML's BaseLoader reads nothing as empty text."""
    if isinstance(node, dict):
        return {name: _without_none(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_without_none(item) for item in node]
    return "" if node is None else node


@given(st.binary(max_size=200))
def test_no_bytes_give_a_traceback(data: bytes) -> None:
    try:
        parse(data)
    except DocumentError as error:
        assert error.message.startswith("compose file: ")
