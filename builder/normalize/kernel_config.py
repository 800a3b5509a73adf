"""Kernel configurations: fragments read strictly and merged, and the final one held against what was asked for.

Kconfig drops what it cannot do without a word: an option that lost its dependency, has another name by now, or is
misspelt. So a configuration is believed after it was compared, and a name after Kconfig was seen to define it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from fnmatch import fnmatchcase

from builder.errors import DocumentError

Config = Mapping[str, str]
"""Option (`CONFIG_SMP`) -> value as it stands in the file (`y`, `64`, `0x1000`, `"text"`), `n` for `is not set`."""

OFF = "n"
MAX_SIZE = 1 << 20  # a whole configuration of today is a quarter of that

_SET = re.compile(r'(CONFIG_[A-Za-z0-9_]+\*?)=(y|m|-?[0-9]+|0x[0-9A-Fa-f]+|"(?:[^"\\]|\\.)*")')
_NOT_SET = re.compile(r"# (CONFIG_[A-Za-z0-9_]+\*?) is not set")
_ALMOST = re.compile(r"#\s*CONFIG_[A-Za-z0-9_]+\s*(=|$|is |not )")  # a comment that may be meant as an option
_DEFINITION = re.compile(r"^[ \t]*(?:menu)?config[ \t]+([A-Za-z0-9_]+)[ \t]*(?:#.*)?$", re.MULTILINE)


def parse_config(data: bytes, *, what: str) -> dict[str, str]:
    """A fragment, or a whole `.config`: `CONFIG_X=value`, `# CONFIG_X is not set`, comments and empty lines.

    DocumentError, naming `what` and the line, for anything else, for a comment that is nearly an option, for an option
    that is there twice, and for more than MAX_SIZE bytes. Not checked: that the kernel knows the option.
    """
    config = {}
    for option, value, place in _options(data, what):
        if "*" in option:
            raise DocumentError(f"{place}: {option} has a `*`, wanted the name of one option")
        if option in config:
            raise DocumentError(f"{place}: {option} is there twice")
        config[option] = value
    return config


def parse_requirements(data: bytes, *, what: str) -> tuple[tuple[str, str], ...]:
    """A list of required options: lines as in a configuration, where `CONFIG_X*` stands for all that begin so.

    DocumentError as `parse_config`, and for a list that requires nothing.
    """
    required = tuple((option, value) for option, value, _ in _options(data, what))
    if not required:
        raise DocumentError(f"{what}: requires no option, so it would check nothing")
    return required


def merge_fragments(fragments: Mapping[str, Config]) -> dict[str, str]:
    """All options of all fragments (by the name of each). DocumentError where two of them contradict each other."""
    merged: dict[str, str] = {}
    origin: dict[str, str] = {}
    for what, fragment in fragments.items():
        for option, value in fragment.items():
            if merged.setdefault(option, value) != value:
                raise DocumentError(
                    f"{what}: {option} is {value}, but {merged[option]} in {origin[option]}",
                    hint="each option has one place and one value",
                )
            origin.setdefault(option, what)
    return merged


def encode_config(config: Config) -> bytes:
    """The options as a configuration file, sorted."""
    return "".join(f"{_line(option, config[option])}\n" for option in sorted(config)).encode("utf-8")


def defined_options(kconfig: str) -> Iterator[str]:
    """The options that the text of a Kconfig file defines, as `CONFIG_X`. Conditions around them are not looked at."""
    for name in _DEFINITION.findall(kconfig):
        yield f"CONFIG_{name}"


def check_names(wanted: Sequence[tuple[str, str]], known: Set[str]) -> None:
    """DocumentError for options that no Kconfig file defines: nothing holds for them, whatever is wanted."""
    unknown = [option for option, _ in wanted if not _matching(option, known)]
    if unknown:
        raise DocumentError(
            f"this kernel knows no {', '.join(unknown)}", hint="a newer kernel may have dropped or renamed it"
        )


def check_options(final: Config, wanted: Sequence[tuple[str, str]], *, what: str) -> None:
    """DocumentError unless every option has the wanted value in the final configuration, where absent is `n`.

    The error names every option that has not, with both values. `CONFIG_X*` stands for all options of the final
    configuration that begin so, of which there has to be one.
    """
    wrong = [line for option, value in wanted for line in _differences(final, option, value)]
    if wrong:
        raise DocumentError(
            f"the kernel's configuration is not what {what} asks for: {'; '.join(wrong)}",
            hint="an option is dropped if what it depends on is off, and set if another selects it",
        )


def _differences(final: Config, option: str, wanted: str) -> Iterator[str]:
    names = _matching(option, final.keys()) if "*" in option else [option]
    if not names:
        yield f"{option} matches nothing, wanted {wanted}"
    for name in names:
        found = final.get(name, OFF)
        if found != wanted:
            yield f"{name} is {found if name in final else 'absent'}, wanted {wanted}"


def _matching(option: str, names: Set[str]) -> list[str]:
    if "*" not in option:
        return [option] if option in names else []
    return sorted(name for name in names if fnmatchcase(name, option))


def _options(data: bytes, what: str) -> Iterator[tuple[str, str, str]]:
    """Option, value, and its place for errors."""
    for number, line in enumerate(_lines(data, what), start=1):
        place = f"{what}: line {number}"
        if found := _SET.fullmatch(line):
            yield found[1], found[2], place
        elif found := _NOT_SET.fullmatch(line):
            yield found[1], OFF, place
        elif (line and not line.startswith("#")) or _ALMOST.match(line):
            raise DocumentError(f"{place}: {line[:100]!r}, wanted CONFIG_X=value, `# CONFIG_X is not set` or a comment")


def _lines(data: bytes, what: str) -> list[str]:
    if len(data) > MAX_SIZE:
        raise DocumentError(f"{what}: {len(data)} bytes, wanted at most {MAX_SIZE}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{what}: byte {error.start} is not UTF-8") from error
    if text and not text.endswith("\n"):
        raise DocumentError(f"{what}: its last line has no end, so it may be cut off")
    return text.split("\n")


def _line(option: str, value: str) -> str:
    return f"# {option} is not set" if value == OFF else f"{option}={value}"
