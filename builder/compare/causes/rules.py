"""The order in which causes are looked for: the most telling evidence first, and `unknown` where there is none."""

from collections import Counter

from builder.compare.causes.chance import process_id_cause, random_cause
from builder.compare.causes.clock import mtime_cause, time_cause
from builder.compare.causes.evidence import Evidence
from builder.compare.causes.text import (
    known_value_cause,
    lines_cause,
    local_spelling_cause,
    mode_cause,
    order_cause,
    written_mode_cause,
)
from builder.compare.causes.window import windows_of
from builder.compare.diff import Run, differing_runs
from builder.compare.source import Extent, in_memory, printable
from builder.compare.tree import Field, Value
from builder.model.comparison import UNKNOWN_CAUSE, Cause, CauseName, Confidence, DifferenceKind

_MAX_TEXT = 1 << 20  # a longer text is not split into lines
# fields that a file system numbers, not the build (`determinism.md` ND-F07, ND-F08)
_FILE_SYSTEM_FIELDS = frozenset({"ino", "nlink", "devmajor", "devminor"})


def cause_of_run(a: Extent, b: Extent, run: Run, evidence: Evidence) -> Cause:
    """The likely cause of one run of differing bytes of two members."""
    windows = windows_of(a, b, run)
    return (
        _order_of_text(a, b, evidence)
        or known_value_cause(windows, evidence)
        or time_cause(windows, evidence)
        or local_spelling_cause(windows, evidence)
        or written_mode_cause(windows, evidence)
        or process_id_cause(windows)
        or random_cause(windows)
        or UNKNOWN_CAUSE
    )


def cause_of_field(field: Field, a: Value, b: Value, evidence: Evidence) -> Cause:
    """The likely cause of another value in a metadata field."""
    if field.kind is DifferenceKind.MTIME:
        return mtime_cause(_seconds(a), _seconds(b), evidence) or UNKNOWN_CAUSE
    if isinstance(a, bytes) and isinstance(b, bytes):
        return _cause_of_text(a, b, evidence)
    if not isinstance(a, int) or not isinstance(b, int):
        return UNKNOWN_CAUSE
    if field.kind is DifferenceKind.MODE:
        return mode_cause(a, b, evidence) or UNKNOWN_CAUSE
    if field.kind is DifferenceKind.OWNER:
        return _owner_cause(field, (a, b), evidence) or UNKNOWN_CAUSE
    if field.name in _FILE_SYSTEM_FIELDS:
        return Cause(
            CauseName.FILE_SYSTEM, Confidence.MEDIUM, f"{field.name} is a number of the file system packed from"
        )
    return UNKNOWN_CAUSE


def cause_of_order(a: tuple[bytes, ...], b: tuple[bytes, ...], evidence: Evidence) -> Cause:
    """The likely cause of two orders of members, given all of their names; names of one side only are left out."""
    common = Counter(a) & Counter(b)
    left, right = (tuple(name for name in names if name in common) for names in (a, b))
    return order_cause(left, right, evidence) or Cause(CauseName.ORDER, Confidence.HIGH, "members in another order")


def cause_of_name(name: bytes, others: frozenset[bytes], evidence: Evidence, *, in_a: bool) -> Cause:
    """The likely cause of a member that only one side has: a value of its leg in its name, and the name with the
    other leg's value among those that only the other side has."""
    for known in evidence.values:
        own, other = (known.a, known.b) if in_a else (known.b, known.a)
        if own and other and own in name and name.replace(own, other) in others:
            text = f"{known.what}: {printable(known.a)!r} in A's name, {printable(known.b)!r} in B's"
            return Cause(known.cause, Confidence.HIGH, text)
    return UNKNOWN_CAUSE


def _cause_of_text(a: bytes, b: bytes, evidence: Evidence) -> Cause:
    left, right = in_memory(a), in_memory(b)
    runs, _ = differing_runs(left, right)
    return cause_of_run(left, right, runs[0], evidence) if runs else UNKNOWN_CAUSE


def _owner_cause(field: Field, values: tuple[int, int], evidence: Evidence) -> Cause | None:
    for what in ("uid", "gid"):
        if field.name == what and values == (getattr(evidence.a, what), getattr(evidence.b, what)):
            return Cause(CauseName.USER, Confidence.HIGH, f"{what} {values[0]} of leg A, {values[1]} of leg B")
    return None


def _order_of_text(a: Extent, b: Extent, evidence: Evidence) -> Cause | None:
    if a.size != b.size or a.size > _MAX_TEXT:
        return None
    return lines_cause(a.read(0, a.size), b.read(0, b.size), evidence)


def _seconds(value: Value) -> int:
    """A time field in whole seconds; pax writes it as text with a fraction."""
    if isinstance(value, int):
        return value
    whole = value.split(b".")[0]
    return int(whole) if whole.isdigit() and len(whole) <= 20 else 0
