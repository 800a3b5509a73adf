"""Firmware from source: how edk2 is called, and that what it leaves is checked. edk2 itself is a stand-in here."""

import json
import lzma
import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.boot_files import OTHER_ENTRY, Firmware
from tests.fakes.deb_files import member, tar_archive
from tests.fakes.leg_directory import LegDirectory

TARBALL = "in/sources/edk2_2025.02.orig.tar.xz"
SIZE = 1 << 20
BUILD = "edk2/Build/Sample/RELEASE_GCCNOLTO"
DESCRIPTION = b"[Defines]\r\n  PLATFORM_NAME = Sample\r\n  OUTPUT_DIRECTORY  = Build/Sample\r\n"
FLAGS = b"DEFINE GCC_ALL_CC_FLAGS   = -g -Os -Werror\r\nDEFINE OTHER = DEF(GCC_ALL_CC_FLAGS)\r\n"
RULE = b'    <Command.GCC>\r\n        "$(GENFW)" -e $(MODULE_TYPE) -o ${dst} ${src} $(GENFW_FLAGS)\r\n'
MODULES = b"GUID SecMain\nGUID TdTcg2Dxe\nGUID Tcg2Dxe\n"

# edk2's build in small: it leaves the firmware that the tarball holds, and what it was told
BUILD_PROGRAM = b"""\
import json, os, shutil, sys, time
assert os.getcwd() == os.environ["WORKSPACE"]
output = "Build/Sample/RELEASE_GCCNOLTO/FV"
os.makedirs(output)
for name in ("OVMF.fd", "Guid.xref"):
    if os.path.exists(name):
        shutil.copy(name, output)
with open("told.json", "w") as file:
    told = {"argv": sys.argv[1:], "environment": dict(os.environ), "sleep": time.sleep.__module__}
    json.dump({**told, "slept": time.sleep(0.001)}, file)
sys.exit(os.path.exists("broken"))
"""
GOOD = {
    "BaseTools/Conf/target.template": b"",
    "BaseTools/Conf/tools_def.template": FLAGS,
    "BaseTools/Conf/build_rule.template": RULE,
    "BaseTools/Source/C/GNUmakefile": b"",
    "BaseTools/Source/Python/build/build.py": BUILD_PROGRAM,
    "Conf/ReadMe.txt": b"",
    "Sample/Sample.dsc": DESCRIPTION,
    "Guid.xref": MODULES,
    "OVMF.fd": Firmware(size=SIZE).encode(),
}
DEFINES = {"FD_SIZE_1MB": "TRUE", "CC_MEASUREMENT_ENABLE": "TRUE", "TPM2_ENABLE": "TRUE"}


