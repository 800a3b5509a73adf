"""JSON documents: every scalar is a member, named by its path (`$.config.Env[2]`) and found at its own offset.

`json` of the standard library says whether the bytes are a document at all; the walk here only finds the places.
"""

import json
import re
from collections.abc import Iterator

from builder.compare.source import Extent
from builder.compare.tree import MAX_MEMBERS, Format, Member, Tree
from builder.errors import DocumentError

MAX_SIZE = 4 << 20
MAX_DEPTH = 64
_SPACE = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb'"(?:[^"\\]|\\.)*+"|[^\s,\]}]++', re.DOTALL)


def _matches(extent: Extent) -> bool:
    if extent.size > MAX_SIZE or extent.read(0, 64).lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(extent.read(0, extent.size).decode("utf-8"))  # from bytes, `json` would take UTF-16 too
    except (ValueError, RecursionError):
        return False
    return True


def _parse(extent: Extent) -> Tree:
    walk = _Walk(extent.read(0, extent.size))
    members = []
    for path, start, end in walk.value("$", 0):
        members.append(Member(path.encode("utf-8", "replace"), extent.part(start, end - start, what="JSON")))
        if len(members) > MAX_MEMBERS:
            raise DocumentError(f"JSON: more than {MAX_MEMBERS} values")
    return Tree(tuple(members), hidden="every value is the same: the documents differ in white space or empty members")


class _Walk:
    """A walk over a document that `json` accepts; `position` is the next byte to read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def value(self, path: str, depth: int) -> Iterator[tuple[str, int, int]]:
        """Path, start and end of every scalar of the value at the position."""
        if depth > MAX_DEPTH:
            raise DocumentError(f"JSON: nested deeper than {MAX_DEPTH} levels")
        opening = self._peek()
        if opening == b"{":
            yield from self._members(path, depth)
        elif opening == b"[":
            yield from self._items(path, depth)
        else:
            start, end = self._scalar()
            yield path, start, end

    def _members(self, path: str, depth: int) -> Iterator[tuple[str, int, int]]:
        while self._more(b"}"):
            start, end = self._scalar()
            name = json.loads(self._data[start:end])
            self._peek()
            self._position += 1  # the colon
            yield from self.value(f"{path}.{name}", depth + 1)

    def _items(self, path: str, depth: int) -> Iterator[tuple[str, int, int]]:
        index = 0
        while self._more(b"]"):
            yield from self.value(f"{path}[{index}]", depth + 1)
            index += 1

    def _more(self, closing: bytes) -> bool:
        """Step over the opening bracket or the comma; False, behind the closing bracket, if nothing follows."""
        if self._peek() != closing:
            self._position += 1
        if self._peek() != closing:
            return True
        self._position += 1
        return False

    def _peek(self) -> bytes:
        space = _SPACE.match(self._data, self._position)
        self._position = space.end() if space else self._position
        return self._data[self._position : self._position + 1]

    def _scalar(self) -> tuple[int, int]:
        match = _SCALAR.match(self._data, self._position)
        if match is None:
            raise DocumentError(f"JSON: no value at {self._position}")
        self._position = match.end()
        return match.span()


JSON = Format("JSON", _matches, _parse)
