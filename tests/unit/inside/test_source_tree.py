"""Source trees: the same files, modes and times everywhere, and nothing outside the directory, whoever packed it."""

import bz2
import gzip
import lzma
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuildFailedError, DocumentError
from builder.inside.source_tree import apply_patches, unpack_source
from tests.fakes.deb_files import member, tar_archive

EPOCH = 1767225600
TOP = member("tree-1.0/", kind=tarfile.DIRTYPE, mode=0o775)
TREE = (
    TOP,
    member("tree-1.0/src/", kind=tarfile.DIRTYPE, mode=0o700, mtime=5),
    member("tree-1.0/src/main.c", b"int main;\n", mode=0o664, mtime=7),
    member("tree-1.0/configure", b"#!/bin/sh\n", mode=0o775),
    member("tree-1.0/link", kind=tarfile.SYMTYPE, target="src/../configure", mode=0o777),
)
PATCH = """\
Say why.

--- a/src/main.c
+++ b/src/main.c
@@ -1 +1 @@
-int main;
+int main = 1;
"""

needs_patch = pytest.mark.skipif(shutil.which("patch") is None, reason="patch(1) is not installed")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "tree"


def tarball(directory: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = directory / "tree_1.0.orig.tar.xz"
    path.write_bytes(lzma.compress(tar_archive(members)))
    return path


def refusal(directory: Path, *members: tuple[tarfile.TarInfo, bytes]) -> str:
    """Unpack what has to be refused: the reason. Nothing may have been written outside of the tree."""
    around = directory / "around"
    around.mkdir()
    path = tarball(directory, *members)
    with pytest.raises(DocumentError) as caught:
        unpack_source(path, around / "tree", epoch=EPOCH)
    assert [entry.name for entry in around.iterdir()] == ["tree"], "something was written beside the tree"
    assert caught.value.message.startswith("tree_1.0.orig.tar.xz: ")
    return caught.value.message


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_paths_modes_and_times_are_the_same_under_every_umask(tmp_path: Path, tree: Path, umask: int) -> None:
    path = tarball(tmp_path, *TREE)
    before = os.umask(umask)
    try:
        unpack_source(path, tree, epoch=EPOCH)
    finally:
        os.umask(before)
    entries = {str(entry.relative_to(tree)): entry.lstat() for entry in tree.rglob("*")}
    modes = {name: entry.st_mode & 0o7777 for name, entry in entries.items() if name != "link"}
    assert modes == {"src": 0o755, "src/main.c": 0o644, "configure": 0o755}
    assert {entry.st_mtime_ns for entry in (*entries.values(), tree.lstat())} == {EPOCH * 10**9}
    assert (tree / "src/main.c").read_bytes() == b"int main;\n"
    assert (tree / "link").readlink() == Path("src/../configure")


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)],
)
def test_every_compression_of_orig_tarballs_is_read(
    tmp_path: Path, tree: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"tree_1.0.orig.tar.{suffix}"
    data = compress(tar_archive(TREE))
    path.write_bytes(data)
    unpack_source(path, tree, epoch=EPOCH)
    assert (tree / "configure").exists()
    for damaged in (data[: len(data) // 2], data[:-1], b"", b"\0" * 1024):
        shutil.rmtree(tree)
        path.write_bytes(damaged)
        with pytest.raises(DocumentError, match=r"^tree_1\.0\.orig\.tar\..*(not a whole tarball|cut off or damaged)"):
            unpack_source(path, tree, epoch=EPOCH)


def test_a_compression_that_cannot_be_read_is_refused(tmp_path: Path, tree: Path) -> None:
    path = tmp_path / "tree_1.0.orig.tar.zst"
    path.write_bytes(b"")
    with pytest.raises(DocumentError, match=r"compressed as '\.zst', known are \.xz, \.gz, \.bz2"):
        unpack_source(path, tree, epoch=EPOCH)


def test_a_tree_that_is_there_already_is_not_added_to(tmp_path: Path, tree: Path) -> None:
    tree.mkdir()
    with pytest.raises(FileExistsError):
        unpack_source(tarball(tmp_path, *TREE), tree, epoch=EPOCH)


def test_what_is_skipped_is_not_there_and_may_be_anything(tmp_path: Path, tree: Path) -> None:
    device = member("tree-1.0/host/tty", kind=tarfile.CHRTYPE)
    outside = member("tree-1.0/host/X11", kind=tarfile.SYMTYPE, target="/opt/X11")
    path = tarball(tmp_path, *TREE, device, outside)
    unpack_source(path, tree, epoch=EPOCH, skip=lambda path: path.startswith("host/"))
    assert not (tree / "host").exists()
    assert (tree / "configure").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil", "not safe"),
        ("/etc/evil", "not safe"),
        ("tree-1.0/../../evil", "not safe"),
        ("tree-1.0/src/../../../evil", "not safe"),
        ("tree-1.0//evil", "not safe"),
        ("evil", "not in the one top directory, tree-1.0"),
        ("other/evil", "not in the one top directory, tree-1.0"),
    ],
)
def test_a_path_that_leaves_the_top_directory_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    assert reason in refusal(tmp_path, TOP, member(name, b"evil"))


@pytest.mark.parametrize(
    "links",
    [
        [("link", "/etc")],
        [("link", "..")],
        [("src/link", "../../evil")],
        [("link", "")],
        # each stays inside by its text; together they do not
        [("a/b/up", "../.."), ("a/b/out", "up/../evil")],
        [("here", "."), ("here2", "here/here/..")],
    ],
)
def test_a_link_that_leaves_the_tree_is_refused(tmp_path: Path, links: list[tuple[str, str]]) -> None:
    members = [member(f"tree-1.0/{name}", kind=tarfile.SYMTYPE, target=target) for name, target in links]
    assert "leads outside of the tree" in refusal(tmp_path, TOP, *members)


def test_a_dangling_link_and_a_loop_stay_inside(tmp_path: Path, tree: Path) -> None:
    links = [("one", "two"), ("two", "one"), ("gone", "src/gone")]
    members = [member(f"tree-1.0/{name}", kind=tarfile.SYMTYPE, target=target) for name, target in links]
    unpack_source(tarball(tmp_path, TOP, *members), tree, epoch=EPOCH)
    assert sorted(entry.name for entry in tree.iterdir()) == ["gone", "one", "two"]


@pytest.mark.parametrize("first", ["link", "file"])
def test_nothing_is_written_through_a_link(tmp_path: Path, first: str) -> None:
    link = member("tree-1.0/dir", kind=tarfile.SYMTYPE, target="..")
    file = member("tree-1.0/dir/evil", b"evil")
    assert "is there twice" in refusal(tmp_path, TOP, *((link, file) if first == "link" else (file, link)))


def test_a_link_is_not_made_through_a_link(tmp_path: Path) -> None:
    links = [("dir", ".."), ("dir/evil", "tree")]
    members = [member(f"tree-1.0/{name}", kind=tarfile.SYMTYPE, target=target) for name, target in links]
    assert "is there twice" in refusal(tmp_path, TOP, *members)


@pytest.mark.parametrize(
    "again", [member("tree-1.0/configure", b"other"), member("tree-1.0/configure/file", b"below a file")]
)
def test_a_second_member_at_one_place_is_refused(tmp_path: Path, again: tuple[tarfile.TarInfo, bytes]) -> None:
    assert "is there twice" in refusal(tmp_path, *TREE, again)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE, b"V"])
