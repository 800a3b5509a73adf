"""The search for differences: into nested containers, member by member, down to runs of bytes.

It falls back to plain bytes wherever a container is malformed or none of its members differs, so that unequal bytes
never come out without a finding.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from builder.compare.diff import MAX_RUNS, Run, differing_runs, first_difference
from builder.compare.source import Extent, printable
from builder.compare.tree import Field, Format, Member, Pair, Tree, Value, differing_fields, pair_members
from builder.errors import DocumentError

MAX_FINDINGS = 50
MAX_DEPTH = 8
MAX_NOTES = 20
_TRAILING = b"(after the end)"


@dataclass(frozen=True)
class Place:
    """Where the search is: the path so far, and what is known about differences there.

    `tokens` are values of each side that differ only because a member does; `derived` says that the bytes are computed
    from others that differ; `trailing` that they follow the last member; `hidden` explains bytes that no member shows.
    """

    path: tuple[str, ...]
    tokens: tuple[frozenset[bytes], frozenset[bytes]] = (frozenset(), frozenset())
    derived: bool = False
    trailing: bool = False
    hidden: str = ""

    def member(self, name: bytes, *, trailing: bool = False) -> "Place":
        """The place of a member of the container here."""
        return replace(self, path=(*self.path, printable(name)), trailing=trailing, hidden="")


@dataclass(frozen=True)
class RunFinding:
    """A run of differing bytes of two members `a` and `b`."""

    place: Place
    a: Extent
    b: Extent
    run: Run


@dataclass(frozen=True)
class FieldFinding:
    """A metadata field of a member with two values; `containers` are where the members lie."""

    place: Place
    containers: tuple[Extent, Extent]
    pair: Pair
    field: Field
    a: Value
    b: Value


@dataclass(frozen=True)
class OneSidedFinding:
    """A member that only one side has; `others` are the names that only the other side has."""

    place: Place
    container: Extent
    member: Member
    in_a: bool
    others: frozenset[bytes]


@dataclass(frozen=True)
class OrderFinding:
    """The members of a container stand in another order; `first` are those at the first place where it shows."""

    place: Place
    containers: tuple[Extent, Extent]
    first: Pair
    names: tuple[tuple[bytes, ...], tuple[bytes, ...]]


Finding = RunFinding | FieldFinding | OneSidedFinding | OrderFinding


@dataclass(frozen=True)
class _Container:
    """Two extents read as trees of one format."""

    extents: tuple[Extent, Extent]
    trees: tuple[Tree, Tree]


class Search:
    """One search: `notes` say what could not be looked into, `unlisted` counts what is known to be there besides."""

    def __init__(self, formats: tuple[Format, ...]) -> None:
        self._formats = formats
        self._found = 0
        self.notes: list[str] = []
        self.unlisted = 0

    def differences(self, a: Extent, b: Extent, place: Place) -> Iterator[Finding]:
        """Every difference of two extents; from MAX_FINDINGS on without looking into members."""
        first = first_difference(a, b)
        if first is None:
            return
        if self._found >= MAX_FINDINGS:
            yield self._one(RunFinding(place, a, b, Run(first, a.size - first, b.size - first)))
            return
        before = self._found
        container = self._container(a, b, place)
        if container is not None:
            yield from self._in_container(container, place)
            place = replace(place, hidden=container.trees[0].hidden)
        if self._found == before:
            yield from self._in_bytes(a, b, place)

    def _one(self, finding: Finding) -> Finding:
        self._found += 1
        return finding

    def _container(self, a: Extent, b: Extent, place: Place) -> _Container | None:
        """Both sides as trees of one format, or None if they are not, or are not well formed."""
        known = next((each for each in self._formats if each.matches(a) and each.matches(b)), None)
        if known is None or place.derived:
            return None
        if len(place.path) > MAX_DEPTH:
            self._note(place, f"{known.name} nested deeper than {MAX_DEPTH} levels")
            return None
        try:
            trees = known.parse(a), known.parse(b)
        except DocumentError as error:
            self._note(place, error.message)
            return None
        for note in dict.fromkeys(tree.note for tree in trees if tree.note):
            self._note(place, note)
        same_depth = bool(trees[0].note) == bool(trees[1].note)
        return _Container((a, b), trees) if same_depth else None

    def _note(self, place: Place, text: str) -> None:
        if len(self.notes) < MAX_NOTES:
            self.notes.append(f"{' > '.join(place.path)}: not looked into: {text}")

    def _in_bytes(self, a: Extent, b: Extent, place: Place) -> Iterator[Finding]:
        runs, more = differing_runs(a, b)
        for run in runs[:1] if place.derived else runs[:MAX_RUNS]:
            yield self._one(RunFinding(place, a, b, run))
        self.unlisted += more

    def _in_container(self, container: _Container, place: Place) -> Iterator[Finding]:
        a, b = container.trees
        pairing = pair_members(a, b)
        before = self._found
        if a.tokens or b.tokens:
            place = replace(place, tokens=(a.tokens, b.tokens))
        yield from self._one_sided(container, pairing.only_a, pairing.only_b, place)
        for pair in pairing.both:
            if pair.a.name not in a.derived:
                yield from self._in_pair(container, pair, place)
        if pairing.first_reordered is not None:
            names = tuple(member.name for member in a.members), tuple(member.name for member in b.members)
            yield self._one(OrderFinding(place, container.extents, pairing.first_reordered, names))
        if a.tail is not None and b.tail is not None:
            yield from self.differences(a.tail, b.tail, place.member(_TRAILING, trailing=True))
        derived = replace(place, derived=self._found > before)
        for pair in pairing.both:
            if pair.a.name in a.derived:
                yield from self._in_pair(container, pair, derived)

    def _in_pair(self, container: _Container, pair: Pair, place: Place) -> Iterator[Finding]:
        inner = place.member(pair.a.name)
        for field, left, right in differing_fields(pair):
            yield self._one(FieldFinding(inner, container.extents, pair, field, left, right))
        yield from self.differences(pair.a.data, pair.b.data, inner)

    def _one_sided(
        self, container: _Container, only_a: tuple[Member, ...], only_b: tuple[Member, ...], place: Place
    ) -> Iterator[Finding]:
        for side, (members, others) in enumerate(((only_a, only_b), (only_b, only_a))):
            names = frozenset(member.name for member in others)
            for member in members:
                inner = place.member(member.name)
                yield self._one(OneSidedFinding(inner, container.extents[side], member, side == 0, names))
