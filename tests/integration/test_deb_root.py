"""Unpacking packages into a pinned root: nothing may be written outside, and nothing half done may be left."""

import os
import stat
import tarfile
from pathlib import Path

import pytest

from builder.backends.deb_root import unpack_root
from builder.backends.process import run
from builder.backends.scratch import remove_tree
from builder.errors import DocumentError
from builder.normalize.deb import control_paragraph
from tests.fakes.deb_files import deb_file, member
from tests.fakes.silent_progress import SilentProgress

Member = tuple[tarfile.TarInfo, bytes]


def unpacked(directory: Path, *packages: tuple[Member, ...]) -> Path:
    """Unpack one package a tuple of members, below `directory`."""
    debs = []
    for number, members in enumerate(packages):
        debs.append(directory / f"package-{number}.deb")
        debs[-1].write_bytes(deb_file(*members))
    unpack_root(debs, directory / "root", SilentProgress())
    return directory / "root"


def link(name: str, target: str) -> Member:
    return member(name, kind=tarfile.SYMTYPE, target=target)


def tree(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_files_get_reduced_modes_and_the_times_of_the_package(tmp_path: Path) -> None:
    root = unpacked(
        tmp_path, (member("./usr/bin/su", b"su", mode=0o4755, mtime=99), member("./etc/secret", mode=0o600))
    )
    program, text = (root / "usr/bin/su").stat(), (root / "etc/secret").stat()
    assert stat.S_IMODE(program.st_mode) == 0o555, "setuid may never reach a root"
    assert program.st_mtime == 99
    assert stat.S_IMODE(text.st_mode) == 0o444
    assert {program.st_uid, text.st_uid} == {os.getuid()}


def test_usr_is_merged_whatever_the_packages_say(tmp_path: Path) -> None:
    root = unpacked(
        tmp_path,
        (link("./bin", "usr/bin"), member("./bin/sh", b"a")),
        (member("./usr/bin/cat", b"b"), member("./lib/x")),
    )
    assert (root / "bin").readlink() == Path("usr/bin")
    assert [(root / "usr" / name).read_bytes() for name in ("bin/sh", "bin/cat", "lib/x")] == [b"a", b"b", b""]


def test_a_root_has_accounts_and_empty_mount_points(tmp_path: Path) -> None:
    root = unpacked(tmp_path, (member("./a"),))
    assert (root / "etc/passwd").read_text().startswith("root:x:0:0:")
    for name in ("proc", "dev", "sys", "tmp", "var/tmp", "run", "build", "srv", "root"):
        assert list((root / name).iterdir()) == []


def test_accounts_of_a_package_stay(tmp_path: Path) -> None:
    assert (unpacked(tmp_path, (member("./etc/passwd", b"own"),)) / "etc/passwd").read_bytes() == b"own"


def test_awk_is_linked_to_the_one_that_is_there(tmp_path: Path) -> None:
    assert (unpacked(tmp_path, (member("./usr/bin/mawk"),)) / "usr/bin/awk").readlink() == Path("mawk")


def test_directories_of_a_root_are_read_only_and_can_still_be_removed(tmp_path: Path) -> None:
    root = unpacked(tmp_path, (member("./usr/share/a/b"),))
    assert {stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")] if path.is_dir()} == {0o555}
    remove_tree(root)
    assert not root.exists()


def test_the_same_packages_give_the_same_tree(tmp_path: Path) -> None:
    trees = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        root = unpacked(tmp_path / name, (member("./b", b"1"), link("./a", "b")), (member("./c/d", b"2", mtime=5),))
        trees.append([(path, (root / path).lstat().st_mode, (root / path).lstat().st_mtime) for path in tree(root)])
    assert trees[0] == trees[1]


def test_hard_links_share_a_file_of_the_same_root(tmp_path: Path) -> None:
    root = unpacked(tmp_path, (member("./bin/a", b"x"), member("./usr/bin/b", kind=tarfile.LNKTYPE, target="./bin/a")))
    assert (root / "usr/bin/a").samefile(root / "usr/bin/b")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ((member("../outside", b"x"),), "unsafe path"),
        ((member("/outside", b"x"),), "unsafe path"),
        ((link("./door", ".."), member("./door/outside", b"x")), "door is a symbolic link"),
        ((link("./a", "b"), link("./b", ".."), member("./a/outside", b"x")), "a is a symbolic link"),
        ((member("./usr/", kind=tarfile.SYMTYPE, target="/"), member("./usr/bin/x")), "usr is also in"),
        ((link("./bin", "/etc"),), "usr/bin is also in"),
        ((link("./x", "/etc/passwd"), member("./x", b"root::0:0::/:/bin/sh")), "x is also in"),
        ((link("./x", "/etc/passwd"), member("./y", kind=tarfile.LNKTYPE, target="x")), "wanted a file"),
        ((member("./y", kind=tarfile.LNKTYPE, target="missing"),), "is missing, wanted a file"),
        ((member("./a", b"x"), member("./a/b", b"x")), "directory a is a file"),
        ((member("./dev/sda", kind=tarfile.BLKTYPE),), "has type"),
    ],
)
def test_a_package_that_reaches_out_is_refused_and_leaves_nothing(
    tmp_path: Path, members: tuple[Member, ...], reason: str
) -> None:
    with pytest.raises(DocumentError, match=reason):
        unpacked(tmp_path, (link("./door-to-test", str(tmp_path)), *members))
    assert tree(tmp_path) == ["package-0.deb"]


