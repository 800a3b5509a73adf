"""The programs that make a UKI and a disk image: what is measured later is what went in."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from builder.backends.esp import MtoolsPartition
from builder.measure.boot.gpt import parse_gpt
from builder.measure.images.uki import parse_uki
from builder.pipeline.boot_disk import read_boot_disk
from tests.fakes.boot_files import bzimage
from tests.fakes.deb_files import member
from tests.fakes.efi_images import efi_stub
from tests.fakes.leg_directory import LegDirectory

STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
LINE = b"console=ttyS0 tdxb.roothash=0"
MIB = 1 << 20


def uki_parameters(leg: LegDirectory) -> dict[str, Any]:
    return {
        "packages": [leg.put_package("systemd-boot-efi", member(f"./{STUB}", efi_stub()))],
        "stub": STUB,
        "os_release": "ID=sample\n",
        "kernel": leg.put("in/kernel", bzimage(release=b"6.12.95-test (x@y)")),
        "initrd": leg.put("in/initrd", b"070701"),
        "command_line": leg.put("in/command_line", LINE),
    }


def test_the_uki_holds_what_went_in(leg: LegDirectory) -> None:
    leg.make("uki", uki_parameters(leg))
    assert parse_uki(leg.output("uki.efi")).profile(0) == {
        ".osrel": b"ID=sample\n",
        ".cmdline": LINE,
        ".uname": b"6.12.95-test",
        ".initrd": b"070701",
        ".linux": bzimage(release=b"6.12.95-test (x@y)"),
    }


@pytest.mark.parametrize(
    ("field", "content", "message"),
    [
        ("kernel", b"no kernel", "no Linux boot header"),
        ("initrd", b"", r"section '\.initrd' of 0 bytes"),
        ("command_line", b"", r"section '\.cmdline' of 0 bytes"),
    ],
)
def test_a_part_that_is_none_makes_no_uki(leg: LegDirectory, field: str, content: bytes, message: str) -> None:
    parameters = uki_parameters(leg)
    parameters[field] = leg.put(f"in/other-{field}", content)
    with pytest.raises(AssertionError, match=message):
        leg.make("uki", parameters)
    assert not list((leg.path / "out").iterdir())


def test_a_stub_that_no_package_has_is_named(leg: LegDirectory) -> None:
    message = leg.refusal("uki", {**uki_parameters(leg), "stub": "usr/lib/other.stub"})
    assert message.startswith("packages: no file usr/lib/other.stub")


def disk_parameters(leg: LegDirectory, uki: bytes, root: bytes) -> dict[str, Any]:
    absent = [name for name in ("mkfs.vfat", "mmd", "mcopy", "mdir") if shutil.which(name) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)} (packages dosfstools and mtools)")
    return {
        "uki": leg.put("in/uki.efi", uki),
        "root_image": leg.put("in/rootfs.img", root),
        "source_date_epoch": 1767225600,
    }


PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def made_disk(path: Path, root: bytes, **environment: str) -> bytes:
    leg = LegDirectory(path)
    leg.make("uki", uki_parameters(leg))
    parameters = disk_parameters(leg, leg.output("uki.efi"), root)
    completed = leg.run("disk_image", parameters, **{**PATH, **environment})
    assert completed.status == 0, completed.stderr.decode()
    return leg.output("disk.img")


def test_the_disk_holds_uki_and_root_as_they_are(tmp_path: Path) -> None:
    root = bytes(range(256)) * 5000
    image = made_disk(tmp_path / "build", root)
    gpt = parse_gpt(lambda offset, length: image[offset : offset + length])
    assert [each.name for each in gpt.partitions] == ["ESP", "root"]
    start = gpt.partitions[1].start
    assert image[start : start + len(root)] == root
    found = read_boot_disk(tmp_path / "build/out/disk.img", MtoolsPartition)
    assert found.loader == (tmp_path / "build/out/uki.efi").read_bytes()
    assert found.disk.beside == ()
    assert len(image) == gpt.partitions[1].start + gpt.partitions[1].size + 33 * 512


def test_neither_clock_nor_time_zone_changes_the_disk(tmp_path: Path) -> None:
    one = made_disk(tmp_path / "a", b"root", TZ="GMT-14", LC_ALL="C.UTF-8")
    other = made_disk(tmp_path / "another-b", b"root", TZ="UTC", MTOOLS_LOWER_CASE="1")
    assert one == other


def test_another_root_has_another_guid(tmp_path: Path) -> None:
    guids = []
    for name in ("one", "two"):
        image = made_disk(tmp_path / name, name.encode())
        gpt = parse_gpt(lambda offset, length, image=image: image[offset : offset + length])  # type: ignore[misc]
        guids.append([each.guid for each in gpt.partitions])
    assert guids[0][0] == guids[1][0]
    assert guids[0][1] != guids[1][1]


def test_a_large_uki_gets_a_large_partition(tmp_path: Path) -> None:
    leg = LegDirectory(tmp_path / "build")
    content = bytes(40 * MIB) + b"end"
    completed = leg.run("disk_image", disk_parameters(leg, content, b"root"), **PATH)
    assert completed.status == 0, completed.stderr.decode()
    assert MtoolsPartition(leg.path / "out/disk.img", MIB).read("/EFI/BOOT/BOOTX64.EFI") == content
