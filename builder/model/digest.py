"""Digests as text: always lower-case hex, always with their algorithm in the name."""

import hashlib
import re

from builder.errors import DocumentError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA384 = re.compile(r"[0-9a-f]{96}")


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data`, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha384_hex(data: bytes) -> str:
    """SHA-384 of `data`, 96 hex digits: what TDX measures with."""
    return hashlib.sha384(data).hexdigest()


def checked_sha256(text: object, *, what: str) -> str:
    """`text` if it is 64 lower-case hex digits; DocumentError naming `what` otherwise."""
    if not isinstance(text, str) or not _SHA256.fullmatch(text):
        raise DocumentError(f"{what}: {text!r} is not a SHA-256 (64 lower-case hex digits)")
    return text


def checked_sha384(text: object, *, what: str) -> str:
    """`text` if it is 96 lower-case hex digits; DocumentError naming `what` otherwise."""
    if not isinstance(text, str) or not _SHA384.fullmatch(text):
        raise DocumentError(f"{what}: {text!r} is not a SHA-384 (96 lower-case hex digits)")
    return text
