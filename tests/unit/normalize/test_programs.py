"""Programs with what they load: a missing library is an error here, not a boot that stops."""

import pytest

from builder.errors import DocumentError
from builder.normalize.programs import program_members
from builder.normalize.tree import Member, Tree, file_member, symlink_member
from tests.fakes.elf_files import program_file, static_program_file

LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = (
    symlink_member("usr/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
    file_member(f"{LIBRARIES}/ld-linux-x86-64.so.2", static_program_file(), executable=True),
)
LIBC = file_member(f"{LIBRARIES}/libc.so.6", program_file("ld-linux-x86-64.so.2", loader=None))


def tree_of(*members: Member) -> Tree:
    tree = Tree()
    for member in members:
        tree.add(member, origin="sample.deb")
    return tree


def program(*libraries: str) -> Member:
    return file_member("usr/sbin/dmsetup", program_file(*libraries), executable=True)


def test_libraries_of_libraries_links_and_the_loader_come_along() -> None:
    one = symlink_member(f"{LIBRARIES}/libone.so.1", "libone.so.1.2")
    real = file_member(f"{LIBRARIES}/libone.so.1.2", program_file("libc.so.6", loader=None))
    tree = tree_of(program("libone.so.1"), one, real, LIBC, *LOADER, file_member("usr/share/unwanted", b""))
    found = program_members(tree, ["sbin/dmsetup"], what="initrd")
    assert [member.path for member in found] == [
        f"{LIBRARIES}/ld-linux-x86-64.so.2",
        f"{LIBRARIES}/libc.so.6",
        f"{LIBRARIES}/libone.so.1",
        f"{LIBRARIES}/libone.so.1.2",
        "usr/lib64/ld-linux-x86-64.so.2",
        "usr/sbin/dmsetup",
    ]


def test_libraries_that_need_each_other_are_found_once() -> None:
    one = file_member(f"{LIBRARIES}/libone.so", program_file("libtwo.so", loader=None))
    two = file_member(f"{LIBRARIES}/libtwo.so", program_file("libone.so", loader=None))
    found = program_members(tree_of(program("libone.so"), one, two, *LOADER), ["sbin/dmsetup"], what="initrd")
    assert len(found) == 5


def test_a_static_program_comes_alone() -> None:
    tree = tree_of(file_member("usr/bin/busybox", static_program_file()), LIBC, *LOADER)
    assert [member.path for member in program_members(tree, ["bin/busybox"], what="initrd")] == ["usr/bin/busybox"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((), "initrd: no file sbin/dmsetup"),
        ((program("libc.so.6"), *LOADER), r"usr/sbin/dmsetup loads libc\.so\.6, which no package has"),
        ((program(),), "initrd: no file lib64/ld-linux-x86-64.so.2"),
        ((program(), LOADER[0]), r"no file .* \(it leads to usr/lib/x86_64-linux-gnu/ld-linux"),
        ((file_member("usr/sbin/dmsetup", b"#!/bin/sh\n"),), "initrd: usr/sbin/dmsetup is a script"),
        ((file_member("usr/sbin/dmsetup", b"text"),), "initrd: usr/sbin/dmsetup: not a 64-bit little-endian ELF file"),
    ],
)
def test_a_program_that_could_not_start_is_refused(members: tuple[Member, ...], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        program_members(tree_of(*members), ["sbin/dmsetup"], what="initrd")
