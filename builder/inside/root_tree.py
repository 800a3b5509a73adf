"""Makes the tree of the guest's root: packages, accounts, the app image and the recipe's files, as one tar file.

No maintainer script is run: the root is what the packages hold, plus what is named here.
Parameters: `packages`, `exclude`, `files`, `app_image`, `app_digest`, `source_date_epoch`.
"""

from collections.abc import Iterator

from builder.errors import DocumentError
from builder.inside.own_files import add_own_files
from builder.inside.packages import Spool, package_records, unpack_packages
from builder.inside.program import Parameters, read_input, run_program, write_output
from builder.normalize.deb import EntryKind, merged_usr_path, read_entries
from builder.normalize.tar import encode_tar
from builder.normalize.tree import Kind, Member, Tree, add_merged_usr_links, directory_member, file_member

OUTPUT = "root.tar"
INIT = "sbin/init"  # what the initrd starts
APP_LAYOUT = "usr/lib/tdx-builder/app"
APP_DIGEST = "usr/lib/tdx-builder/app.digest"
MOUNT_POINTS = ("dev", "proc", "run", "sys")
ACCOUNTS = {  # as base-passwd's maintainer script would make them
    "usr/share/base-passwd/passwd.master": "etc/passwd",
    "usr/share/base-passwd/group.master": "etc/group",
}
DOCUMENTATION = "usr/share/doc"


def make_root_tree(parameters: Parameters) -> None:
    """Write `root.tar`, sorted, every time SOURCE_DATE_EPOCH, owners and modes as in the packages."""
    packages = parameters.texts("packages")
    tree = unpack_packages(packages, Spool())
    accounts = tuple(_accounts(tree))  # the masters may be excluded
    for directory in parameters.texts("exclude"):
        _exclude(tree, merged_usr_path(directory))
    for member in (*package_records(packages), *accounts, *_app(parameters), *_fixed_members(tree)):
        tree.add(member, origin="the guest OS component")
    add_own_files(tree, parameters)
    add_merged_usr_links(tree)
    tree.file(INIT, what="guest OS")
    write_output(OUTPUT, encode_tar(tree.members(), epoch=parameters.integer("source_date_epoch")))


def _exclude(tree: Tree, directory: str) -> None:
    """Remove a directory, but never a licence: `copyright` files and the links between documentation directories."""
    members = [*tree.below(directory), *filter(None, [tree.get(directory)])]
    if not members:
        raise DocumentError(f"exclude: no package has {directory}", hint="take it out of the recipe")
    for member in members:
        if not _is_kept(member):
            tree.remove(member.path)


def _is_kept(member: Member) -> bool:
    parent, _, name = member.path.rpartition("/")
    if member.kind is Kind.SYMLINK and parent == DOCUMENTATION:
        return True
    return name == "copyright" and parent.rpartition("/")[0] == DOCUMENTATION


def _accounts(tree: Tree) -> Iterator[Member]:
    for master, path in ACCOUNTS.items():
        member = tree.get(master)
        if member is not None:
            yield file_member(path, member.read())


def _fixed_members(tree: Tree) -> Iterator[Member]:
    """Empty machine-id (determinism.md 2.3) and mount points, unless a package has them."""
    members = (file_member("etc/machine-id", b""), *(directory_member(path) for path in MOUNT_POINTS))
    return (member for member in members if tree.get(member.path) is None)


def _app(parameters: Parameters) -> Iterator[Member]:
    yield file_member(APP_DIGEST, read_input(parameters.text("app_digest")))
    for entry in read_entries(read_input(parameters.text("app_image")), what="app image"):
        if entry.kind is EntryKind.FILE:
            yield file_member(f"{APP_LAYOUT}/{entry.path}", entry.data)


if __name__ == "__main__":
    run_program(make_root_tree)
