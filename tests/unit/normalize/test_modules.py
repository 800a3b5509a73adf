"""Kernel modules: in an order that works, uncompressed, and never fewer than asked for."""

import lzma

import pytest

from builder.errors import DocumentError
from builder.normalize.modules import module_members
from builder.normalize.tree import Member, Tree, file_member
from tests.fakes.elf_files import module_file

DIRECTORY = "usr/lib/modules/6.12.95"
BUILT_IN = file_member(f"{DIRECTORY}/modules.builtin", b"kernel/drivers/virtio/virtio_pci.ko\n")


def module(path: str, *fields: str) -> Member:
    data = module_file(*fields)
    return file_member(f"{DIRECTORY}/kernel/{path}", lzma.compress(data) if path.endswith(".xz") else data)


MODULES = (
    BUILT_IN,
    module("md/dm-mod.ko.xz", "depends="),
    module("md/dm-bufio.ko.xz", "depends=dm-mod"),
    module("md/dm-verity.ko.xz", "depends=dm-mod,dm-bufio", "softdep=pre: sha256 post: other"),
    module("crypto/sha256.ko", "depends="),
    module("fs/squashfs.ko", "depends="),
)


def names(members: tuple[Member, ...], *wanted: str) -> list[str]:
    tree = Tree()
    for member in members:
        tree.add(member, origin="linux.deb")
    found = module_members(tree, wanted, what="initrd")
    assert all(member.read().startswith(b"\x7fELF") for member in found)
    return [member.path.removeprefix(f"{DIRECTORY}/kernel/") for member in found]


def test_each_module_comes_after_what_it_needs_and_only_once() -> None:
    assert names(MODULES, "squashfs", "dm_verity", "dm-bufio") == [
        "fs/squashfs.ko",
        "md/dm-mod.ko",
        "md/dm-bufio.ko",
        "crypto/sha256.ko",
        "md/dm-verity.ko",
    ]


def test_a_module_that_is_built_in_is_left_out() -> None:
    assert names(MODULES, "virtio-pci") == []


def test_the_unknown_module_is_named_with_the_one_that_needs_it() -> None:
    with pytest.raises(DocumentError, match="initrd: no kernel module overlay"):
        names(MODULES, "overlay")
    with pytest.raises(DocumentError, match=r"initrd: no kernel module gone \(needed by asks\)"):
        names((*MODULES, module("a/asks.ko", "depends=gone")), "asks")


def test_modules_that_need_each_other_in_a_circle_are_refused() -> None:
    circle = (module("a/one.ko", "depends=two"), module("a/two.ko", "depends=one"))
    with pytest.raises(DocumentError, match="circle: one -> two -> one"):
        names((BUILT_IN, *circle), "one")


def test_two_modules_of_one_name_are_refused() -> None:
    with pytest.raises(DocumentError, match="two kernel modules of one name"):
        names((*MODULES, module("other/dm_mod.ko", "depends=")), "squashfs")


def test_modules_of_no_kernel_or_of_two_are_refused() -> None:
    with pytest.raises(DocumentError, match="initrd: modules of 0 kernels, wanted one: none"):
        names((), "squashfs")
    second = file_member("usr/lib/modules/6.1/modules.builtin", b"")
    with pytest.raises(DocumentError, match=r"modules of 2 kernels, wanted one: 6\.1, 6\.12\.95"):
        names((*MODULES, second), "squashfs")


def test_a_kernel_that_does_not_say_what_is_built_in_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"initrd: no file .*/modules\.builtin"):
        names(MODULES[1:], "squashfs")


@pytest.mark.parametrize("data", [b"", b"not xz", lzma.compress(bytes(5000))[:-20], lzma.compress(b"not a module")])
def test_a_damaged_module_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"kernel/a/bad\.ko"):
        names((BUILT_IN, file_member(f"{DIRECTORY}/kernel/a/bad.ko.xz", data)), "bad")


def test_a_module_that_would_fill_memory_is_refused() -> None:
    bomb = lzma.compress(bytes(65 << 20), preset=0)
    with pytest.raises(DocumentError, match="unpacks to more than"):
        names((BUILT_IN, file_member(f"{DIRECTORY}/kernel/a/bomb.ko.xz", bomb)), "bomb")


def test_a_soft_dependency_by_an_alias_is_left_to_the_kernel() -> None:
    asks = module("lib/libcrc32c.ko", "depends=", "softdep=pre: crc32c")
    assert names((*MODULES, asks), "libcrc32c") == ["lib/libcrc32c.ko"]
