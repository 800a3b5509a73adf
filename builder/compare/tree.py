"""What a format makes of bytes: named members in order, each with metadata and bytes; and how two trees are paired."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from builder.compare.source import Extent
from builder.model.comparison import DifferenceKind

MAX_MEMBERS = 100_000

Value = int | bytes


class Field(NamedTuple):
    """A metadata field: its name, the kind of its differences, and its offset in a member's header if it is there."""

    name: str
    kind: DifferenceKind
    offset: int | None = None
    octal: bool = False


class Member(NamedTuple):
    """One member: its name, its bytes, where its header begins in the container, and its metadata, a value a field."""

    name: bytes
    data: Extent
    header: int | None = None
    fields: tuple[Field, ...] = ()
    values: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Tree:
    """A container's members in their order.

    `tail` is what follows the last member. `derived` names members that are computed from the others. `tokens` are
    values, such as digests of members, that differ only because a member does. `note` says what could not be read.
    `hidden` explains a difference of the container when no member differs.
    """

    members: tuple[Member, ...]
    tail: Extent | None = None
    derived: frozenset[bytes] = frozenset()
    tokens: frozenset[bytes] = frozenset()
    note: str = ""
    hidden: str = "no member differs: the difference is in padding or in fields of the container itself"


@dataclass(frozen=True)
class Format:
    """A kind of container: how it is recognised and read. `parse` raises DocumentError for malformed bytes."""

    name: str
    matches: Callable[[Extent], bool]
    parse: Callable[[Extent], Tree]


class Pair(NamedTuple):
    """A member that both sides have."""

    a: Member
    b: Member


@dataclass(frozen=True)
class Pairing:
    """Two trees side by side: members of one side only, those of both in the order of side a, and a change of order."""

    only_a: tuple[Member, ...]
    only_b: tuple[Member, ...]
    both: tuple[Pair, ...]
    first_reordered: Pair | None


def pair_members(a: Tree, b: Tree) -> Pairing:
    """Pair members by name; where a name occurs several times, the first with the first and so on.

    `first_reordered` holds the members that stand at the first place where the common members are in another order.
    """
    left, right = _by_occurrence(a), _by_occurrence(b)
    both = tuple(Pair(member, right[key]) for key, member in left.items() if key in right)
    in_order_of_b = (member for key, member in right.items() if key in left)
    reordered = (Pair(pair.a, member) for pair, member in zip(both, in_order_of_b, strict=True) if pair.b is not member)
    return Pairing(
        only_a=tuple(member for key, member in left.items() if key not in right),
        only_b=tuple(member for key, member in right.items() if key not in left),
        both=both,
        first_reordered=next(reordered, None),
    )


def differing_fields(pair: Pair) -> Iterator[tuple[Field, Value, Value]]:
    """Every metadata field in which a pair differs, with both values."""
    if pair.a.fields == pair.b.fields:
        for field, left, right in zip(pair.a.fields, pair.a.values, pair.b.values, strict=True):
            if left != right:
                yield field, left, right


def _by_occurrence(tree: Tree) -> dict[tuple[bytes, int], Member]:
    seen: Counter[bytes] = Counter()
    members: dict[tuple[bytes, int], Member] = {}
    for member in tree.members:
        members[member.name, seen[member.name]] = member
        seen[member.name] += 1
    return members
