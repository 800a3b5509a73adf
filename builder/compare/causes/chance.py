"""Bytes that look random on both sides: salts, keys, UUIDs (`determinism.md` 5.5). The weakest evidence, asked last."""

import re

from builder.compare.causes.window import Windows
from builder.model.comparison import Cause, CauseName, Confidence

_MIN_BYTES = 8
_MIN_DIGITS = 16
_HEX = re.compile(rb"[0-9A-Fa-f-]+")
_TEMPORARY = re.compile(rb"/tmp\.[0-9A-Za-z]{6,}|/tmp[0-9A-Za-z_]{8,}|/cc[0-9A-Za-z]{6}\.[a-z]+")


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
    if _HEX.fullmatch(left) and _HEX.fullmatch(right):
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
    names = []
    for window in (windows.a, windows.b):
        found = [match[0] for match in _TEMPORARY.finditer(window.data) if window.touches(*match.span())]
        names += found[:1]
    if len(names) < 2:
        return None
    return Cause(CauseName.RANDOM, Confidence.MEDIUM, f"temporary names: {names[0].decode()!r}, {names[1].decode()!r}")
