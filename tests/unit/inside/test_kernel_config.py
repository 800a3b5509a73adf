"""Kernel configurations: what a fragment may say, and that no option is lost without an error that names it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.normalize.kernel_config import (
    MAX_SIZE,
    check_names,
    check_options,
    defined_options,
    encode_config,
    merge_fragments,
    parse_config,
    parse_requirements,
)

FILES = Path(__file__).parents[3] / "recipes" / "guest" / "files" / "kernel"
FRAGMENT = b"""\
# why
CONFIG_SMP=y
CONFIG_NR_CPUS=256

CONFIG_PANIC_TIMEOUT=-1
CONFIG_PHYSICAL_START=0x1000000
CONFIG_CMDLINE="a=\\"b\\" c"
# CONFIG_MODULES is not set
#
"""
OPTIONS = {
    "CONFIG_SMP": "y",
    "CONFIG_NR_CPUS": "256",
    "CONFIG_PANIC_TIMEOUT": "-1",
    "CONFIG_PHYSICAL_START": "0x1000000",
    "CONFIG_CMDLINE": '"a=\\"b\\" c"',
    "CONFIG_MODULES": "n",
}
FINAL = {"CONFIG_SMP": "y", "CONFIG_EFI": "y", "CONFIG_MITIGATION_A": "y", "CONFIG_MITIGATION_B": "n"}

names = st.from_regex(r"CONFIG_[A-Za-z0-9_]{1,20}", fullmatch=True)
values = st.one_of(
    st.sampled_from(["y", "m", "n"]),
    st.integers().map(str),
    st.integers(min_value=0).map(hex),
    st.text(st.characters(exclude_characters='"\\\n', codec="utf-8")).map(lambda text: f'"{text}"'),
)


def test_a_fragment_is_read_as_it_stands() -> None:
    assert parse_config(FRAGMENT, what="x.config") == OPTIONS


@given(st.dictionaries(names, values, max_size=20))
def test_what_is_written_is_read_back(config: dict[str, str]) -> None:
    assert parse_config(encode_config(config), what="x.config") == config


def test_the_order_of_options_does_not_matter() -> None:
    assert encode_config(dict(reversed(list(OPTIONS.items())))) == encode_config(OPTIONS)


@pytest.mark.parametrize(
    "line",
    [
        "CONFIG_SMP=n",  # Kconfig writes `is not set`, and reads this as the default
        "CONFIG_SMP = y",
        "CONFIG_SMP=y # always",
        "CONFIG_SMP=yes",
        "CONFIG_SMP=",
        "CONFIG_SMP",
        "SMP=y",
        'CONFIG_CMDLINE="open',
        'CONFIG_CMDLINE="a" b"',
        "#CONFIG_SMP is not set",
        "# CONFIG_SMP=y",
        "# CONFIG_SMP not set",
        "# CONFIG_SMP is not set ",
        "# CONFIG_SMP",
        "CONFIG_SMP=y\r",
        "<<<<<<< HEAD",
        "\0",
    ],
)
def test_a_line_that_kconfig_might_read_otherwise_is_refused(line: str) -> None:
    with pytest.raises(DocumentError, match=r"x\.config: line 2"):
        parse_config(f"# first\n{line}\n".encode(), what="x.config")


def test_an_option_that_is_there_twice_is_refused() -> None:
    with pytest.raises(DocumentError, match="line 2: CONFIG_A is there twice"):
        parse_config(b"CONFIG_A=y\n# CONFIG_A is not set\n", what="x.config")


def test_a_fragment_cannot_name_options_by_a_pattern() -> None:
    with pytest.raises(DocumentError, match=r"CONFIG_A\* has a `\*`"):
        parse_config(b"CONFIG_A*=y\n", what="x.config")


@pytest.mark.parametrize("data", [b"CONFIG_A=y", b"CONFIG_A=1", b"# CONFIG_A is not set"])
def test_a_file_that_may_be_cut_off_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match="cut off"):
        parse_config(data, what="x.config")


def test_a_file_that_is_too_large_or_not_text_is_refused() -> None:
    with pytest.raises(DocumentError, match=f"wanted at most {MAX_SIZE}"):
        parse_config(b"\n" * (MAX_SIZE + 1), what="x.config")
    with pytest.raises(DocumentError, match="byte 1 is not UTF-8"):
        parse_config(b"#\xff\n", what="x.config")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        parse_config(data, what="x.config")
    except DocumentError as error:
        assert error.message.startswith("x.config: ")


def test_fragments_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(DocumentError, match=r"b\.config: CONFIG_A is n, but y in a\.config"):
        merge_fragments({"a.config": {"CONFIG_A": "y"}, "b.config": {"CONFIG_A": "n"}})


def test_fragments_that_agree_are_merged() -> None:
    merged = merge_fragments({"a": {"CONFIG_A": "y"}, "b": {"CONFIG_A": "y", "CONFIG_B": "1"}})
    assert merged == {"CONFIG_A": "y", "CONFIG_B": "1"}


@pytest.mark.parametrize(
    ("option", "wanted", "message"),
    [
        ("CONFIG_GONE", "y", "CONFIG_GONE is absent, wanted y"),
        ("CONFIG_EFI", "n", "CONFIG_EFI is y, wanted n"),
        ("CONFIG_MITIGATION_B", "y", "CONFIG_MITIGATION_B is n, wanted y"),
        ("CONFIG_MITIGATION_*", "y", "CONFIG_MITIGATION_B is n, wanted y"),
        ("CONFIG_NONE_*", "y", r"CONFIG_NONE_\* matches nothing"),
        ("CONFIG_NONE_*", "n", r"CONFIG_NONE_\* matches nothing"),
    ],
)
def test_an_option_with_another_value_is_named(option: str, wanted: str, message: str) -> None:
    with pytest.raises(DocumentError, match=f"not what the list asks for: {message}"):
        check_options(FINAL, [("CONFIG_SMP", "y"), (option, wanted)], what="the list")


def test_every_option_with_another_value_is_named() -> None:
    with pytest.raises(DocumentError) as caught:
        check_options(FINAL, [("CONFIG_GONE", "y"), ("CONFIG_SMP", "n")], what="the list")
    assert "CONFIG_GONE is absent, wanted y; CONFIG_SMP is y, wanted n" in caught.value.message


def test_an_option_that_is_absent_is_off() -> None:
    check_options(FINAL, [("CONFIG_GONE", "n"), ("CONFIG_MITIGATION_B", "n"), ("CONFIG_EFI", "y")], what="the list")


def test_kconfig_files_say_which_options_exist() -> None:
    text = "menuconfig A\n\tbool\n  config B_2 # why\n\thelp\n\t  config C is no option\n\n# config D\nconfigs E\n"
    assert list(defined_options(text)) == ["CONFIG_A", "CONFIG_B_2"]


@pytest.mark.parametrize("value", ["y", "n"])
@pytest.mark.parametrize("option", ["CONFIG_MODULE", "CONFIG_MODULES_*"])
def test_an_option_that_no_kconfig_file_defines_is_refused(option: str, value: str) -> None:
    with pytest.raises(DocumentError, match="this kernel knows no CONFIG_MODULE"):
        check_names([("CONFIG_SMP", "y"), (option, value)], {"CONFIG_SMP", "CONFIG_MODULES"})


def test_options_that_kconfig_defines_are_accepted() -> None:
    check_names([("CONFIG_SMP", "y"), ("CONFIG_S*", "y")], {"CONFIG_SMP"})


@pytest.mark.parametrize("data", [b"", b"\n", b"# only a comment\n"])
def test_a_list_that_requires_nothing_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match="requires no option"):
        parse_requirements(data, what="required.config")


def test_the_fragments_of_the_guest_agree_with_each_other_and_with_what_it_requires() -> None:
    fragments = {path.name: path for path in FILES.glob("*.config") if path.name != "required.config"}
    merged = merge_fragments({name: parse_config(path.read_bytes(), what=name) for name, path in fragments.items()})
    required = parse_requirements((FILES / "required.config").read_bytes(), what="required.config")
    check_options(merged, [(option, value) for option, value in required if option in merged], what="required.config")
    assert merged["CONFIG_INTEL_TDX_GUEST"] == "y"
