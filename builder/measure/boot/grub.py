"""What GRUB measures: each command it runs, each file it reads, each kernel command line (`measurement.md` 7.5).

Which commands run is decided by scripts, by what they find and by who sits at the menu: nothing here runs a grub.cfg.
The caller states the steps, in the order in which they happen, and their digests follow. Whether the kernel has an
event in RTMR[1] depends on the build: Ubuntu's GRUB has the firmware load it, that of Debian 12 and 13 does not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from builder.errors import DocumentError
from builder.model.digest import sha384_hex
from builder.model.event import EV_EVENT_TAG, EV_IPL, PredictedEvent


class GrubStepKind(StrEnum):
    """What a step is: a command, the command line of a kernel, or a file that is read."""

    COMMAND = "grub_cmd"
    KERNEL_COMMAND_LINE = "kernel_cmdline"
    FILE = "file"


class GrubForm(StrEnum):
    """How a build writes and hashes commands: `grub_cmd: X` over X, or `grub_cmd X` over X with a NUL (Alibaba)."""

    USUAL = "usual"
    WITH_NUL = "with_nul"


@dataclass(frozen=True)
class GrubStep:
    """One thing that GRUB measures. `text` is the command with its words after expansion, joined by single blanks, or
    the command line as GRUB writes it, or the path of the file; `content` is that of a file, and None otherwise."""

    kind: GrubStepKind
    text: str
    content: bytes | None = None


def grub_events(steps: Iterable[GrubStep], *, form: GrubForm = GrubForm.USUAL) -> tuple[PredictedEvent, ...]:
    """EV_IPL events of RTMR[2], one a step. Not checked: that GRUB would take these steps.

    DocumentError for a file without content, content without a file, and text with a NUL in it.
    """
    return tuple(_event(step, form) for step in steps)


def grub_kernel_events(command_line: str, initrd: bytes | None, *, terminated: bool) -> tuple[PredictedEvent, ...]:
    """The two events of a kernel's EFI stub that GRUB starts, which are those of any loader (`measurement.md` 7.1).

    GRUB hands on `BOOT_IMAGE=`, the path of the kernel, and its arguments. `terminated` tells whether the load options
    end with a NUL: those of Debian's GRUB 2.12 do not.
    """
    options = (command_line + ("\0" if terminated else "")).encode("utf-16-le")
    events = (_tagged("LOADED_IMAGE::LoadOptions", options, "command_line"),)
    return events if initrd is None else (*events, _tagged("Linux initrd", initrd, "initrd"))


def _event(step: GrubStep, form: GrubForm) -> PredictedEvent:
    if (step.kind is GrubStepKind.FILE) != (step.content is not None):
        raise DocumentError(f"GRUB step {step.kind} {step.text!r}: a file has content, and nothing else has")
    if "\0" in step.text:
        raise DocumentError(f"GRUB step {step.kind} {step.text!r}: has a NUL in it")
    if step.content is not None:
        return PredictedEvent("rtmr2", EV_IPL, step.text, sha384_hex(step.content), step.text)
    mark = " " if form is GrubForm.WITH_NUL and step.kind is GrubStepKind.COMMAND else ": "
    end = "\0" if mark == " " else ""
    digest = sha384_hex((step.text + end).encode("utf-8"))
    return PredictedEvent("rtmr2", EV_IPL, f"{step.kind}{mark}{step.text}", digest, "grub.cfg")


def _tagged(name: str, content: bytes, source: str) -> PredictedEvent:
    return PredictedEvent("rtmr2", EV_EVENT_TAG, name, sha384_hex(content), source)
