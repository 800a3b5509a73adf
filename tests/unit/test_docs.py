"""The documents keep their word: examples run, command lines parse, and what they name is there."""

import contextlib
import io
import re
import shlex
from dataclasses import replace
from pathlib import Path

import click
import pytest

from builder.cli.main import cli
from builder.measure import (
    CAVEATS,
    BootFiles,
    Measurer,
    PredictedEvent,
    Prediction,
    acpi_machine,
    generate_acpi,
    launch_profiles,
    replay,
)
from builder.measure.evidence.quote import QE_VENDOR_INTEL
from builder.measure.platforms.cloud_hypervisor import TD_SHIM_CAVEATS
from builder.measure.platforms.gce_prediction import GCE_CAVEATS
from builder.model.recipe import VmmSpec
from tests.fakes.boot_files import Firmware, bzimage, log_header, log_record

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
SCRIPTS = [ROOT / "tools/demo.sh", *sorted((ROOT / ".github/workflows").glob("*.yml"))]
MEASUREMENT = ROOT / "docs/measurement.md"


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# examples


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


FILES = BootFiles(Firmware().encode(), bzimage(), b"initrd", "console=ttyS0")


def predicted(files: BootFiles) -> Prediction:
    """What the example predicts, if it was started with these files."""
    vmm = VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off,hpet=off", "Skylake-Server,phys-bits=46", ("serial",))
    (profile,) = launch_profiles(files, vmm=vmm, edk2="202502", shapes=[(2, 2 << 30)])
    acpi = generate_acpi(acpi_machine(vmm, vcpus=2, memory=2 << 30, edk2="202502"))
    return Measurer(files).predict(profile, acpi)


def write_guest(directory: Path, files: BootFiles, evidence: Prediction) -> None:
    """The files that the examples open: those of a guest, and the Evidence of a TD that measured `evidence`."""
    (directory / "OVMF.fd").write_bytes(files.firmware)
    (directory / "vmlinuz").write_bytes(files.kernel)
    (directory / "initrd.img").write_bytes(files.initrd or b"")
    (directory / "ccel.bin").write_bytes(ccel(evidence))
    (directory / "quote.bin").write_bytes(quote(evidence))


def digests_of(prediction: Prediction) -> list[tuple[PredictedEvent, bytes]]:
    """The events with their digests: every one of this guest is predicted."""
    predicted = [event for event in prediction.events if isinstance(event, PredictedEvent)]
    assert len(predicted) == len(prediction.events)
    return [(event, bytes.fromhex(event.digest)) for event in predicted]


def ccel(prediction: Prediction) -> bytes:
    indexes = {"rtmr0": 1, "rtmr1": 2, "rtmr2": 3}
    return log_header([(0xC, 48)]) + b"".join(
        log_record(indexes[event.register], event.event_type, [(0xC, digest)], b"data")
        for event, digest in digests_of(prediction)
    )


def quote(prediction: Prediction) -> bytes:
    header = b"\4\0\2\0\x81\0\0\0" + bytes(4) + QE_VENDOR_INTEL + bytes(20)
    replayed = replay([event for event, _ in digests_of(prediction)])
    rtmrs = b"".join(bytes.fromhex(replayed[name]) for name in ("rtmr0", "rtmr1", "rtmr2", "rtmr3"))
    body = bytes(136) + bytes.fromhex(prediction.registers.mrtd) + bytes(144) + rtmrs + bytes(64)
    return header + body + b"\1\0\0\0\0"


def run_blocks(directory: Path) -> str:
    """Everything the Python examples of docs/measurement.md print, one after the other in one namespace."""
    output = io.StringIO()
    with contextlib.chdir(directory), contextlib.redirect_stdout(output):
        names: dict[str, object] = {}
        for block in python_blocks(MEASUREMENT.read_text()):
            exec(compile(block, "docs/measurement.md", "exec"), names)  # noqa: S102 - the repository's own example
    return output.getvalue()


def test_the_examples_predict_and_recognise_a_td(tmp_path: Path) -> None:
    prediction = predicted(FILES)
    write_guest(tmp_path, FILES, prediction)
    output = run_blocks(tmp_path)
    assert str(prediction.registers.rtmr0) in output
    assert all(digest.hex() in output for _, digest in digests_of(prediction))
    assert output.endswith("log belongs to quote: True\nas predicted: True\nfirst difference: none\n")


