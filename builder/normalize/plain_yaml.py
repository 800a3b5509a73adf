"""A small part of YAML, read without a library: what a compose file needs, and nothing that readers could differ on.

It runs inside a leg, whose Python has no YAML library. Block mappings, block sequences of scalars, flow sequences of
scalars in one line (`[a, "b"]`), comments; scalars on one line: plain, or quoted without escapes other than `''`, `\\"`
and `\\\\`. Whatever it accepts means the same in YAML 1.2 (`formats.md` 7.5 is the reader of recipes, which is wider).
Refused: anchors, aliases, tags, merge keys, block scalars, flow mappings, several documents, directives, tabs, control
characters, duplicate keys, and indented sequences that start in the column of their key.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

from builder.errors import DocumentError

MAX_BYTES = 1 << 16
MAX_DEPTH = 8

Node: TypeAlias = str | list["Node"] | dict[str, "Node"] | None

_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*):(?: +|$)")
_ITEM = re.compile(r"-(?: +|$)")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_SINGLE = re.compile(r"'((?:[^']|'')*)'")
_PLAIN = re.compile(r"[A-Za-z0-9_/.+~].*|-[^ ,\[\]{}].*")
_END = re.compile(r" *(?: #.*)?")


class Quoted(str):
    """Text that stood in quotes: never read as a number, boolean or null."""

    __slots__ = ()


@dataclass(frozen=True)
class _Line:
    number: int
    indent: int
    text: str


def parse_plain_yaml(data: bytes, *, what: str) -> Node:
    """The document called `what` in errors; scalars are `str` or `Quoted`, an empty value None.

    DocumentError with the line for whatever does not belong to the part of YAML above.
    """
    if len(data) > MAX_BYTES:
        raise DocumentError(f"{what}: {len(data)} bytes, wanted at most {MAX_BYTES}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{what}: not UTF-8 at byte {error.start}") from error
    return _Reader(_lines(text, what), what).document()


def _lines(text: str, what: str) -> list[_Line]:
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.isprintable():
            raise DocumentError(f"{what}: line {number}: a tab or another control character", hint="use spaces")
        content = line.strip(" ")
        if content and not content.startswith("#"):
            lines.append(_Line(number, len(line) - len(line.lstrip(" ")), content))
    return lines


class _Reader:
    """Walks the lines, one block at a time."""

    def __init__(self, lines: list[_Line], what: str) -> None:
        self._lines = lines
        self._what = what
        self._next = 0

    def document(self) -> Node:
        if not self._lines:
            raise DocumentError(f"{self._what}: empty document")
        value = self._block(self._lines[0].indent, 0)
        if (line := self._peek()) is not None:
            raise self._error(line, "indented less than what it follows")
        return value

    def _peek(self) -> _Line | None:
        return self._lines[self._next] if self._next < len(self._lines) else None

    def _error(self, line: _Line, text: str) -> DocumentError:
        return DocumentError(
            f"{self._what}: line {line.number}: {text}: {line.text[:60]!r}",
            hint="docs/recipes.md says what can be used",
        )

    def _block(self, indent: int, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._error(self._lines[self._next], f"nested deeper than {MAX_DEPTH} levels")
        if _ITEM.match(self._lines[self._next].text):
            return self._sequence(indent)
        return self._mapping(indent, depth)

    def _sequence(self, indent: int) -> list[Node]:
        items: list[Node] = []
        while (line := self._line_at(indent)) is not None:
            match = _ITEM.match(line.text)
            if match is None:
                raise self._error(line, "not an item of the sequence")
            items.append(self._scalar(line, line.text[match.end() :]))
        return items

    def _mapping(self, indent: int, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        while (line := self._line_at(indent)) is not None:
            match = _KEY.match(line.text)
            if match is None:
                raise self._error(line, "wanted `key: value`")
            if match[1] in members:
                raise self._error(line, f"key {match[1]!r} appears twice")
            members[match[1]] = self._value(line, line.text[match.end() :], depth)
        return members

    def _line_at(self, indent: int) -> _Line | None:
        """The next line of a block, None at its end."""
        line = self._peek()
        if line is None or line.indent < indent:
            return None
        if line.indent > indent:
            raise self._error(line, "indented more than what it follows")
        self._next += 1
        return line

    def _value(self, line: _Line, rest: str, depth: int) -> Node:
        if _END.fullmatch(f" {rest}"):
            below = self._peek()
            return self._block(below.indent, depth + 1) if below is not None and below.indent > line.indent else None
        if rest.startswith("["):
            return self._flow(line, rest[1:])
        return self._scalar(line, rest)

    def _scalar(self, line: _Line, text: str) -> str:
        value, rest = self._quoted(text)
        if value is None:
            value, rest = text.partition(" #")[0].strip(" "), ""
            if not _PLAIN.fullmatch(value) or ": " in value or value.endswith(":"):
                raise self._error(line, "quote this" if value else "an empty item")
        if not _END.fullmatch(rest):
            raise self._error(line, "something follows the quoted text")
        return value

    def _quoted(self, text: str) -> tuple[str | None, str]:
        """The text in the quotes that `text` starts with, if it does, and what follows them."""
        if match := _DOUBLE.match(text):
            return Quoted(re.sub(r"\\(.)", r"\1", match[1])), text[match.end() :]
        if match := _SINGLE.match(text):
            return Quoted(match[1].replace("''", "'")), text[match.end() :]
        return None, text

    def _flow(self, line: _Line, text: str) -> list[Node]:
        """`[a, "b"]` after its bracket."""
        items: list[Node] = []
        rest = text.lstrip(" ")
        while not rest.startswith("]"):
            value, rest = self._flow_item(line, rest)
            items.append(value)
            rest = rest.lstrip(" ")
            if rest.startswith(","):
                rest = rest[1:].lstrip(" ")
                if rest.startswith("]"):
                    raise self._error(line, "an empty item")
            elif not rest.startswith("]"):
                raise self._error(line, "wanted `,` or `]`")
        if not _END.fullmatch(rest[1:]):
            raise self._error(line, "something follows the sequence")
        return items

    def _flow_item(self, line: _Line, text: str) -> tuple[str, str]:
        value, rest = self._quoted(text)
        if value is not None:
            return value, rest
        match = re.match(r"[^,\[\]{}\"']+", text)
        plain = match[0].strip(" ") if match else ""
        if match is None or not _PLAIN.fullmatch(plain) or ":" in plain or "#" in plain:
            raise self._error(line, "quote this" if plain else "an empty item")
        return plain, text[match.end() :]
