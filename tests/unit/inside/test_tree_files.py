"""Trees on disk: what an image cannot hold is refused by name, and what it can comes through as it is."""

import os
import socket
import tarfile
from pathlib import Path

import pytest

from builder.errors import DocumentError
from builder.inside.tree_files import content_digest, read_directory, read_tar
from builder.normalize.tar import encode_tar
from builder.normalize.tree import Kind, Member, Tree


def test_a_directory_becomes_a_tree_with_given_owners(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir(mode=0o755)
    (tmp_path / "bin/su").write_bytes(b"su")
    (tmp_path / "bin/su").chmod(0o4755)
    (tmp_path / "lib").symlink_to("usr/lib")
    os.link(tmp_path / "bin/su", tmp_path / "bin/other")
    members = read_directory(tmp_path, {"bin/su": (0, 42)}, what="test").members()
    assert [(each.path, each.kind, each.mode, each.uid, each.gid) for each in members] == [
        ("bin", Kind.DIRECTORY, 0o755, 0, 0),
        ("bin/other", Kind.FILE, 0o4755, 0, 0),
        ("bin/su", Kind.FILE, 0o4755, 0, 42),
        ("lib", Kind.SYMLINK, 0o777, 0, 0),
    ]
    assert members[1].read() == members[2].read() == b"su"
    assert members[3].target == "usr/lib"


def test_a_directory_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_directory(tmp_path / "gone", {}, what="test")


def test_a_pipe_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DocumentError, match="test: /pipe is no file, directory or symbolic link"):
        read_directory(tmp_path, {}, what="test")


def test_a_socket_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket")
        with pytest.raises(DocumentError, match="test: /socket is no file"):
            read_directory(tmp_path, {}, what="test")


def test_a_file_with_capabilities_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "ping").write_bytes(b"ping")
    try:
        os.setxattr(tmp_path / "ping", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    except OSError as error:
        pytest.skip(f"capabilities of files cannot be set here: {error.strerror}")
    with pytest.raises(DocumentError, match=r"test: /ping has security\.capability, which the image would lose"):
        read_directory(tmp_path, {}, what="test")


def written(path: Path, *members: Member) -> Path:
    tree = Tree()
    for member in members:
        tree.add(member, origin="test")
    path.write_bytes(b"".join(encode_tar(tree.members(), epoch=1, top=True)))
    return path


def test_what_was_written_as_tar_is_what_is_read(tmp_path: Path) -> None:
    members = (
        Member("d" * 120, Kind.DIRECTORY, 0o2775, 0, 8),
        Member("d" * 120 + "/caf\udce9", Kind.FILE, 0o4755, 1000, 65534, 3, (b"abc",)),
        Member("link", Kind.SYMLINK, 0o777, target="/" + "t" * 200),
    )
    found = read_tar(written(tmp_path / "a.tar", *members), what="test").members()
    assert [(each.path, each.kind, each.mode, each.uid, each.gid, each.size, each.target) for each in found] == [
        (each.path, each.kind, each.mode, each.uid, each.gid, each.size, each.target) for each in members
    ]
    assert found[1].read() == found[1].read() == b"abc"


def test_a_member_of_another_kind_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        device = tarfile.TarInfo("null")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    with pytest.raises(DocumentError, match="test: null is no file, directory or symbolic link"):
        read_tar(tmp_path / "a.tar", what="test")


def test_the_top_directory_comes_first_and_is_nobody_elses_to_write(tmp_path: Path) -> None:
    with tarfile.open(written(tmp_path / "a.tar", Member("a", Kind.FILE, 0o644))) as archive:
        first = archive.next()
    assert first is not None
    assert (first.name, first.type, first.mode, first.uid) == (".", tarfile.DIRTYPE, 0o755, 0)


def test_the_digest_is_that_of_all_chunks() -> None:
    assert content_digest([b"a", b"bc"]) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("data", [b"", b"no tar file", bytes(range(256)) * 4])
def test_what_is_no_tar_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(DocumentError, match=r"test: a\.tar is no tar file"):
        read_tar(tmp_path / "a.tar", what="test")