def test_anything_but_files_directories_and_links_is_refused(tmp_path: Path, kind: bytes) -> None:
    evil = member("tree-1.0/evil", kind=kind, target="tree-1.0/configure")
    assert "wanted a file, directory or symbolic link" in refusal(tmp_path, *TREE, evil)


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1777])
def test_special_modes_are_refused(tmp_path: Path, mode: int) -> None:
    assert f"mode {mode:04o}" in refusal(tmp_path, TOP, member("tree-1.0/evil", b"evil", mode=mode))


def test_a_file_instead_of_the_top_directory_is_refused(tmp_path: Path) -> None:
    assert "not in the one top directory" in refusal(tmp_path, member("tree-1.0", b"a file"))


@pytest.mark.parametrize("members", [(), (TOP,)])
def test_a_tarball_without_files_is_refused(tmp_path: Path, members: tuple[tuple[tarfile.TarInfo, bytes], ...]) -> None:
    assert "holds no files" in refusal(tmp_path, *members)


def test_no_cut_of_a_tarball_passes(tmp_path: Path, tree: Path) -> None:
    data = tar_archive(TREE).rstrip(b"\0")
    path = tmp_path / "cut.tar.gz"
    for length in range(0, len(data), 512):
        path.write_bytes(gzip.compress(data[:length]))
        with pytest.raises(DocumentError):
            unpack_source(path, tree, epoch=EPOCH)
        shutil.rmtree(tree)


