"""How a program inside a leg runs: parameters in, files in `out/`, and one line on stderr if it cannot be done."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from builder.encoding.canonical_json import parse_json
from builder.errors import BuilderError, DocumentError, MissingError

OUTPUTS = Path("out")

T = TypeVar("T")


class Parameters:
    """The parameters of a program: one JSON object, written by the plan (`components`)."""

    def __init__(self, values: Any) -> None:
        if not isinstance(values, dict):
            raise DocumentError(f"parameters: {type(values).__name__}, wanted an object")
        self._values = values

    def text(self, name: str) -> str:
        """A text."""
        return self._typed(name, str)

    def integer(self, name: str) -> int:
        """An integer."""
        return self._typed(name, int)

    def boolean(self, name: str) -> bool:
        """True or false."""
        return self._typed(name, bool)

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        values = self._typed(name, list)
        if not all(isinstance(value, str) for value in values):
            raise DocumentError(f"parameters: {name} holds something that is not text")
        return values

    def objects(self, name: str) -> list["Parameters"]:
        """A list of objects."""
        return [Parameters(value) for value in self._typed(name, list)]

    def _typed(self, name: str, kind: type[T]) -> T:
        value = self._values.get(name)
        if not isinstance(value, kind):
            raise DocumentError(f"parameters: {name} is {value!r}, wanted {kind.__name__}")
        return value


def read_input(path: str) -> bytes:
    """The bytes of an input; MissingError if it is not there."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise MissingError(f"{path}: {error.strerror}") from error


def write_output(name: str, chunks: Iterable[bytes]) -> None:
    """Write the output `name`, which must not exist yet."""
    with (OUTPUTS / name).open("xb") as file:
        for chunk in chunks:
            file.write(chunk)


def run_program(program: Callable[[Parameters], None]) -> None:
    """Run `program` on the parameters that the first argument names, and end the process."""
    try:
        if len(sys.argv) != 2:
            raise DocumentError(f"{len(sys.argv) - 1} arguments, wanted one: the parameters, a JSON file")
        program(Parameters(parse_json(read_input(sys.argv[1]), what=sys.argv[1])))
    except BuilderError as error:
        hint = f" ({error.hint})" if error.hint else ""
        sys.exit(f"{Path(sys.argv[0]).stem}: {error.message}{hint}")
    except OSError as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")
