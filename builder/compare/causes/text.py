"""Causes that show in text: known values of the legs, order of lines, local spelling, modes."""

import re
from collections import Counter
from itertools import pairwise

from builder.compare.causes.evidence import Evidence, KnownValue
from builder.compare.causes.window import Window, Windows
from builder.compare.source import printable
from builder.model.comparison import Cause, CauseName, Confidence

_SHORT = 4  # a shorter value must stand alone in text, and is weak evidence even so
_WORD = re.compile(rb"[0-9A-Za-z_]")
_BEFORE = b" \t\n=:,('\""
_AFTER = b" \t\n;,)'\""
_GROUPED = re.compile(rb"\d[\d.,']*\d")
_OCTAL_MODE = re.compile(rb"(?<![0-9A-Za-z])0?[0-7]{3}(?![0-9A-Za-z])")
_LISTED_MODE = re.compile(rb"[-dlcbps][-rwxsStT]{9}")
_WORDS = re.compile(rb"[A-Za-z\x80-\xff]{2,}")
_ENGLISH_DATES = frozenset(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec Mon Tue Wed Thu Fri Sat Sun AM PM".split())


def known_value_cause(windows: Windows, evidence: Evidence) -> Cause | None:
    """A property in which the legs differ, if its value in leg A is on side A and its value in leg B on side B."""
    for value in evidence.values:
        if _shows(windows, value):
            weak = len(value.a) < _SHORT or len(value.b) < _SHORT
            text = f"{value.what}: {printable(value.a)!r} in A, {printable(value.b)!r} in B"
            return Cause(value.cause, Confidence.LOW if weak and value.a else Confidence.HIGH, text)
    return None


def _shows(windows: Windows, value: KnownValue) -> bool:
    if not value.a:  # only leg B has it: its name or value must not be there on side A at all
        named = f"{value.what}=".encode() + value.b
        return _holds(windows.b, named) or (len(value.b) > _SHORT and _holds(windows.b, value.b))
    return _holds(windows.a, value.a) and _holds(windows.b, value.b)


def _holds(window: Window, value: bytes) -> bool:
    """Whether the value, as it is or in UTF-16, touches the differing bytes, and is not a piece of something else."""
    wide = value.decode("utf-8", "replace").encode("utf-16-le")
    places = (*window.occurrences(value), *window.occurrences(wide))
    return any(_stands_alone(value, window.data[:start][-1:], window.data[end:][:1]) for start, end in places)


def _stands_alone(value: bytes, before: bytes, after: bytes) -> bool:
    """A long text anywhere; a number not within a longer one; a short value only between spaces, quotes and the like:
    `1` is not the number of CPUs in `2.1`."""
    if len(value) < _SHORT:
        return before in _BEFORE and after in _AFTER
    return not (value.isdigit() and _WORD.search(before + after))


def order_cause(a: tuple[bytes, ...], b: tuple[bytes, ...], evidence: Evidence) -> Cause | None:
    """The same items in another order: `locale` if each side is sorted by its leg's rules, `order` otherwise."""
    if len(a) < 2 or a == b or Counter(a) != Counter(b):
        return None
    locales = _locales(evidence)
    for one, other in ((a, b), (b, a)):
        if locales and _is_sorted(one) and _is_sorted(tuple(map(_collation, other))):
            return Cause(CauseName.LOCALE, Confidence.MEDIUM, f"sorted by bytes and by language: locales {locales}")
    return Cause(CauseName.ORDER, Confidence.HIGH, f"the same {len(a)} items in another order")


def lines_cause(a: bytes, b: bytes, evidence: Evidence) -> Cause | None:
    """`order_cause` of the lines, or else the words, of a whole text."""
    if len(a) != len(b) or sum(a) != sum(b):  # cheap, and enough for nearly all that is not the same in another order
        return None
    for separator in (b"\n", b"\0", None):
        left, right = (tuple(filter(None, side.split(separator))) for side in (a, b))
        if cause := order_cause(left, right, evidence):
            return cause
    return None


def local_spelling_cause(windows: Windows, evidence: Evidence) -> Cause | None:
    """The same number with other separators, or the same moment with other names: the locale, if the legs' differ."""
    locales = _locales(evidence)
    if not locales:
        return None
    for left, right in _pairs(windows, _GROUPED):
        if left != right and _digits(left) == _digits(right):
            return Cause(CauseName.LOCALE, Confidence.HIGH, f"{left!r} in A, {right!r} in B: locales {locales}")
    return _date_words_cause(windows, locales)


def _date_words_cause(windows: Windows, locales: str) -> Cause | None:
    """One side names days or months in English and nothing else, the other side in another language."""
    left, right = (frozenset(_WORDS.findall(window.region)) for window in (windows.a, windows.b))
    english = [words for words in (left, right) if words and words <= _ENGLISH_DATES]
    if windows.cut or len(english) != 1 or not (left and right):
        return None
    shown = f"{printable(windows.a.region[:40])!r} in A, {printable(windows.b.region[:40])!r} in B"
    return Cause(CauseName.LOCALE, Confidence.MEDIUM, f"a date in another language: {shown}; locales {locales}")


def written_mode_cause(windows: Windows, evidence: Evidence) -> Cause | None:
    """A file mode as text (`644`, `-rw-r--r--`) of which the umasks took away what is missing."""
    for pattern, read in ((_OCTAL_MODE, lambda text: int(text, 8)), (_LISTED_MODE, _listed)):
        for left, right in _pairs(windows, pattern):
            if cause := mode_cause(read(left), read(right), evidence):
                return cause
    return None


def mode_cause(a: int, b: int, evidence: Evidence) -> Cause | None:
    """`umask` if each mode lacks all that the umask of its own leg takes away, and nothing else that the other has."""
    left, right = evidence.a.umask, evidence.b.umask
    if left is None or right is None or a == b:
        return None
    masked = a & left == 0 and b & right == 0
    if not masked or a & ~b & ~right or b & ~a & ~left:
        return None
    shown = f"mode {a:04o} in A with umask {left:04o}, {b:04o} in B with umask {right:04o}"
    return Cause(CauseName.UMASK, Confidence.HIGH, shown)


def _pairs(windows: Windows, pattern: re.Pattern[bytes]) -> list[tuple[bytes, bytes]]:
    """What the pattern finds at the differing bytes, first with first and so on."""
    found = [
        [match[0] for match in pattern.finditer(window.data) if window.touches(*match.span())]
        for window in (windows.a, windows.b)
    ]
    return list(zip(*found, strict=False))


def _listed(text: bytes) -> int:
    """The permission bits of `-rwxr-xr-x`."""
    return sum(1 << (8 - place) for place, letter in enumerate(text[1:10]) if letter not in b"-ST")


def _locales(evidence: Evidence) -> str:
    known = (value for value in evidence.values if value.cause is CauseName.LOCALE)
    return next((f"{value.a.decode()} and {value.b.decode()}" for value in known), "")


def _is_sorted(items: tuple[bytes, ...]) -> bool:
    return all(left <= right for left, right in pairwise(items))


def _collation(item: bytes) -> bytes:
    """What collation by language looks at first: letters and digits, whatever their case (ISO 14651, first level)."""
    return re.sub(rb"[^0-9a-z\x80-\xff]", b"", item.lower())


def _digits(text: bytes) -> bytes:
    return re.sub(rb"\D", b"", text)
