"""GRUB's events (`measurement.md` 7.5) from the steps that the caller states."""

import pytest

from builder.errors import DocumentError
from builder.measure.boot.grub import GrubForm, GrubStep, GrubStepKind, grub_events, grub_kernel_events
from builder.model.digest import sha384_hex

COMMAND = GrubStep(GrubStepKind.COMMAND, "set timeout=0")
LINE = GrubStep(GrubStepKind.KERNEL_COMMAND_LINE, "/vmlinuz quiet")
FILE = GrubStep(GrubStepKind.FILE, "/vmlinuz", b"kernel")


def test_commands_are_hashed_without_what_stands_before_them() -> None:
    command, line, file = grub_events([COMMAND, LINE, FILE])
    assert (command.name, command.digest) == ("grub_cmd: set timeout=0", sha384_hex(b"set timeout=0"))
    assert (line.name, line.digest) == ("kernel_cmdline: /vmlinuz quiet", sha384_hex(b"/vmlinuz quiet"))
    assert (file.name, file.digest) == ("/vmlinuz", sha384_hex(b"kernel"))
    assert {(event.register, event.type_name) for event in (command, line, file)} == {("rtmr2", "EV_IPL")}


def test_one_form_hashes_commands_with_a_nul_and_nothing_else() -> None:
    command, line, file = grub_events([COMMAND, LINE, FILE], form=GrubForm.WITH_NUL)
    assert (command.name, command.digest) == ("grub_cmd set timeout=0", sha384_hex(b"set timeout=0\0"))
    assert (line, file) == grub_events([LINE, FILE])


def test_steps_keep_their_order() -> None:
    assert [event.name for event in grub_events([FILE, COMMAND, FILE])][1:] == ["grub_cmd: set timeout=0", "/vmlinuz"]
    assert grub_events([]) == ()


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (GrubStep(GrubStepKind.FILE, "/x"), "a file has content"),
        (GrubStep(GrubStepKind.COMMAND, "ls", b"x"), "a file has content"),
        (GrubStep(GrubStepKind.COMMAND, "a\0b"), "NUL"),
    ],
)
def test_steps_that_make_no_sense_are_refused(step: GrubStep, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        grub_events([step])


def test_an_empty_file_is_a_file() -> None:
    (event,) = grub_events([GrubStep(GrubStepKind.FILE, "/empty", b"")])
    assert event.digest == sha384_hex(b"")


def test_the_kernel_measures_load_options_with_or_without_their_end() -> None:
    line = "BOOT_IMAGE=/vmlinuz quiet"
    open_, closed = (grub_kernel_events(line, None, terminated=terminated)[0].digest for terminated in (False, True))
    assert open_ == sha384_hex(line.encode("utf-16-le"))
    assert closed == sha384_hex((line + "\0").encode("utf-16-le"))
    assert [event.name for event in grub_kernel_events(line, b"i", terminated=True)] == [
        "LOADED_IMAGE::LoadOptions",
        "Linux initrd",
    ]
