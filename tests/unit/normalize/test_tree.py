"""Trees: what must never happen is that two packages disagree and one of them wins in silence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.normalize.tree import (
    Kind,
    Member,
    Tree,
    add_merged_usr_links,
    directory_member,
    file_member,
    symlink_member,
)


def tree_of(*members: Member) -> Tree:
    tree = Tree()
    for member in members:
        tree.add(member, origin="one.deb")
    return tree


def paths(tree: Tree) -> list[str]:
    return [member.path for member in tree.members()]


def test_two_packages_may_ship_the_same_thing() -> None:
    tree = tree_of(file_member("usr/a", b"same"))
    tree.add(file_member("usr/a", b"same"), origin="two.deb")
    assert paths(tree) == ["usr", "usr/a"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (file_member("a", b"one"), file_member("a", b"two")),
        (file_member("a", b"one"), file_member("a", b"one", executable=True)),
        (file_member("a", b"one"), directory_member("a")),
        (file_member("a", b"one"), symlink_member("a", "b")),
        (symlink_member("a", "b"), symlink_member("a", "c")),
        (directory_member("a"), directory_member("a", 0o1777)),
        (directory_member("a"), Member("a", Kind.DIRECTORY, 0o755, gid=8)),
        (directory_member("a"), Member("a", Kind.DIRECTORY, 0o755, uid=8)),
    ],
)
def test_packages_that_differ_on_a_path_are_refused_by_name(first: Member, second: Member) -> None:
    tree = tree_of(first)
    with pytest.raises(DocumentError, match=r"/a: one\.deb and two\.deb differ on it"):
        tree.add(second, origin="two.deb")
    assert tree.get("a") is first


def test_a_file_of_the_recipe_replaces_a_file_of_a_package() -> None:
    tree = tree_of(file_member("etc/motd", b"theirs"))
    tree.put(file_member("etc/motd", b"ours"), origin="the recipe")
    assert [member.read() for member in tree.below("etc")] == [b"ours"]


@pytest.mark.parametrize(
    ("there", "new"),
    [(directory_member("etc"), file_member("etc", b"")), (file_member("etc", b""), directory_member("etc"))],
)
def test_a_directory_and_a_file_never_replace_each_other(there: Member, new: Member) -> None:
    with pytest.raises(DocumentError, match=r"/etc: a .* of the recipe cannot replace a .* of one\.deb"):
        tree_of(there).put(new, origin="the recipe")


def test_missing_directories_are_made_and_come_first() -> None:
    tree = tree_of(file_member("usr/bin/sh", b""), file_member("usr/bin-x", b""))
    assert paths(tree) == ["usr", "usr/bin", "usr/bin-x", "usr/bin/sh"]
    assert {member.mode for member in tree.members() if member.kind is Kind.DIRECTORY} == {0o755}


def test_the_top_directory_is_no_member() -> None:
    assert paths(tree_of(directory_member("", 0o700), file_member("a", b""))) == ["a"]


@pytest.mark.parametrize("above", [file_member("lib", b""), symlink_member("lib", "/etc")])
def test_nothing_lies_below_a_file_or_a_link(above: Member) -> None:
    with pytest.raises(DocumentError, match=r"/lib/x of one\.deb lies below /lib, which is a .* of one\.deb"):
        tree_of(above, file_member("lib/x", b"")).members()


NAMES = ["a/b/x", "a/b-/x", "a.x", "b/c/d/y", "b/z", "ü"]


@given(st.permutations(NAMES))
def test_members_do_not_depend_on_the_order_they_came_in(names: list[str]) -> None:
    directories = {"a", "a/b", "a/b-", "b", "b/c", "b/c/d"}
    assert paths(tree_of(*(file_member(name, b"") for name in names))) == sorted({*NAMES, *directories}, key=str.encode)


def test_a_path_below_bin_or_lib_is_found_in_usr_and_through_links() -> None:
    tree = tree_of(
        symlink_member("usr/lib64/ld.so", "/lib/x86_64-linux-gnu/ld.so.2"),
        symlink_member("usr/lib/x86_64-linux-gnu/ld.so.2", "../real/ld.so.2"),
        file_member("usr/lib/real/ld.so.2", b"loader"),
    )
    found = tree.file("lib64/ld.so", what="sample")
    assert [member.path for member in found] == [
        "usr/lib64/ld.so",
        "usr/lib/x86_64-linux-gnu/ld.so.2",
        "usr/lib/real/ld.so.2",
    ]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((), "sample: no file bin/x"),
        ((directory_member("usr/bin/x"),), "sample: no file bin/x"),
        ((symlink_member("usr/bin/x", "y"),), r"sample: no file bin/x \(it leads to usr/bin/y\)"),
        ((symlink_member("usr/bin/x", "x"),), "sample: no file bin/x"),
        ((symlink_member("usr/bin/x", "../../../etc/passwd"),), "leads outside of the tree"),
    ],
)
def test_a_file_that_is_not_there_is_refused(members: tuple[Member, ...], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        tree_of(*members).file("bin/x", what="sample")


def test_links_into_usr_are_made_only_for_what_is_there() -> None:
    tree = tree_of(file_member("usr/bin/sh", b""), file_member("usr/lib/libc", b""))
    add_merged_usr_links(tree)
    assert [(member.path, member.target) for member in tree.members() if member.kind is Kind.SYMLINK] == [
        ("bin", "usr/bin"),
        ("lib", "usr/lib"),
    ]
