"""The tar writer: no clock, no user of this machine and no announced size that lies may reach an archive."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.normalize.tar import encode_tar
from builder.normalize.tree import Kind, Member, directory_member, file_member, symlink_member

EPOCH = 1_767_225_600
MEMBERS = (
    directory_member("var"),
    Member("var/mail", Kind.DIRECTORY, 0o2775, gid=8),
    Member("var/su", Kind.FILE, 0o4755, uid=1, gid=2, size=3, content=(b"a", b"bc")),
    symlink_member("var/run", "/run"),
    file_member("x" * 99 + "/" + "y" * 200, b"long name"),
    file_member("bad-\udcff-name", b""),
)


def archive(*members: Member) -> bytes:
    return b"".join(encode_tar(members, epoch=EPOCH))


def test_owners_modes_and_contents_are_those_of_the_members() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive(*MEMBERS)), encoding="utf-8") as tar:
        found = {info.name: (info.mode, info.uid, info.gid, info.linkname) for info in tar}
        assert tar.extractfile("var/su").read() == b"abc"  # type: ignore[union-attr]
    assert found == {member.path: (member.mode, member.uid, member.gid, member.target) for member in MEMBERS}


def test_every_time_is_the_epoch_and_no_name_of_an_owner_is_written() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive(*MEMBERS))) as tar:
        assert {(info.mtime, info.uname, info.gname) for info in tar} == {(EPOCH, "", "")}


def test_the_end_is_two_zero_blocks_padded_to_a_record() -> None:
    data = archive(file_member("a", b"x" * 513))
    assert len(data) == 10240
    assert data[512 * 3 :] == bytes(10240 - 512 * 3)


@given(st.integers(0, 3000))
def test_the_end_is_never_shorter_than_two_blocks(size: int) -> None:
    data = archive(*(file_member(str(number), bytes(17)) for number in range(size % 40)), file_member("a", bytes(size)))
    assert len(data) % 10240 == 0
    assert data.endswith(bytes(1024))


def test_content_that_is_not_of_its_announced_size_is_refused() -> None:
    with pytest.raises(DocumentError, match="/a: content of 2 bytes, announced are 3"):
        archive(Member("a", Kind.FILE, 0o644, size=3, content=(b"ab",)))
