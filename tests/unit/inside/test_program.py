"""How programs start inside a leg: alone, and with one line instead of a traceback."""

from typing import Any

import pytest

from builder.inside import leg_files
from tests.fakes.deb_files import member
from tests.fakes.leg_directory import LegDirectory

PROGRAMS = ("app_image", "command_line", "initrd", "package_file", "root_tree")


def test_a_workspace_gets_every_program_and_what_it_imports() -> None:
    files = leg_files()
    assert {f"{program}.py" for program in PROGRAMS} < set(files)
    assert {"builder/__init__.py", "builder/errors.py", "builder/inside/program.py", "builder/normalize/tar.py"} < set(
        files
    )
    assert all(path.is_file() for path in files.values())
    assert list(files) == sorted(files)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([], "parameters: list, wanted an object"),
        ({}, "is None, wanted"),
        ({"packages": [1], "root_size": 1, "source_date_epoch": "now"}, "parameters: "),
    ],
)
def test_parameters_that_do_not_fit_are_refused(leg: LegDirectory, program: str, parameters: Any, message: str) -> None:
    assert message in leg.refusal(program, parameters)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("arguments", [(), ("in/one.json", "in/two.json")])
def test_a_program_takes_one_argument(leg: LegDirectory, program: str, arguments: tuple[str, ...]) -> None:
    completed = leg.start(program, *arguments)
    assert completed.status == 1
    wanted = f"{program}: {len(arguments)} arguments, wanted one: the parameters, a JSON file\n"
    assert completed.stderr.decode() == wanted


@pytest.mark.parametrize("data", [b"", b'{"a": 1, "a": 2}', b'{"a": 1.5}', b"\xff"])
def test_parameters_that_are_not_strict_json_are_refused(leg: LegDirectory, data: bytes) -> None:
    completed = leg.start("initrd", leg.put("in/bad.json", data))
    assert completed.status == 1
    assert completed.stderr.startswith(b"initrd: in/bad.json: not ")
    assert completed.stderr.count(b"\n") == 1


def test_a_missing_package_is_named(leg: LegDirectory) -> None:
    message = leg.refusal("package_file", {"packages": ["in/gone.deb"], "file": "a", "output": "a"})
    assert message == "in/gone.deb: No such file or directory"


def test_an_output_is_never_overwritten(leg: LegDirectory) -> None:
    package = leg.put_package("ovmf", member("./OVMF.fd", b"firmware"))
    parameters = {"packages": [package], "file": "OVMF.fd", "output": "OVMF.fd"}
    leg.make("package_file", parameters)
    completed = leg.run("package_file", parameters)
    assert completed.status == 1
    assert b"File exists" in completed.stderr
