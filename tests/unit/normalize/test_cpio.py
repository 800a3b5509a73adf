"""The cpio writer, read back field by field: nothing a file system or a machine decides may be in it."""

from dataclasses import dataclass

import pytest

from builder.errors import DocumentError
from builder.normalize.cpio import encode_cpio
from builder.normalize.tree import Kind, Member, directory_member, file_member, symlink_member

EPOCH = 1_767_225_600
MEMBERS = (
    directory_member("bin"),
    file_member("bin/busybox", b"12345", executable=True),
    symlink_member("bin/sh", "busybox"),
    file_member("empty", b""),
)


@dataclass(frozen=True)
class Read:
    name: bytes
    ino: int
    mode: int
    uid: int
    gid: int
    nlink: int
    mtime: int
    others: tuple[int, ...]
    data: bytes


def read_cpio(data: bytes) -> list[Read]:
    found = []
    offset = 0
    while True:
        assert data[offset : offset + 6] == b"070701"
        fields = [int(data[offset + 6 + 8 * i : offset + 14 + 8 * i], 16) for i in range(13)]
        ino, mode, uid, gid, nlink, mtime, size, *devices, name_size, check = fields
        name = data[offset + 110 : offset + 110 + name_size]
        assert name.endswith(b"\0")
        start = offset + (110 + name_size + 3) // 4 * 4
        found.append(Read(name[:-1], ino, mode, uid, gid, nlink, mtime, (*devices, check), data[start : start + size]))
        offset = start + (size + 3) // 4 * 4
        if name == b"TRAILER!!!\0":
            assert data[offset:] == bytes(len(data) - offset)
            return found


def archive(*members: Member) -> bytes:
    return b"".join(encode_cpio(members, epoch=EPOCH))


def test_members_are_numbered_in_their_order_and_have_the_link_counts_of_no_file_system() -> None:
    found = read_cpio(archive(*MEMBERS))
    assert [(each.name, each.ino, each.nlink) for each in found] == [
        (b"bin", 1, 2),
        (b"bin/busybox", 2, 1),
        (b"bin/sh", 3, 1),
        (b"empty", 4, 1),
        (b"TRAILER!!!", 0, 1),
    ]


def test_modes_contents_and_targets_are_those_of_the_members() -> None:
    found = read_cpio(archive(*MEMBERS))
    assert [(each.mode, each.data) for each in found[:-1]] == [
        (0o040755, b""),
        (0o100755, b"12345"),
        (0o120777, b"busybox"),
        (0o100644, b""),
    ]


def test_every_time_is_the_epoch_and_every_device_is_zero() -> None:
    found = read_cpio(archive(*MEMBERS))[:-1]
    assert {(each.mtime, each.uid, each.gid, each.others) for each in found} == {(EPOCH, 0, 0, (0, 0, 0, 0, 0))}


def test_the_archive_is_padded_to_blocks() -> None:
    assert len(archive(*MEMBERS)) % 512 == 0
    assert len(archive()) == 512


def test_content_that_is_not_of_its_announced_size_is_refused() -> None:
    with pytest.raises(DocumentError, match="/a: content of 1 bytes, announced are 2"):
        archive(Member("a", Kind.FILE, 0o644, size=2, content=(b"x",)))


def test_a_file_too_large_for_the_format_is_refused_before_it_is_read() -> None:
    with pytest.raises(DocumentError, match="more than the 4294967295 that cpio can hold"):
        archive(Member("a", Kind.FILE, 0o644, size=1 << 32))
