"""Leftovers of a process: its id, temporary names, and bytes that look random, such as salts, keys and UUIDs
(`determinism.md` 5.5). The weakest evidence, asked last."""

import re

from builder.compare.causes.window import Window, Windows
from builder.model.comparison import Cause, CauseName, Confidence

_MIN_BYTES = 8
_MIN_DIGITS = 16
_HEX = re.compile(rb"[0-9A-Fa-f-]+")
_DECIMAL = re.compile(rb"[0-9-]+")
_PAX_NAME = re.compile(rb"PaxHeaders\.\d+")
_TEMPORARY = re.compile(rb"/tmp\.[0-9A-Za-z]{6,}|/tmp[0-9A-Za-z_]{8,}|/cc[0-9A-Za-z]{6}\.[a-z]+")


def process_id_cause(windows: Windows) -> Cause | None:
    """`pid` where GNU tar writes it: in the names of extension headers, with POSIXLY_CORRECT (`determinism.md` 3.3)."""
    left, right = (_touching(_PAX_NAME, window) for window in (windows.a, windows.b))
    if not left or not right or left[0] == right[0]:
        return None
    return Cause(CauseName.PID, Confidence.HIGH, f"names of pax headers: {left[0].decode()} and {right[0].decode()}")


def random_cause(windows: Windows) -> Cause | None:
    """`random` for runs of equal length that are dense on both sides and have nothing to do with each other.

    A digest of something that differs looks the same, so this is never more than medium confidence. A long region is
    not judged at all: compressed or shifted data would look random too.
    """
    left, right = windows.a.region, windows.b.region
    if windows.cut:
        return None
    if cause := _temporary_name_cause(windows):
        return cause
    if len(left) != len(right):
        return None
    if all(_HEX.fullmatch(side) and not _DECIMAL.fullmatch(side) for side in (left, right)):
        return _judged(left, right, least=_MIN_DIGITS, enough=7, what="hexadecimal digits")
    if _is_text(left) or _is_text(right) or not _unrelated(left, right):
        return None
    return _judged(left, right, least=_MIN_BYTES, enough=len(left) * 3 // 5, what="bytes")


def _judged(a: bytes, b: bytes, *, least: int, enough: int, what: str) -> Cause | None:
    """Dense: long enough, and with enough different values on each side."""
    if len(a) < least or min(len(set(a)), len(set(b))) < min(enough, 64):
        return None
    confidence = Confidence.MEDIUM if len(a) >= 2 * least else Confidence.LOW
    text = f"{len(a)} {what} that look random on both sides: a salt, key or UUID, or a digest of what differs"
    return Cause(CauseName.RANDOM, confidence, text)


def _unrelated(a: bytes, b: bytes) -> bool:
    """About half of the bits differ, as between independent random bytes."""
    bits = (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).bit_count()
    return 0.35 <= bits / max(1, 8 * len(a)) <= 0.65


def _is_text(data: bytes) -> bool:
    return all(0x20 <= byte < 0x7F or byte in b"\t\n\r" for byte in data)


def _temporary_name_cause(windows: Windows) -> Cause | None:
    left, right = (_touching(_TEMPORARY, window) for window in (windows.a, windows.b))
    if not left or not right:
        return None
    shown = f"temporary names: {left[0].decode()!r}, {right[0].decode()!r}"
    return Cause(CauseName.RANDOM, Confidence.MEDIUM, shown)


def _touching(pattern: re.Pattern[bytes], window: Window) -> list[bytes]:
    return [match[0] for match in pattern.finditer(window.data) if window.touches(*match.span())]
