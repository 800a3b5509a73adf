"""Load options: the command line as the firmware hands it over and the EFI stub measures it (`measurement.md` 7)."""

from builder.errors import DocumentError
from builder.model.launch_profile import InitrdArgument

_INITRD = "initrd=initrd"


def encode_load_options(command_line: str, initrd: InitrdArgument | None) -> bytes:
    """UTF-16LE with a terminator; `initrd` says where `initrd=initrd` goes, None that the guest has no initrd.

    The command line is taken as given to QEMU, unmodified. DocumentError if it is not printable ASCII, which no rule
    covers. Not covered: `-shim`, which puts `kernel ` in front.
    """
    if not command_line.isascii() or not all(character.isprintable() for character in command_line):
        raise DocumentError(
            f"command line {command_line!r} is not printable ASCII", hint="write it in printable ASCII characters only"
        )
    if initrd is InitrdArgument.SUFFIX:
        command_line = f"{command_line} {_INITRD}"
    elif initrd is InitrdArgument.PREFIX:
        command_line = f"{_INITRD} {command_line}"
    return (command_line + "\0").encode("utf-16-le")
