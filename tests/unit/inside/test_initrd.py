"""The initrd: everything its init needs is in it, or there is no initrd."""

import lzma
from typing import Any

import pytest

from tests.fakes.deb_files import member
from tests.fakes.elf_files import module_file, program_file, static_program_file
from tests.fakes.leg_directory import LegDirectory

MODULES = "./lib/modules/6.12.95"
KERNEL = (
    member(f"{MODULES}/modules.builtin", b""),
    member(f"{MODULES}/kernel/dm-mod.ko.xz", lzma.compress(module_file("depends="))),
    member(f"{MODULES}/kernel/dm-verity.ko.xz", lzma.compress(module_file("depends=dm-mod"))),
)
BUSYBOX = member("./bin/busybox", static_program_file(), mode=0o755)


@pytest.fixture
def parameters(leg: LegDirectory) -> dict[str, Any]:
    return {
        "packages": [leg.put_package("busybox", BUSYBOX, member("./usr/share/unwanted", b"x"))],
        "kernel_packages": [leg.put_package("linux", *KERNEL)],
        "programs": ["bin/busybox"],
        "modules": ["dm-verity"],
        "files": [{"path": "init", "input": leg.put("in/files/init", b"#!/bin/busybox sh\n"), "executable": True}],
        "source_date_epoch": 1767225600,
    }


def names(archive: bytes) -> list[bytes]:
    found = []
    offset = 0
    while True:
        size, name_size = (int(archive[offset + at : offset + at + 8], 16) for at in (54, 94))
        name = archive[offset + 110 : offset + 109 + name_size]
        if name == b"TRAILER!!!":
            return found
        found.append(name)
        offset += (110 + name_size + 3) // 4 * 4 + (size + 3) // 4 * 4


def test_programs_modules_and_files_are_there_and_nothing_else(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    leg.make("initrd", parameters)
    assert names(leg.output("initrd.img")) == [
        b"bin",
        b"dev",
        b"init",
        b"lib",
        b"proc",
        b"run",
        b"sys",
        b"sysroot",
        b"usr",
        b"usr/bin",
        b"usr/bin/busybox",
        b"usr/lib",
        b"usr/lib/modules",
        b"usr/lib/modules/6.12.95",
        b"usr/lib/modules/6.12.95/kernel",
        b"usr/lib/modules/6.12.95/kernel/dm-mod.ko",
        b"usr/lib/modules/6.12.95/kernel/dm-verity.ko",
        b"usr/lib/tdx-builder",
        b"usr/lib/tdx-builder/modules",
    ]


def test_modules_are_listed_in_the_order_of_loading(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    leg.make("initrd", parameters)
    directory = b"/usr/lib/modules/6.12.95/kernel"
    assert directory + b"/dm-mod.ko\n" + directory + b"/dm-verity.ko\n" in leg.output("initrd.img")


def test_umask_locale_time_zone_and_hash_seed_do_not_matter(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    leg.make("initrd", parameters)
    first = leg.output("initrd.img")
    (leg.path / "out" / "initrd.img").unlink()
    environment = {
        "LC_ALL": "C",
        "TZ": "GMT-14",
        "PYTHONHASHSEED": "7",
        "SOURCE_DATE_EPOCH": "1",
        "LANG": "de_DE.UTF-8",
    }
    assert leg.run("initrd", parameters, umask=0o077, **environment).status == 0
    assert leg.output("initrd.img") == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": []}, "initrd: no /init"),
        ({"programs": ["sbin/dmsetup"]}, "initrd: no file sbin/dmsetup"),
        ({"modules": ["overlay"]}, "initrd: no kernel module overlay"),
        ({"kernel_packages": []}, "initrd: modules of 0 kernels, wanted one: none"),
        ({"files": [{"path": "init", "input": "in/gone", "executable": True}]}, "in/gone: No such file or directory"),
        (
            {"files": [{"path": "dev", "input": "in/files/init", "executable": True}]},
            "/dev: a file of the recipe cannot",
        ),
        ({"files": [{"path": "init", "input": "in/files/init"}]}, "parameters: executable is None, wanted bool"),
    ],
)
def test_an_initrd_that_could_not_boot_is_refused(
    leg: LegDirectory, parameters: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    assert leg.refusal("initrd", {**parameters, **change}).startswith(message)


def test_a_library_that_no_package_has_is_refused(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    package = leg.put_package("dmsetup", member("./sbin/dmsetup", program_file("libgone.so.1"), mode=0o755))
    message = leg.refusal("initrd", {**parameters, "packages": [package], "programs": ["sbin/dmsetup"]})
    assert "usr/sbin/dmsetup loads libgone.so.1, which no package has" in message


def test_a_kernel_with_everything_built_in_needs_no_package(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    leg.make("initrd", {**parameters, "kernel_packages": [], "modules": []})
    archive = leg.output("initrd.img")
    assert b"usr/lib/tdx-builder/modules" in names(archive)  # an empty list: init reads it all the same
    assert not [name for name in names(archive) if name.startswith(b"usr/lib/modules")]


def test_a_module_without_a_kernel_package_is_refused(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    message = leg.refusal("initrd", {**parameters, "kernel_packages": []})
    assert message.startswith("initrd: modules of 0 kernels, wanted one")
