"""Makes the tree of the guest's root: packages, accounts, the app image and the recipe's files, as one tar file.

No maintainer script is run: the root is what the packages hold, plus what is named here.
Parameters: `packages` or `installed` (a tar file; the other is empty), `exclude`, `files`, `links`, `app_image`,
`app_digest`, `app_compose`, `source_date_epoch`.
"""

from collections.abc import Iterator
from pathlib import Path

from builder.errors import DocumentError
from builder.inside.own_files import add_own_files
from builder.inside.packages import Spool, package_records, unpack_packages
from builder.inside.program import Parameters, read_input, run_program, write_output
from builder.inside.tree_files import read_tar
from builder.normalize.compose import parse_app_services, service_files
from builder.normalize.deb import EntryKind, merged_usr_path, read_entries
from builder.normalize.paths import link_path
from builder.normalize.programs import check_libraries
from builder.normalize.tar import encode_tar
from builder.normalize.tree import (
    Kind,
    Member,
    Tree,
    add_merged_usr_links,
    directory_member,
    file_member,
    symlink_member,
)

OUTPUT = "root.tar"
INIT = "sbin/init"  # what the initrd starts
APP_LAYOUT = "usr/lib/tdx-builder/app"
APP_DIGEST = "usr/lib/tdx-builder/app.digest"
APP_DESCRIPTION = "usr/lib/tdx-builder/app-compose.json"
APP_SERVICES = "usr/lib/tdx-builder/services"
MOUNT_POINTS = ("dev", "proc", "run", "sys")  # what is in them is made while the guest runs
ACCOUNTS = {  # as base-passwd's maintainer script would make them
    "usr/share/base-passwd/passwd.master": "etc/passwd",
    "usr/share/base-passwd/group.master": "etc/group",
}
DOCUMENTATION = "usr/share/doc"


def make_root_tree(parameters: Parameters) -> None:
    """Write `root.tar`, sorted, every time SOURCE_DATE_EPOCH, owners and modes as in the packages."""
    tree, records = _base(parameters)
    for directory in parameters.texts("exclude"):
        _exclude(tree, merged_usr_path(directory))
    for member in (*records, *_app(parameters), *_fixed_members(tree)):
        tree.add(member, origin="the guest OS component")
    add_own_files(tree, parameters)
    for link in parameters.objects("links"):
        _add_link(tree, link.text("path"), link.text("target"))
    add_merged_usr_links(tree)
    tree.file(INIT, what="guest OS")
    check_libraries(tree, what="guest OS")
    write_output(OUTPUT, encode_tar(tree.members(), epoch=parameters.integer("source_date_epoch"), top=True))


def _base(parameters: Parameters) -> tuple[Tree, tuple[Member, ...]]:
    """What there is before the recipe's own, and what the system says about it: packages, or what mkosi installed of
    them, which has package records and accounts already."""
    installed = parameters.texts("installed")
    if installed:
        return read_tar(Path(installed[0]), what="mkosi"), ()
    packages = parameters.texts("packages")
    tree = unpack_packages(packages, Spool())
    return tree, (*package_records(packages), *_accounts(tree))  # now: the masters of accounts may be excluded


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


def _add_link(tree: Tree, path: str, target: str) -> None:
    """A link where there is nothing yet, and never one to nowhere, unless that is below a mount point."""
    path = merged_usr_path(path)
    if _exists(tree, path):
        raise DocumentError(f"links: /{path} is there already", hint="exclude it, or take the link out of the recipe")
    place = link_path(path, target, what="links")
    if place.partition("/")[0] not in MOUNT_POINTS and not _exists(tree, place):
        raise DocumentError(f"links: {path} leads to /{place}, which is not in the root", hint="see what packages hold")
    tree.add(symlink_member(path, target), origin="the links of the recipe")


def _exists(tree: Tree, path: str) -> bool:
    return tree.get(path) is not None or next(tree.below(path), None) is not None


def _app(parameters: Parameters) -> Iterator[Member]:
    digest = read_input(parameters.text("app_digest"))
    yield file_member(APP_DIGEST, digest)
    for path in parameters.texts("app_compose"):
        description = read_input(path)
        yield file_member(APP_DESCRIPTION, description)
        for service in parse_app_services(description, digest=digest.decode("ascii").strip()):
            for name, data in service_files(service).items():
                yield file_member(f"{APP_SERVICES}/{service.name}/{name}", data)
    for entry in read_entries(read_input(parameters.text("app_image")), what="app image"):
        if entry.kind is EntryKind.FILE:
            yield file_member(f"{APP_LAYOUT}/{entry.path}", entry.data)


if __name__ == "__main__":
    run_program(make_root_tree)
