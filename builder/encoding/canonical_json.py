"""Canonical JSON: one byte string for each document (RFC 8785 within the domain of `formats.md` 7.3).

The domain is objects with ASCII keys, strings, booleans, null and integers within 2^53 - 1; no floats.
Inside it `json.dumps` with sorted keys equals RFC 8785.
"""

import json
from typing import Any

from builder.errors import DocumentError

MAX_SAFE_INTEGER = 2**53 - 1
MAX_DEPTH = 64


def encode_canonical(value: Any) -> bytes:
    """`value` as canonical JSON, without a final newline. DocumentError for anything outside the domain."""
    _check_domain(value, "$")
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def encode_readable(value: Any) -> bytes:
    """`value` as sorted, indented JSON with a final newline: also one byte string a document, for files people diff."""
    _check_domain(value, "$")
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8") + b"\n"


def parse_json(data: bytes, *, what: str, most_values: int | None = None) -> Any:
    """Parse one strict JSON document called `what` in errors.

    Refused with DocumentError: invalid UTF-8, a byte order mark, duplicate members, NaN and infinities, floats,
    integers beyond 2^53 - 1, trailing data, nesting beyond 64 levels, and what could have more than `most_values`
    values: a value takes up to 200 bytes, and two of text. Commas and brackets in texts count.
    """
    if most_values is not None and sum(map(data.count, (b",", b"[", b"{"))) > most_values:
        raise DocumentError(f"{what}: more than {most_values} values")
    if data.startswith(b"\xef\xbb\xbf"):
        raise DocumentError(f"{what}: starts with a byte order mark", hint="save it as UTF-8 without a BOM")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_members,
            parse_constant=_refuse_number,
            parse_float=_refuse_number,
        )
    except UnicodeDecodeError as error:
        raise DocumentError(f"{what}: not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise DocumentError(f"{what}: nested too deeply") from error
    except ValueError as error:
        raise DocumentError(f"{what}: not a valid JSON document: {error}") from error
    try:
        _check_domain(value, "$")
    except DocumentError as error:
        raise DocumentError(f"{what}: {error.message}") from error
    return value


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"member {name!r} appears twice")
        members[name] = value
    return members


def _refuse_number(text: str) -> Any:
    raise ValueError(f"number {text} is not an integer")


def _check_domain(value: Any, path: str, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise DocumentError(f"{path}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str) or not name.isascii():
                raise DocumentError(f"{path}: member name {name!r} is not ASCII text")
            _check_domain(member, f"{path}.{name}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_domain(item, f"{path}[{index}]", depth + 1)
    else:
        _check_scalar(value, path)


def _check_scalar(value: Any, path: str) -> None:
    if isinstance(value, str):
        if not value.isascii() and any(0xD800 <= ord(character) <= 0xDFFF for character in value):
            raise DocumentError(f"{path}: lone surrogate in text")
    elif isinstance(value, int):  # bool is an int and needs no bound
        if abs(value) > MAX_SAFE_INTEGER:
            raise DocumentError(f"{path}: integer {value} is beyond 2^53 - 1; write it as text")
    elif value is not None:
        raise DocumentError(f"{path}: {type(value).__name__} has no place in a canonical document")