def test_a_damaged_header_is_not_the_end(tmp_path: Path, tree: Path) -> None:
    data = bytearray(tar_archive((*TREE, member("tree-1.0/last"))))
    data[data.index(b"tree-1.0/last")] ^= 1
    path = tmp_path / "damaged.tar.gz"
    path.write_bytes(gzip.compress(data))
    with pytest.raises(DocumentError, match="cut off or damaged at byte"):
        unpack_source(path, tree, epoch=EPOCH)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("property")


@given(
    names=st.lists(st.text(alphabet="ab./\\", max_size=12), max_size=4), target=st.text(alphabet="ab./", max_size=12)
)
def test_no_member_is_ever_written_outside(scratch: Path, names: list[str], target: str) -> None:
    around = scratch / "around"
    shutil.rmtree(around, ignore_errors=True)
    around.mkdir()
    members = [member(name, b"data") for name in names]
    links = [member(f"{name}/l", kind=tarfile.SYMTYPE, target=target) for name in names]
    path = tarball(scratch, *members, *links)
    try:
        unpack_source(path, around / "tree", epoch=EPOCH)
    except DocumentError:
        pass
    else:
        top = str(around / "tree")
        assert all(os.path.realpath(place).startswith(top) for place in (around / "tree").rglob("*"))
    assert [entry.name for entry in around.iterdir()] == ["tree"]


@needs_patch
def test_patches_are_applied_in_order(tmp_path: Path, tree: Path) -> None:
    unpack_source(tarball(tmp_path, *TREE), tree, epoch=EPOCH)
    patches = [tmp_path / "1.patch", tmp_path / "2.patch"]
    patches[0].write_text(PATCH)
    patches[1].write_text(PATCH.replace("main = 1;", "main = 2;").replace("-int main;", "-int main = 1;"))
    apply_patches(tree, patches)
    assert (tree / "src/main.c").read_text() == "int main = 2;\n"
    assert sorted(entry.name for entry in (tree / "src").iterdir()) == ["main.c"], "patch left something behind"


@needs_patch
@pytest.mark.parametrize(
    "text",
    [
        PATCH.replace("-int main;", "-int other;"),
        PATCH.replace("/src/main.c", "/src/gone.c"),
        PATCH.replace("/src/main.c", "/../evil.c").replace("@@ -1 +1 @@\n-int main;", "@@ -0,0 +1 @@"),
        "no patch at all\n",
    ],
    ids=["does-not-fit", "no-such-file", "leaves-the-tree", "no-patch"],
)
def test_a_patch_that_cannot_be_applied_as_it_is_fails(tmp_path: Path, tree: Path, text: str) -> None:
    unpack_source(tarball(tmp_path, *TREE), tree, epoch=EPOCH)
    patch = tmp_path / "1.patch"
    patch.write_text(text)
    with pytest.raises(BuildFailedError, match=r"^patch -p1 --fuzz=0 .*1\.patch ended with exit status"):
        apply_patches(tree, [patch])
    assert (tree / "src/main.c").read_text() == "int main;\n"
    assert not (tmp_path / "evil.c").exists()
