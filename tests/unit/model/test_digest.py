"""Digests are lower-case hex of the right length, and nothing else."""

from collections.abc import Callable

import pytest

from builder.errors import DocumentError
from builder.model.digest import checked_sha256, checked_sha384, sha256_hex

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # FIPS 180-4, of no bytes
Check = Callable[..., str]


def test_digest_is_that_of_the_standard() -> None:
    assert sha256_hex(b"") == EMPTY


@pytest.mark.parametrize(("check", "length"), [(checked_sha256, 64), (checked_sha384, 96)])
def test_hex_of_the_right_length_is_accepted(check: Check, length: int) -> None:
    assert check("0f" * (length // 2), what="x") == "0f" * (length // 2)


@pytest.mark.parametrize(("check", "length"), [(checked_sha256, 64), (checked_sha384, 96)])
def test_anything_else_is_refused_by_name(check: Check, length: int) -> None:
    good = "a" * length
    for text in (
        "",
        good[1:],
        good + "a",
        good.upper(),
        good[1:] + "g",
        good + "\n",
        " " + good,
        "٠" * length,
        None,
        7,
    ):
        with pytest.raises(DocumentError, match="the field: "):
            check(text, what="the field")
