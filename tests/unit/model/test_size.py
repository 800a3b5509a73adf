"""Memory sizes: one spelling each way, and nothing rounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.model.size import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"), [("512M", 512 << 20), ("2G", 2 << 30), ("1M", 1 << 20), ("2815M", 2815 << 20), ("1T", 1 << 40)]
)
def test_size_is_a_power_of_two_unit(text: str, size: int) -> None:
    assert parse_size(text, what="memory") == size


@given(st.integers(1, 1 << 20))
def test_size_is_read_back(mebibytes: int) -> None:
    assert parse_size(format_size(mebibytes << 20), what="memory") == mebibytes << 20


def test_shortest_spelling_is_written() -> None:
    assert format_size(2048 << 20) == "2G"
    assert format_size(2049 << 20) == "2049M"


@pytest.mark.parametrize(
    "text", ["", "0G", "-1G", "2", "2g", "2GB", "2GiB", "1.5G", " 2G", "2G ", "2G\n", "02G", "2K", "２G", "9999999999G"]
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="memory: ") as caught:
        parse_size(text, what="memory")

    assert "512M" in str(caught.value.hint)


@pytest.mark.parametrize("size", [1, (1 << 20) - 1, (1 << 30) + 1])
def test_size_that_is_not_whole_is_never_rounded(size: int) -> None:
    with pytest.raises(DocumentError, match=str(size)):
        format_size(size)
