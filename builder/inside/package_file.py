"""Takes one file out of packages: the firmware, the kernel.

Parameters: `packages`, `file` (path in the packages), `output`.
"""

from builder.inside.packages import Spool, unpack_packages
from builder.inside.program import Parameters, run_program, write_output


def take_file(parameters: Parameters) -> None:
    """Write the file to the output; links to it are followed."""
    tree = unpack_packages(parameters.texts("packages"), Spool())
    file = tree.file(parameters.text("file"), what="packages")[-1]
    write_output(parameters.text("output"), file.content)


if __name__ == "__main__":
    run_program(take_file)