@pytest.fixture
def programs(tmp_path: Path) -> str:
    """PATH with what the program starts: this Python, and a make that succeeds."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "python3").symlink_to(sys.executable)
    (directory / "make").write_text('#!/bin/sh\necho "$@" >made\n')
    (directory / "make").chmod(0o755)
    return f"{directory}:{os.defpath}"


def put_source(leg: LegDirectory, **changes: bytes | None) -> None:
    files = {**GOOD, **{name.replace("__", "/"): data for name, data in changes.items()}}
    members = [member(f"edk2-2025.02/{name}", data) for name, data in files.items() if data is not None]
    link = member("edk2-2025.02/EmulatorPkg/X11", kind=tarfile.SYMTYPE, target="/opt/X11")  # as the real one has
    leg.put(TARBALL, lzma.compress(tar_archive([*members, link])))


def parameters(**changes: Any) -> dict[str, Any]:
    return {
        "sources": [{"component": "", "input": TARBALL}],
        "files": [],
        "platform": "Sample/Sample.dsc",
        "defines": [{"name": name, "value": value} for name, value in DEFINES.items()],
        "source_date_epoch": 1767225600,
        **changes,
    }


def build(leg: LegDirectory, programs: str, **changes: Any) -> dict[str, Any]:
    """Run the program, which has to succeed: what the build was told."""
    completed = leg.run("edk2", parameters(**changes), PATH=programs)
    assert completed.status == 0, completed.stderr.decode()
    told: dict[str, Any] = json.loads((leg.path / "edk2/told.json").read_bytes())
    return told


def refusal(leg: LegDirectory, programs: str, **changes: Any) -> str:
    completed = leg.run("edk2", parameters(**changes), PATH=programs)
    assert completed.status == 1
    assert not list((leg.path / "out").iterdir()), "a failed build left an output"
    return completed.stderr.decode().splitlines()[-1].removeprefix("edk2: ")


def test_the_firmware_is_what_the_build_left(leg: LegDirectory, programs: str) -> None:
    put_source(leg)
    told = build(leg, programs)
    assert leg.output("OVMF.fd") == GOOD["OVMF.fd"]
    words = " ".join(told["argv"])
    assert "-a X64 -b RELEASE -t GCCNOLTO" in words
    assert "-p Sample/Sample.dsc" in words
    assert "-D FD_SIZE_1MB=TRUE -D CC_MEASUREMENT_ENABLE=TRUE -D TPM2_ENABLE=TRUE" in words
    assert f"-n {len(os.sched_getaffinity(0))} " in words


def test_the_variation_of_a_leg_reaches_only_what_cannot_show_it(leg: LegDirectory, programs: str) -> None:
    put_source(leg)
    completed = leg.run("edk2", parameters(), PATH=programs, LC_ALL="de_DE.UTF-8", MAKEFLAGS="-j7", TZ="GMT-14")
    assert completed.status == 0, completed.stderr.decode()
    environment = json.loads((leg.path / "edk2/told.json").read_bytes())["environment"]
    assert (environment["LC_ALL"], environment["MAKEFLAGS"], environment["TZ"]) == ("C.UTF-8", "", "GMT-14")
    assert environment["PYTHONHASHSEED"] == "0", "the cookie of a module is picked by a hash"


def test_python_sleeps_without_a_point_in_time(leg: LegDirectory, programs: str) -> None:
    """The one that Python has fails in a leg whose clock is ahead."""
    put_source(leg)
    told = build(leg, programs)
    assert (told["sleep"], told["slept"]) == ("sitecustomize", None)


def test_no_tool_is_made_whose_source_is_not_there(leg: LegDirectory, programs: str) -> None:
    put_source(leg)
    build(leg, programs)
    made = (leg.path / "edk2/made").read_text()
    assert "Brotli" not in made
    assert "CC=gcc CXX=g++" in made


def test_the_build_path_is_mapped_away_in_every_file(leg: LegDirectory, programs: str) -> None:
    put_source(leg)
    build(leg, programs)
    first, second = (leg.path / "edk2/Conf/tools_def.txt").read_text().splitlines()
    assert first.startswith("DEFINE GCC_ALL_CC_FLAGS   = -g -Os -Werror ")
    assert f" -ffile-prefix-map={leg.path}/edk2=edk2 " in first
    assert second == "DEFINE OTHER = DEF(GCC_ALL_CC_FLAGS)"


def test_no_image_has_room_for_a_build_path(leg: LegDirectory, programs: str) -> None:
    put_source(leg)
    build(leg, programs)
    rule = (leg.path / "edk2/Conf/build_rule.txt").read_text()
    assert "${src}" not in rule
    assert rule.splitlines()[1].strip().startswith('cd $(DEBUG_DIR) && "$(GENFW)" ')


def cookies(leg: LegDirectory) -> dict[int, list[int]]:
    return {bits: json.loads((leg.path / BUILD / f"StackCookieValues{bits}.json").read_bytes()) for bits in (32, 64)}


def test_stack_cookies_follow_from_the_source_and_nothing_else(tmp_path: Path, programs: str) -> None:
    legs = [LegDirectory(tmp_path / name) for name in ("a", "some-other-directory", "c")]
    for leg in legs:
        put_source(leg, **({"Conf__ReadMe.txt": b"another release"} if leg is legs[2] else {}))
        build(leg, programs)
    assert cookies(legs[0]) == cookies(legs[1]) != cookies(legs[2])
    for bits, values in cookies(legs[0]).items():
        assert len(set(values)) == 100
        assert all(0 < value < 1 << bits for value in values)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"OVMF.fd": Firmware(size=SIZE, footer=OTHER_ENTRY).encode()}, "the firmware has no TDX metadata"),
        ({"OVMF.fd": Firmware(size=2 * SIZE).encode()}, f"the firmware has {2 * SIZE} bytes, wanted {SIZE}"),
        ({"OVMF.fd": None}, "FV/OVMF.fd: No such file or directory"),
        ({"Guid.xref": MODULES.replace(b" TdTcg2Dxe", b" TdTcg2Pei")}, "the firmware has no TdTcg2Dxe"),
        ({"Guid.xref": None}, "FV/Guid.xref: No such file or directory"),
        ({"broken": b""}, "build.py -s -a X64"),
        ({"BaseTools/Conf/tools_def.template": b""}, "defines GCC_ALL_CC_FLAGS 0 times, wanted once"),
        ({"BaseTools/Conf/tools_def.template": 2 * FLAGS}, "defines GCC_ALL_CC_FLAGS 2 times, wanted once"),
        ({"BaseTools/Conf/build_rule.template": b""}, 'build_rule.template has no rule "$(GENFW)"'),
        ({"Sample/Sample.dsc": b"[Defines]\n"}, "states 0 plain OUTPUT_DIRECTORY"),
        ({"Sample/Sample.dsc": DESCRIPTION.replace(b"Build/", b"/tmp/../")}, "states 0 plain OUTPUT_DIRECTORY"),
        ({"Sample/Sample.dsc": None}, "Sample.dsc: No such file or directory"),
    ],
)
def test_a_build_that_is_not_what_was_asked_for_ends_here(
    leg: LegDirectory, programs: str, changes: dict[str, bytes | None], reason: str
) -> None:
    put_source(leg, **changes)
    assert reason in refusal(leg, programs)


@pytest.mark.parametrize("yes", ["TRUE", "true", "1"])
def test_a_define_is_a_promise_in_every_spelling_of_edk2(leg: LegDirectory, programs: str, yes: str) -> None:
    put_source(leg, **{"Guid.xref": MODULES.replace(b" TdTcg2Dxe", b" Other")})
    defines = [{"name": "FD_SIZE_1MB", "value": "TRUE"}, {"name": "CC_MEASUREMENT_ENABLE", "value": yes}]
    assert "the firmware has no TdTcg2Dxe" in refusal(leg, programs, defines=defines)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sources": []}, "0 tarballs, wanted one"),
        ({"sources": 2 * [{"component": "", "input": TARBALL}]}, "2 tarballs, wanted one"),
        ({"defines": []}, "0 of FD_SIZE_1MB, FD_SIZE_2MB, FD_SIZE_4MB are defined, wanted one"),
        ({"files": [{"path": "README", "input": "in/files/README", "executable": False}]}, "README is not a patch"),
        ({"platform": "Other/Other.dsc"}, "Other.dsc: No such file or directory"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(
    leg: LegDirectory, programs: str, changes: dict[str, Any], reason: str
) -> None:
    put_source(leg)
    assert reason in refusal(leg, programs, **changes)


@pytest.mark.skipif(shutil.which("patch") is None, reason="patch(1) is not installed")
def test_patches_are_applied_in_the_order_of_their_names(leg: LegDirectory, programs: str) -> None:
    put_source(leg)
    texts = {"0002-b.patch": ("one", "two"), "0001-a.patch": (None, "one")}
    files = []
    for name, (old, new) in texts.items():
        range_ = "@@ -0,0 +1 @@" if old is None else "@@ -1 +1 @@"
        removed = "" if old is None else f"-{old}\n"
        text = f"--- a/Conf/ReadMe.txt\n+++ b/Conf/ReadMe.txt\n{range_}\n{removed}+{new}\n"
        files.append({"path": name, "input": leg.put(f"in/files/{name}", text.encode()), "executable": False})
    build(leg, programs, files=files)
    assert (leg.path / "edk2/Conf/ReadMe.txt").read_text() == "two\n"
