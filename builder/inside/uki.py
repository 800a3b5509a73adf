"""Makes the unified kernel image: the EFI stub with kernel, initrd and command line as sections of one EFI program.

Parameters: `packages`, `stub` (path in the packages), `os_release` (text), `kernel`, `initrd` and `command_line` (paths
of what the steps before wrote).
"""

from builder.inside.packages import Spool, unpack_packages
from builder.inside.program import Parameters, read_input, run_program, write_output
from builder.normalize.uki import UkiSection, add_sections, kernel_version

OUTPUT = "uki.efi"


def make_uki(parameters: Parameters) -> None:
    """Write `uki.efi`. The kernel comes last: what it grows to in memory is then nobody else's."""
    packages = unpack_packages(parameters.texts("packages"), Spool())
    stub = packages.file(parameters.text("stub"), what="packages")[-1]
    kernel = read_input(parameters.text("kernel"))
    sections = (
        UkiSection(".osrel", parameters.text("os_release").encode("utf-8")),
        UkiSection(".cmdline", read_input(parameters.text("command_line"))),
        UkiSection(".uname", kernel_version(kernel).encode("ascii")),
        UkiSection(".initrd", read_input(parameters.text("initrd"))),
        UkiSection(".linux", kernel),
    )
    write_output(OUTPUT, (add_sections(stub.read(), sections),))


if __name__ == "__main__":
    run_program(make_uki)