def test_an_absolute_link_of_a_package_is_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(DocumentError, match="door is a symbolic link of package-0"):
        unpacked(tmp_path, (link("./door", str(outside)),), (member("./door/x", b"x"),))
    assert tree(outside) == []


def test_two_packages_with_one_file_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"package-1.deb: usr/a is also in package-0.deb as a file"):
        unpacked(tmp_path, (member("./usr/a"),), (member("./usr/a"),))


def test_no_packages_make_no_root(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="there are none"):
        unpack_root([], tmp_path / "root", SilentProgress())


def test_a_truncated_package_leaves_nothing(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.deb", tmp_path / "bad.deb"
    good.write_bytes(deb_file(member("./a", b"x")))
    bad.write_bytes(deb_file(member("./b", b"y" * 10_000))[:-50])
    with pytest.raises(DocumentError, match=r"bad.deb: "):
        unpack_root([good, bad], tmp_path / "root", SilentProgress())
    assert tree(tmp_path) == ["bad.deb", "good.deb"]


def test_a_root_that_is_there_is_left_alone(tmp_path: Path) -> None:
    root = unpacked(tmp_path, (member("./a"),))
    (tmp_path / "package-0.deb").write_bytes(b"no longer a package")
    unpack_root([tmp_path / "package-0.deb"], root, SilentProgress())
    assert (root / "a").is_file()


def test_progress_is_told_every_byte(tmp_path: Path) -> None:
    (tmp_path / "a.deb").write_bytes(deb_file(member("./a", b"x")))
    progress = SilentProgress()
    unpack_root([tmp_path / "a.deb"], tmp_path / "root", progress)
    assert progress.totals == progress.done == {"unpack root": (tmp_path / "a.deb").stat().st_size}
    assert progress.finished == ["unpack root"]


@pytest.mark.network
@pytest.mark.xdist_group("pinned_root")
def test_a_real_root_has_the_files_that_dpkg_would_unpack(
    root_debs: list[Path], pinned_root: Path, tmp_path: Path
) -> None:
    wanted = b"Package: coreutils\n"
    deb = next(deb for deb in root_debs if control_paragraph(deb.read_bytes(), what=deb.name).startswith(wanted))
    run(["dpkg-deb", "--extract", str(deb), str(tmp_path)])
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 100
    for path in files:
        assert (pinned_root / path.relative_to(tmp_path)).read_bytes() == path.read_bytes()
