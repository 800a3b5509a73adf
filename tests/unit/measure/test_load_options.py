"""Load options (`measurement.md` 7.2)."""

import pytest

from builder.errors import DocumentError
from builder.measure import encode_load_options
from builder.model.launch_profile import InitrdArgument


def test_the_initrd_argument_is_a_suffix_or_a_prefix_or_absent() -> None:
    expected = {
        None: "a b\0",
        InitrdArgument.SUFFIX: "a b initrd=initrd\0",
        InitrdArgument.PREFIX: "initrd=initrd a b\0",
    }
    for argument, text in expected.items():
        assert encode_load_options("a b", argument) == text.encode("utf-16-le")


def test_the_command_line_is_not_tidied() -> None:
    assert encode_load_options("  a  ", None).decode("utf-16-le") == "  a  \0"


@pytest.mark.parametrize("command_line", ["caf\u00e9", "a\nb", "a\0b", "a\tb", "\x7f"])
def test_what_no_rule_covers_is_refused(command_line: str) -> None:
    with pytest.raises(DocumentError, match="printable ASCII"):
        encode_load_options(command_line, None)
