"""A kernel from source: how Linux's make is called, and what is checked. Linux itself is a stand-in here."""

import lzma
import os
from pathlib import Path
from typing import Any

import pytest

from builder.inside.linux_kernel import build_variables, is_unread
from tests.fakes.deb_files import member, tar_archive
from tests.fakes.leg_directory import LegDirectory

TARBALL = "in/sources/linux_6.18.15.orig.tar.xz"
KCONFIG = b"config SMP\nconfig MODULES\nconfig TDX_GUEST\nconfig CPUS\n"
SOURCE = {
    "Kconfig": KCONFIG,
    "version": b"6.18.15\n",
    "arch/arm/Kconfig": b"config ARM_ONLY\n",
    "sound/core.c": b"",
    "sound/Kconfig": b"",
}
FRAGMENT = b"CONFIG_SMP=y\nCONFIG_CPUS=4\n# CONFIG_MODULES is not set\n"
REQUIRED = b"CONFIG_SMP=y\n"

# Kconfig drops the options in `lost` and the compiler's result is what it was told; `broken` and `turned` go wrong
MAKE = """\
#!/bin/sh -eu
for target; do :; done
case $target in
allnoconfig)
    { echo "# Automatically generated file; DO NOT EDIT."; cat "$KCONFIG_ALLCONFIG"; } >.config
    if [ -e lost ]; then grep -v "$(cat lost)" .config >.config.new; mv .config.new .config; fi ;;
bzImage)
    [ ! -e broken ]
    [ ! -e turned ] || echo CONFIG_MODULES=y >>.config
    mkdir -p arch/x86/boot
    { cat version; echo "$@"; env | grep ^KBUILD_ | sort; ls sound
    } >arch/x86/boot/bzImage ;;
esac
"""
PATCH = b"--- a/version\n+++ b/version\n@@ -1 +1 @@\n-6.18.15\n+6.18.15 patched\n"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """PATH with the stand-in for make in front."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "make").write_text(MAKE)
    (directory / "make").chmod(0o755)
    return f"{directory}:{os.defpath}"


def put_source(leg: LegDirectory, **changes: bytes) -> None:
    files = {**SOURCE, **changes}
    leg.put(
        TARBALL, lzma.compress(tar_archive([member(f"linux-6.18.15/{name}", data) for name, data in files.items()]))
    )


def parameters(leg: LegDirectory, **changes: Any) -> dict[str, Any]:
    return {
        "sources": [{"component": "", "input": TARBALL}],
        "config": [{"path": "files/a.config", "input": leg.put("in/own/a.config", FRAGMENT)}],
        "required": leg.put("in/own/required.config", REQUIRED),
        "patches": [],
        "source_date_epoch": 1767225600,
        **changes,
    }


def refusal(leg: LegDirectory, path: str, **changes: Any) -> str:
    completed = leg.run("linux_kernel", parameters(leg, **changes), PATH=path)
    assert completed.status == 1
    assert not list((leg.path / "out").iterdir()), "a failed program left an output"
    return completed.stderr.decode().splitlines()[-1].removeprefix("linux_kernel: ")


def test_the_kernel_and_its_configuration_are_kept(leg: LegDirectory, path: str) -> None:
    put_source(leg)
    completed = leg.run("linux_kernel", parameters(leg), PATH=path)
    assert completed.status == 0, completed.stderr.decode()
    assert leg.output("vmlinuz").startswith(b"6.18.15\n")
    config = b"# Automatically generated file; DO NOT EDIT.\nCONFIG_CPUS=4\n# CONFIG_MODULES is not set\nCONFIG_SMP=y\n"
    assert leg.output("kernel.config") == config


def test_nothing_of_the_machine_is_left_to_be_built_in(leg: LegDirectory, path: str) -> None:
    put_source(leg)
    leg.run("linux_kernel", parameters(leg), PATH=path, TZ="GMT-14", LC_ALL="de_DE.UTF-8", USER="somebody")
    assert leg.output("vmlinuz").decode().splitlines()[2:] == [
        "KBUILD_BUILD_HOST=tdx-builder",
        "KBUILD_BUILD_TIMESTAMP=2026-01-01 00:00:00 UTC",
        "KBUILD_BUILD_USER=tdx-builder",
        "KBUILD_BUILD_VERSION=1",
        "Kconfig",  # what was left of sound/
    ]


def test_a_time_without_its_zone_is_never_said() -> None:
    assert build_variables(0)["KBUILD_BUILD_TIMESTAMP"] == "1970-01-01 00:00:00 UTC"


def test_patches_are_applied(leg: LegDirectory, path: str) -> None:
    put_source(leg)
    patch = {"path": "0001.patch", "input": leg.put("in/files/0001.patch", PATCH), "executable": False}
    completed = leg.run("linux_kernel", parameters(leg, patches=[patch]), PATH=path)
    assert completed.status == 0, completed.stderr.decode()
    assert leg.output("vmlinuz").startswith(b"6.18.15 patched\n")


def test_a_file_that_is_no_patch_is_refused(leg: LegDirectory, path: str) -> None:
    put_source(leg)
    assert "readme is not a patch" in refusal(leg, path, patches=[{"path": "readme", "input": "in/files/readme"}])


def test_an_option_that_kconfig_drops_stops_the_build(leg: LegDirectory, path: str) -> None:
    put_source(leg, lost=b"CONFIG_SMP")
    assert "not what a fragment asks for: CONFIG_SMP is absent, wanted y" in refusal(leg, path)


def test_a_required_option_that_no_fragment_sets_stops_the_build(leg: LegDirectory, path: str) -> None:
    put_source(leg)
    required = leg.put("in/own/required", b"CONFIG_TDX_GUEST=y\n")
    assert "CONFIG_TDX_GUEST is absent, wanted y" in refusal(leg, path, required=required)


@pytest.mark.parametrize("place", ["config", "required"])
@pytest.mark.parametrize("option", ["# CONFIG_MODULE is not set\n", "CONFIG_ARM_ONLY=y\n"])
def test_an_option_that_this_kernel_does_not_know_stops_the_build(
    leg: LegDirectory, path: str, option: str, place: str
) -> None:
    put_source(leg)
    file = leg.put("in/own/b.config", option.encode())
    changes = {"required": file} if place == "required" else {"config": [{"path": "b.config", "input": file}]}
    assert "this kernel knows no CONFIG_" in refusal(leg, path, **changes)


def test_a_configuration_that_changes_after_the_check_is_refused(leg: LegDirectory, path: str) -> None:
    put_source(leg, turned=b"")
    assert "changed the kernel's configuration after it was checked" in refusal(leg, path)


def test_a_build_that_fails_leaves_nothing(leg: LegDirectory, path: str) -> None:
    put_source(leg, broken=b"")
    assert "bzImage ended with exit status 1" in refusal(leg, path)


def test_a_source_of_several_tarballs_is_refused(leg: LegDirectory, path: str) -> None:
    tarballs = [{"component": name, "input": TARBALL} for name in ("", "more")]
    assert "2 tarballs, wanted one" in refusal(leg, path, sources=tarballs)


@pytest.mark.parametrize(
    "path",
    [
        "Makefile",
        "arch/Kconfig",
        "arch/arm/crypto/Kconfig",
        "arch/x86/Kconfig",
        "arch/x86/kernel/setup.c",
        "Documentation/Kconfig",
        "drivers/gpu/drm/Kconfig.debug",
        "drivers/net/ethernet/Makefile",
        "drivers/net/virtio_net.c",
        "sound/Kbuild",
        "soundness.c",
        "tools/objtool/check.c",
    ],
)
def test_what_kconfig_make_and_the_guest_need_is_unpacked(path: str) -> None:
    assert not is_unread(path)


@pytest.mark.parametrize(
    "path",
    [
        "arch/arm/kernel/setup.c",
        "arch/x86_other/setup.c",
        "drivers/gpu/drm/i915/i915_drv.c",
        "sound/core.c",
        "rust/lib.rs",
    ],
)
def test_what_nobody_reads_is_left_out(path: str) -> None:
    assert is_unread(path)