def test_the_examples_name_what_is_different_in_another_td(tmp_path: Path) -> None:
    write_guest(tmp_path, FILES, predicted(replace(FILES, initrd=b"another")))
    output = run_blocks(tmp_path)
    assert "as predicted: False" in output
    assert "first difference: rtmr2 event 1: predicted EV_EVENT_TAG 'Linux initrd'" in output


# command lines

VARIABLES = {'"$@"': "", "$LEG": "a"}


def command_lines(path: Path) -> list[str]:
    """The indented command lines of a document, or those of a script, whole and with its variables replaced."""
    start = r"^    " if path.suffix == ".md" else r"^(?:run |.*\.venv/bin/)"
    text = path.read_text().replace("\\\n", " ")
    for variable, value in VARIABLES.items():
        text = text.replace(variable, value)
    return re.findall(start + r"(?:\$ )?tdx-builder (.*)$", text, re.MULTILINE)


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the first words name, and the rest of the words."""
    command: click.Command = cli
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"tdx-builder {shlex.join(words)}: no verb {rest[0]!r}"
        command = found
        rest.pop(0)
    return command, rest


def options_of(command: click.Command) -> set[str]:
    return {"--help"} | {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)}


def every_option(command: click.Command = cli) -> set[str]:
    if not isinstance(command, click.Group):
        return options_of(command)
    context = click.Context(command)
    commands = (command.get_command(context, name) for name in command.list_commands(context))
    return options_of(command).union(*(every_option(each) for each in commands if each))


COMMAND_LINES = [(path, line) for path in (*DOCUMENTS, *SCRIPTS) for line in command_lines(path)]


def test_there_are_command_lines_to_check() -> None:
    assert {name_of(path) for path, _ in COMMAND_LINES} >= {
        "README.md",
        "docs/measurement.md",
        "tools/demo.sh",
        ".github/workflows/release.yml",
    }


@pytest.mark.parametrize("line", [line for _, line in COMMAND_LINES])
def test_command_lines_are_taken_by_the_command_line(line: str) -> None:
    """Parsed, not run: verbs, options, required arguments and choices are those that exist."""
    command, rest = resolve(shlex.split(line, comments=True))
    assert not isinstance(command, click.Group), line
    command.make_context(line, rest)


def inline_code(path: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", path.read_text())


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.parent.name != "benchmarks"], ids=name_of)
def test_options_named_in_passing_exist(path: Path) -> None:
    verbs = cli.list_commands(click.Context(cli))
    for code in inline_code(path):
        words = code.removeprefix("tdx-builder ").split()
        if not words or not (code.startswith("tdx-builder ") or words[0] in verbs or words[0].startswith("--")):
            continue
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        known = every_option() if words[0] not in verbs else options_of(resolve(words)[0])
        assert options <= known, f"`{code}`: {', '.join(options - known)}"


def test_an_option_that_does_not_exist_would_be_noticed() -> None:
    command, rest = resolve(["verify", "manifest.json", "--no-such-option"])
    with pytest.raises(click.UsageError):
        command.make_context("verify", rest)
    assert "--no-such-option" not in every_option()
    assert "--artifacts" in every_option()


# what documents name


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_every_test_that_is_named_exists() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = {name for path in DOCUMENTS for name in re.findall(r"`(test_\w+)`", path.read_text())}
    assert len(named) > 100
    assert not {name for name in named if f"def {name}(" not in tests}


def is_module(name: str) -> bool:
    """A module or package of the measuring core, or one named from the root of the project."""
    places = (ROOT / "builder/measure" / name, ROOT / name)
    return any(place.is_dir() or place.with_name(f"{place.name}.py").is_file() for place in places)


def test_the_measuring_rules_name_modules_that_exist() -> None:
    rows = re.findall(r"^\| (?:A |Q |[0-9TA])[^|]*\|([^|]*)\|[^|]*\|[^|]*\|$", MEASUREMENT.read_text(), re.MULTILINE)
    assert len(rows) > 60
    modules = {name for row in rows for name in re.findall(r"`([\w/]+)`", row)}
    assert not {name for name in modules if not is_module(name)}
    assert not is_module("acpi/nothing")


def test_every_caveat_is_explained_and_no_other() -> None:
    section = MEASUREMENT.read_text().partition("## Caveats")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == {*CAVEATS, *GCE_CAVEATS, *TD_SHIM_CAVEATS}
