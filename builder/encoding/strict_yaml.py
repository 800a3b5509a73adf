"""Strict YAML: mappings, sequences and text, and nothing the reader did not mean (`formats.md` 7.5).

Every plain scalar stays the text it was written as, so `012`, `no`, `12:30:45` and `2024-01-01` cannot turn into
something else; the schema says where text must be an integer or a boolean (`schema.coerce`). Duplicate keys, anchors,
aliases, tags, merge keys, directives, several documents, non-text keys and lone surrogates are refused with line and
column.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import yaml

from builder.errors import DocumentError

MAX_BYTES = 1 << 17
MAX_DEPTH = 32

Node: TypeAlias = str | list["Node"] | dict[str, "Node"] | None


class Quoted(str):
    """Text that stood in quotes: never read as an integer, boolean or null."""

    __slots__ = ()


def parse_yaml(data: bytes, *, what: str) -> Node:
    """Parse one document called `what` in errors; scalars come back as `str` or `Quoted`, an empty one as None."""
    if len(data) > MAX_BYTES:
        raise DocumentError(f"{what}: {len(data)} bytes, more than the {MAX_BYTES} a recipe may have")
    if data.startswith(b"\xef\xbb\xbf"):
        raise DocumentError(f"{what}: starts with a byte order mark", hint="save it as UTF-8 without a BOM")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{what}: not UTF-8 at byte {error.start}") from error
    try:
        return _Reader(what, yaml.parse(text, Loader=yaml.SafeLoader)).document()
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an escape or a directive with an absurd number
        raise DocumentError(f"{what}: not valid YAML: {' '.join(str(error).split())}") from error


class _Reader:
    """Builds values from the event stream, so that nothing is resolved behind our back."""

    def __init__(self, what: str, events: Iterator[Any]) -> None:
        self._what = what
        self._events = events

    def document(self) -> Node:
        self._expect(yaml.StreamStartEvent)
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            raise DocumentError(f"{self._what}: empty document")
        if event.version or event.tags:
            raise self._error(event, "a directive is not allowed")
        value = self._node(next(self._events), 0)
        self._expect(yaml.DocumentEndEvent)
        if not isinstance(event := next(self._events), yaml.StreamEndEvent):
            raise self._error(event, "a second document")
        return value

    def _expect(self, kind: type) -> None:
        event = next(self._events)
        if not isinstance(event, kind):
            raise self._error(event, f"{type(event).__name__} is not allowed here")

    def _error(self, event: Any, text: str) -> DocumentError:
        mark = event.start_mark
        return DocumentError(f"{self._what}: line {mark.line + 1}, column {mark.column + 1}: {text}")

    def _node(self, event: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            raise self._error(event, f"alias *{event.anchor} is not allowed")
        if event.anchor is not None:
            raise self._error(event, f"anchor &{event.anchor} is not allowed")
        if event.tag is not None:
            raise self._error(event, f"tag {event.tag} is not allowed")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(depth)
        return self._mapping(depth)

    def _scalar(self, event: Any) -> Node:
        if any("\ud800" <= character <= "\udfff" for character in event.value):
            raise self._error(event, "lone surrogate in text")
        if event.style in ("'", '"', "|", ">"):
            return Quoted(event.value)
        return event.value if event.value else None

    def _sequence(self, depth: int) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            name = self._key(event, depth)
            if name in members:
                raise self._error(event, f"key {name!r} appears twice")
            members[name] = self._node(next(self._events), depth + 1)
        return members

    def _key(self, event: Any, depth: int) -> str:
        value = self._node(event, depth + 1)
        if not isinstance(value, str):
            raise self._error(event, "a key must be text")
        if value == "<<":
            raise self._error(event, "merge keys are not allowed")
        return str(value)
