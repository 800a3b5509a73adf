"""Choices of a recipe, made real with Debian 13's packages: an erofs root on a disk whose firmware starts a UKI, and a
root that mkosi installed. Both legs have to give the same bytes, and what a boot measures has to be what is predicted.
"""

import json
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.backends.bubblewrap import Bubblewrap
from builder.cli.main import run
from builder.components.root_image import root_image_step
from builder.model.plan import OutputInput
from builder.model.variation import VARIATION_A
from builder.normalize.tar import encode_tar
from builder.normalize.tree import Kind, Member, Tree, symlink_member
from tests.integration.debian import debian_root
from tests.integration.leg_runs import workspace_of
from tests.integration.made_once import made_once
from tests.integration.trixie_recipe import SUITE, change_file, trixie_recipe

pytestmark = [pytest.mark.slow, pytest.mark.network]

EPOCH = 1767225600
EROFS_TOOLS = ["coreutils", "cryptsetup-bin", "dash", "erofs-utils", "python3", "util-linux"]
ESSENTIAL = (
    "base-files, base-passwd, bash, bsdutils, busybox-static, coreutils, dash, debianutils, diffutils, dpkg, findutils,"
    " grep, gzip, hostname, init-system-helpers, libc-bin, ncurses-base, ncurses-bin, perl-base, sed, sysvinit-utils,"
    " tar, util-linux"
)
MKOSI_ROOT = (
    "mkosi, coreutils, dash, diffutils, findutils, grep, gzip, libfaketime, locales, python3, sed, tar, util-linux"
)


@dataclass(frozen=True)
class Built:
    """A build directory, and the recipe it is of."""

    recipe: Path
    out: Path

    def artifact(self, name: str, leg: str = "a") -> Path:
        return self.out / "legs" / leg / "artifacts" / name


def lock(recipe: Path) -> None:
    status = run(["lock", str(recipe)])
    if status == 4:
        pytest.skip("the archive of this host cannot be reached")
    assert status == 0


