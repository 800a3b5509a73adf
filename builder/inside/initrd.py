"""Makes the initrd: programs with their libraries, kernel modules in the order of loading, and the recipe's files.

Parameters: `packages`, `kernel_packages`, `programs`, `modules`, `files`, `source_date_epoch`.
"""

from builder.errors import DocumentError
from builder.inside.own_files import add_own_files
from builder.inside.packages import Spool, unpack_packages
from builder.inside.program import Parameters, run_program, write_output
from builder.normalize.cpio import encode_cpio
from builder.normalize.modules import module_members
from builder.normalize.programs import program_members
from builder.normalize.tree import Member, Tree, add_merged_usr_links, directory_member, file_member

OUTPUT = "initrd.img"
INIT = "init"  # what the kernel starts
MODULE_LIST = "usr/lib/tdx-builder/modules"  # a path in each line, to be inserted in this order
MOUNT_POINTS = ("dev", "proc", "run", "sys", "sysroot")


def make_initrd(parameters: Parameters) -> None:
    """Write `initrd.img`, a cpio archive that is not compressed."""
    spool = Spool()
    tree = Tree()
    packages = unpack_packages(parameters.texts("packages"), spool)
    for member in program_members(packages, parameters.texts("programs"), what="initrd"):
        tree.add(member, origin="the packages")
    modules = _modules(parameters, spool)
    for member in modules:
        tree.add(member, origin="the kernel")
    listing = "".join(f"/{member.path}\n" for member in modules)
    tree.add(file_member(MODULE_LIST, listing.encode("utf-8")), origin="the modules")
    for path in MOUNT_POINTS:
        tree.add(directory_member(path), origin="the mount points")
    add_own_files(tree, parameters)
    add_merged_usr_links(tree)
    if tree.get(INIT) is None:
        raise DocumentError(f"initrd: no /{INIT}", hint=f"put an executable {INIT} among the files of the initrd")
    write_output(OUTPUT, encode_cpio(tree.members(), epoch=parameters.integer("source_date_epoch")))


def _modules(parameters: Parameters, spool: Spool) -> tuple[Member, ...]:
    """None are wanted of a kernel that has everything built in; it need not come in a package."""
    names = parameters.texts("modules")
    if not names:
        return ()
    return module_members(unpack_packages(parameters.texts("kernel_packages"), spool), names, what="initrd")


if __name__ == "__main__":
    run_program(make_initrd)
