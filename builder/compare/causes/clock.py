"""Times in the bytes: binary numbers and text that show when a leg ran (`determinism.md` 5.1), and time zones (5.2)."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from builder.compare.causes.evidence import Evidence, LegEvidence
from builder.compare.causes.window import Window, Windows
from builder.model.comparison import Cause, CauseName, Confidence

_DAY = 86400
_EARLIEST = 315532800  # 1980: smaller numbers are not taken for times
_LATEST = 4294967295
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BINARY: tuple[tuple[str, int, Literal["little", "big"]], ...] = (
    ("64-bit little-endian", 8, "little"),
    ("64-bit big-endian", 8, "big"),
    ("32-bit little-endian", 4, "little"),
    ("32-bit big-endian", 4, "big"),
)


class _Time(NamedTuple):
    """A time found in a window: its form, the second it means (UTC), and how many seconds it leaves open."""

    form: str
    seconds: int
    span: int


def _number(match: re.Match[bytes]) -> _Time | None:
    return _Time("decimal", int(match[1]), 1)


def _hexadecimal(match: re.Match[bytes]) -> _Time | None:
    return _Time("hexadecimal", int(match[0], 16), 1)


def _days(match: re.Match[bytes]) -> _Time | None:
    return _Time("days since 1970", int(match[0]) * _DAY, _DAY)


def _iso(match: re.Match[bytes]) -> _Time | None:
    return _calendar(match[1], match[2], match[3], match.groups()[3:])


def _c_date(match: re.Match[bytes]) -> _Time | None:
    month = str(_MONTHS.index(match["month"].decode()) + 1).encode()
    clock = (match["hour"], match["minute"], match["second"])
    return _calendar(match["year1"] or match["year2"], month, match["day"], clock)


# text form -> how it reads. Word boundaries keep a number from being cut out of a longer one.
_TEXT: tuple[tuple[re.Pattern[bytes], Callable[[re.Match[bytes]], _Time | None]], ...] = (
    (re.compile(rb"(\d{4})-(\d\d)-(\d\d)(?:[T ._](\d\d)(?::?(\d\d)(?::?(\d\d))?)?)?"), _iso),
    (
        re.compile(
            rb"(?P<month>%b) +(?P<day>\d{1,2}) (?:(?P<year1>\d{4})[ \0]*)?"
            rb"(?:(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d))?(?: [A-Z]+)?(?: (?P<year2>\d{4}))?"
            % "|".join(_MONTHS).encode()
        ),
        _c_date,
    ),
    (re.compile(rb"(?<![0-9A-Za-z])(\d{9,10})(?:\d{3}|\d{6}|\d{9})?(?![0-9A-Za-z])"), _number),
    (re.compile(rb"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?![0-9A-Za-z])"), _hexadecimal),
    (re.compile(rb"(?<![0-9A-Za-z])\d{5}(?![0-9A-Za-z])"), _days),
)


def time_cause(windows: Windows, evidence: Evidence) -> Cause | None:
    """`clock` if each side shows a time at which its leg ran, `timezone` if one moment is written in two zones.

    Sides of unknown origin: only dates as text count, since any four bytes could be a number of seconds.
    """
    left, right = _times(windows.a), _times(windows.b)
    both = ((left[key], right[key]) for key in left if key in right and left[key].seconds != right[key].seconds)
    causes = (_judged(a, b, evidence) for a, b in both)
    return next((cause for cause in causes if cause), None)


def mtime_cause(a: int, b: int, evidence: Evidence) -> Cause | None:
    """The cause of two times in a field that is known to hold a time, in seconds since 1970."""
    known = _judged(_Time("time", a, 1), _Time("time", b, 1), evidence)
    if known or not (_EARLIEST <= a <= _LATEST and _EARLIEST <= b <= _LATEST):
        return known
    return Cause(CauseName.CLOCK, Confidence.MEDIUM, f"the field is a time: {_text(a)} in A, {_text(b)} in B")


def _judged(a: _Time, b: _Time, evidence: Evidence) -> Cause | None:
    shown = f"{a.form}: {_text(a.seconds)} in A, {_text(b.seconds)} in B"
    if _ran_at(a, evidence.a) and _ran_at(b, evidence.b):
        return Cause(CauseName.CLOCK, Confidence.HIGH, f"{shown}; each leg ran at its time")
    zones = (evidence.a.zone, evidence.b.zone)
    if zones[0] is not None and zones[1] is not None and zones[0] != zones[1]:
        apart = zones[1] - zones[0]
        if max(a.span, b.span) < _DAY and b.seconds - a.seconds == apart:
            return Cause(CauseName.TIMEZONE, Confidence.HIGH, f"{shown}: {apart / 3600:+g} h, as the legs' time zones")
    if a.form == "date" and not evidence.a.clock and not evidence.b.clock:
        return Cause(CauseName.CLOCK, Confidence.MEDIUM, shown)
    return None


def _ran_at(time: _Time, leg: LegEvidence) -> bool:
    """Whether the leg's clock passed through the time; as text it may be in the leg's zone."""
    shifts = {0, leg.zone or 0} if time.form == "date" else {0}
    return any(
        start <= time.seconds - shift + time.span - 1 and time.seconds - shift <= end
        for start, end in leg.clock
        for shift in shifts
    )


def _times(window: Window) -> dict[tuple[str, int], _Time]:
    """Every time that touches the region: text by its form and ordinal, numbers by their form and place, so that the
    two sides pair up."""
    found: dict[tuple[str, int], _Time] = {}
    for pattern, read in _TEXT:
        matches = (match for match in pattern.finditer(window.data) if window.touches(*match.span()))
        times = (time for match in matches if (time := read(match)))
        found.update({(f"{time.form} {pattern.pattern!r}", ordinal): time for ordinal, time in enumerate(times)})
    found.update({(time.form, at): time for at, time in _binary_times(window)})
    return found


def _binary_times(window: Window) -> Iterator[tuple[int, _Time]]:
    for form, size, order in _BINARY:
        for at in range(max(0, window.start - size + 1), min(window.end, len(window.data) - size + 1)):
            value = int.from_bytes(window.data[at : at + size], order)
            if _EARLIEST <= value <= _LATEST:
                yield at, _Time(form, value, 1)


def _calendar(year: bytes | None, month: bytes, day: bytes, clock: tuple[bytes | None, ...]) -> _Time | None:
    if year is None:
        return None
    hour, minute, second = (int(part or 0) for part in clock)
    try:
        moment = datetime(int(year), int(month), int(day), hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    span = 1 if clock[2] else 60 if clock[1] else 3600 if clock[0] else _DAY
    return _Time("date", int(moment.timestamp()), span)


def _text(seconds: int) -> str:
    if not 0 <= seconds <= _LATEST:
        return str(seconds)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