@pytest.fixture(scope="module")
def disk_release(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A rehearsed release of the quickstart with an erofs root on a disk."""

    def make(directory: Path) -> None:
        directory.mkdir()
        recipe = trixie_recipe(
            directory / "recipe",
            tools=["dosfstools", "erofs-utils", "mtools"],
            changes={
                "dm-verity, squashfs]": "dm-verity, erofs]",
                "    files: files/guest_os\n": "    files: files/guest_os\n    filesystem: erofs\n",
                "\ncommand_line: console=ttyS0 ": "\n  disk_image:\n    packages: [systemd-boot-efi]\n"
                "    stub: usr/lib/systemd/boot/efi/linuxx64.efi.stub\n"
                "\ncommand_line: console=ttyS0 tdxb.root=/dev/vda2 ",
            },
        )
        init = recipe / "files/initrd/init"
        change_file(init, "DISK=/dev/vda\n", "DISK=\n")
        words = "        tdxb.rootsize=*)"
        change_file(init, words, f"        tdxb.root=*) DISK=${{word#*=}} ;;\n{words}")
        change_file(init, "mount -t squashfs", "mount -t erofs")
        lock(recipe)
        assert run(["key", "new", str(directory / "key")]) == 0
        options = ["--key", directory / "key", "--out", directory / "out", "--manifests", directory / "manifests"]
        engine = ["--engine-b", "bubblewrap", "--store", store]
        assert run(["release", str(recipe), *map(str, options), *map(str, engine)]) == 0

    directory = made_once(tmp_path_factory, "disk-release", make)
    return Built(directory / "recipe", directory / "out")


def test_a_disk_is_the_same_in_both_legs(disk_release: Built) -> None:
    for name in ("disk.img", "uki.efi", "rootfs.img"):
        assert disk_release.artifact(name).read_bytes() == disk_release.artifact(name, "b").read_bytes()


def test_every_event_of_its_boot_is_as_predicted(disk_release: Built) -> None:
    document = json.loads((disk_release.out / "rehearsal/rehearsal.json").read_bytes())
    verdicts = {event["verdict"] for event in document["events"]}
    assert "agrees" in verdicts
    assert verdicts <= {"agrees", "not rehearsable", "TPM only"}
    registers = {event["register"] for event in document["events"] if event["verdict"] == "agrees"}
    assert {"rtmr0", "rtmr1", "rtmr2"} <= registers
    names = [event["name"] for event in document["events"] if event["verdict"] == "agrees"]
    assert (names.count("GPT"), names.count("UKI")) == (1, 1)
    serial = (disk_release.out / "rehearsal/serial.log").read_text(errors="replace")
    assert "tdx-builder: root file system verified" in serial


def test_a_stranger_recomputes_its_registers_from_the_disk(disk_release: Built, tmp_path: Path) -> None:
    directory = disk_release.recipe.parent
    (manifest,) = (directory / "manifests").rglob("manifest.json")
    arguments = ["verify", str(manifest), "--key", f"{directory / 'key'}.pub", "--artifacts"]
    assert run([*arguments, str(disk_release.out / "artifacts")]) == 0
    copy = shutil.copytree(disk_release.out / "artifacts", tmp_path / "artifacts")
    image = bytearray((copy / "disk.img").read_bytes())
    image[image.index(b"tdxb.roothash=") + 20] ^= 1
    (copy / "disk.img").unlink()
    (copy / "disk.img").write_bytes(image)
    assert run([*arguments, str(copy)]) == 1


@pytest.mark.parametrize("command", [("sgdisk", "--verify"), ("sfdisk", "--verify")], ids=["sgdisk", "sfdisk"])
def test_tools_find_nothing_wrong_with_the_partition_table(disk_release: Built, command: tuple[str, ...]) -> None:
    program = shutil.which(command[0], path=f"{os.defpath}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip(f"not installed: {command[0]} (package gdisk or fdisk)")
    path = str(disk_release.artifact("disk.img"))
    completed = subprocess.run([program, *command[1:], path], capture_output=True, text=True, check=True)
    assert "No problems found" in completed.stdout or "No errors detected" in completed.stdout
    assert "warning" not in (completed.stdout + completed.stderr).lower()


def odd_tree() -> Tree:
    """Owners, modes, names and sizes that a careless file system would lose."""
    tree = Tree()
    for member in (
        Member("usr/bin/su", Kind.FILE, 0o4755, 0, 0, 3, (b"abc",)),
        Member("var/mail", Kind.DIRECTORY, 0o2775, 0, 8),
        Member("tmp", Kind.DIRECTORY, 0o1777),
        Member("home/u", Kind.DIRECTORY, 0o700, 100000, 100001),
        Member("home/u/f", Kind.FILE, 0o600, 100000, 100001, 5000, (b"x" * 5000,)),
        Member("etc/shadow", Kind.FILE, 0o640, 0, 42, 2, (b"xy",)),
        Member("etc/empty", Kind.FILE, 0o000, 1, 2),
        Member("usr/lib/" + "d" * 120 + "/" + "e" * 90, Kind.FILE, 0o644, 65534, 65534, 1, (b"z",)),
        Member("usr/large", Kind.FILE, 0o644, 7, 7, 1 << 20, (bytes(range(256)) * 4096,)),
        symlink_member("lib", "usr/lib"),
        symlink_member("long", "/" + "p" * 300),
    ):
        tree.add(member, origin="test")
    return tree


def everything_below(top: Path) -> list[Path]:
    """os.walk and not rglob, which follows links, and fails at one whose target is too long for a name."""
    return [Path(directory, name) for directory, *names in os.walk(top) for name in (*names[0], *names[1])]


def on_disk(top: Path) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for path in sorted(everything_below(top)):
        status = path.lstat()
        target = str(path.readlink()) if stat.S_ISLNK(status.st_mode) else ""
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        mode = stat.S_IMODE(status.st_mode)
        found.append((str(path.relative_to(top)), mode, status.st_uid, status.st_gid, status.st_mtime, target, content))
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give the files read back to other users")
def test_owners_modes_and_contents_survive_in_an_erofs(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = debian_root(tmp_path_factory, "erofs-13", suites=[SUITE], packages=EROFS_TOOLS)
    members = odd_tree().members()
    (tmp_path / "root.tar").write_bytes(b"".join(encode_tar(members, epoch=EPOCH, top=True)))
    step = root_image_step(OutputInput("", "", "in/root.tar"), filesystem="erofs", epoch=EPOCH)
    with workspace_of(Bubblewrap(), root, tmp_path / "scratch", VARIATION_A) as workspace:
        workspace.put(tmp_path / "root.tar", "in/root.tar")
        workspace.run(step.argv, {}, bytearray().extend)
        image = shutil.copy(workspace.get("rootfs.img"), tmp_path / "rootfs.img")
    back = tmp_path / "back"
    command = ["bwrap", "--ro-bind", str(root), "/", "--dev", "/dev", "--bind", str(tmp_path), "/mnt"]
    unpack = ["fsck.erofs", "--extract=/mnt/back", "--preserve", f"/mnt/{Path(image).name}"]
    subprocess.run([*command, *unpack], check=True, capture_output=True)
    assert [each[:6] for each in on_disk(back)] == [
        (each.path, each.mode, each.uid, each.gid, EPOCH, each.target) for each in members
    ]
    assert {each[0]: each[6] for each in on_disk(back) if each[6]} == {
        each.path: each.read() for each in members if each.size
    }
    assert (stat.S_IMODE(back.stat().st_mode), back.stat().st_uid) == (0o755, 0)


@pytest.fixture(scope="module")
def mkosi_build(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both legs of the quickstart whose guest OS mkosi installs, with a script of the configuration's own."""

    def make(directory: Path) -> None:
        directory.mkdir()
        recipe = trixie_recipe(
            directory / "recipe",
            tools=[],
            changes={
                "    packages: [base-files, base-passwd, busybox-static]\n": "    mkosi: files/mkosi\n"
                f"    root: mkosi\n    packages: [{ESSENTIAL}]\n",
                "  # Reads the ACPI tables for": f"  mkosi: [{MKOSI_ROOT}]\n  # Reads the ACPI tables for",
                "    - kernel\n": "",  # dpkg does not stand it
                "      - usr/share/man\n": "      - usr/share/man\n      - usr/share/locale\n",
            },
        )
        configuration = recipe / "files/mkosi"
        configuration.mkdir()
        (configuration / "mkosi.conf").write_text(
            f"[Distribution]\nDistribution=debian\nRelease={SUITE}\n\n[Content]\nPackages=base-files\n"
            "         busybox-static\n"
        )
        script = configuration / "mkosi.postinst.chroot"
        script.write_text("#!/bin/sh\nset -eu\nid -u >/etc/made-by\n")
        script.chmod(0o755)
        lock(recipe)
        options = ["--out", directory / "out", "--engine-b", "bubblewrap", "--store", store]
        assert run(["build", str(recipe), *map(str, options)]) == 0

    directory = made_once(tmp_path_factory, "mkosi-build", make)
    return Built(directory / "recipe", directory / "out")


def test_a_root_of_mkosi_is_the_same_in_both_legs(mkosi_build: Built) -> None:
    assert mkosi_build.artifact("rootfs.img").read_bytes() == mkosi_build.artifact("rootfs.img", "b").read_bytes()


def test_maintainer_scripts_and_those_of_the_configuration_ran(
    mkosi_build: Built, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = debian_root(tmp_path_factory, "squashfs-13", suites=[SUITE], packages=["squashfs-tools"])
    image = mkosi_build.artifact("rootfs.img")

    def unsquashfs(*arguments: str) -> str:
        command = ["bwrap", "--ro-bind", str(root), "/", "--dev", "/dev", "--ro-bind", str(image.parent), "/mnt"]
        completed = subprocess.run([*command, "unsquashfs", *arguments], check=True, capture_output=True, text=True)
        return completed.stdout

    assert unsquashfs("-cat", "/mnt/rootfs.img", "etc/made-by") == "0\n"
    assert "root:*:0:0:" in unsquashfs("-cat", "/mnt/rootfs.img", "etc/passwd")
    listed = {
        line.split()[-1]: line.split() for line in unsquashfs("-lln", "/mnt/rootfs.img").splitlines() if "/" in line
    }
    assert listed["squashfs-root/usr/sbin/unix_chkpwd"][:2] == ["-rwxr-sr-x", "0/42"]
    assert listed["squashfs-root/etc/made-by"][0] == "-rw-r--r--"
    assert "squashfs-root/usr/lib/tdx-builder/app.digest" in listed
    assert "squashfs-root/var/log/alternatives.log" not in listed


def test_the_record_says_which_axis_the_legs_did_not_differ_in(mkosi_build: Built) -> None:
    for leg in "ab":
        record = json.loads((mkosi_build.out / "legs" / leg / "leg.json").read_bytes())
        reason = record["build_info"]["not_varied"]["kernel"]
        assert reason.startswith("step mkosi: maintainer scripts of libc6")


def test_a_recipe_with_mkosi_cannot_require_that_axis(mkosi_build: Built, store: Path) -> None:
    recipe = mkosi_build.recipe.parent / "requires-kernel"
    shutil.copytree(mkosi_build.recipe, recipe, dirs_exist_ok=True)
    change_file(recipe / "recipe.yaml", "    - aslr\n", "    - kernel\n    - aslr\n")
    lock(recipe)
    options = ["--out", mkosi_build.out, "--engine-b", "bubblewrap", "--store", store, "--offline"]
    assert run(["build", str(recipe), *map(str, options)]) == 8
