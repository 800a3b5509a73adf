"""Reading .deb files: what must never pass is a package that is cut off, damaged, or reaches out of its tree."""

import gzip
import io
import lzma
import tarfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.normalize.deb import (
    Entry,
    EntryKind,
    control_paragraph,
    data_tar,
    is_merged_usr_link,
    merged_usr_path,
    read_entries,
    read_package,
)
from tests.fakes.deb_files import DEBIAN_BINARY, ar_archive, deb_file, deb_with_data, member, tar_archive

SAMPLE = deb_file(
    member("./", kind=tarfile.DIRTYPE, mode=0o755),
    member("./usr/", kind=tarfile.DIRTYPE, mode=0o755),
    member("./usr/one", b"first", mode=0o4755, mtime=1_700_000_000),
    member("./usr/two", kind=tarfile.LNKTYPE, target="./usr/one"),
    member("./usr/three", kind=tarfile.SYMTYPE, target="/anywhere/../at/all"),
)


def test_entries_of_a_package_come_in_their_order_with_their_attributes() -> None:
    assert list(read_package(SAMPLE, what="sample")) == [
        Entry("", EntryKind.DIRECTORY, 0o755, 1),
        Entry("usr", EntryKind.DIRECTORY, 0o755, 1),
        Entry("usr/one", EntryKind.FILE, 0o4755, 1_700_000_000, data=b"first"),
        Entry("usr/two", EntryKind.HARD_LINK, 0o644, 1, target="usr/one"),
        Entry("usr/three", EntryKind.SYMLINK, 0o644, 1, target="/anywhere/../at/all"),
    ]


def test_the_control_file_is_found() -> None:
    assert control_paragraph(SAMPLE, what="sample") == b"Package: sample\n"


@pytest.mark.parametrize(
    ("name", "packed"), [("data.tar", bytes), ("data.tar.gz", gzip.compress), ("data.tar.xz", lzma.compress)]
)
def test_every_known_compression_gives_the_same_archive(name: str, packed: type) -> None:
    tar = tar_archive([member("./a", b"a" * 100_000)])
    assert data_tar(deb_with_data(name, packed(tar)), what="sample") == tar


def test_zstd_is_refused_by_name() -> None:
    with pytest.raises(DocumentError, match=r"sample: data.tar.zst is compressed as '.zst'"):
        data_tar(deb_with_data("data.tar.zst", b"\x28\xb5\x2f\xfd"), what="sample")


@pytest.mark.parametrize(
    ("deb", "reason"),
    [
        (b"", "not a .deb"),
        (b"PK\x03\x04", "not a .deb"),
        (ar_archive([]), "not a .deb of format 2"),
        (ar_archive([("debian-binary", b"3.0\n")]), "not a .deb of format 2"),
        (ar_archive([("data.tar", b""), DEBIAN_BINARY]), "not a .deb of format 2"),
        (ar_archive([DEBIAN_BINARY]), "has 0 data.tar members"),
        (ar_archive([DEBIAN_BINARY, ("data.tar", b""), ("data.tar.xz", b"")]), "has 2 data.tar members"),
        (ar_archive([DEBIAN_BINARY, ("data.tar", b""), ("data.tar", b"")]), "appears twice"),
        (ar_archive([DEBIAN_BINARY]) + b"short", "not an ar member header"),
        (ar_archive([DEBIAN_BINARY]) + b"%-16s%-32s%-10s`\n" % (b"data.tar", b"0", b"-1"), "wanted .* decimal digits"),
        (ar_archive([DEBIAN_BINARY]) + b"%-16s%-32s%-10s`\n" % (b"data.tar", b"0", b"9999999999"), "only 0 are there"),
        (deb_with_data("data.tar.xz", b""), "cut off"),
        (deb_with_data("data.tar.xz", b"this is not xz at all"), "data.tar.xz: Input format"),
        (deb_with_data("data.tar.xz", lzma.compress(b"x" * 5000)[:-8]), "cut off"),
        (deb_with_data("data.tar.xz", lzma.compress(b"") + b"tail"), "4 bytes follow"),
        (deb_with_data("data.tar.gz", b""), "cut off"),
        (deb_with_data("data.tar.gz", b"not gzip"), "data.tar.gz: Error"),
        (deb_with_data("data.tar.gz", gzip.compress(b"x" * 5000)[:-8]), "cut off"),
        (deb_with_data("data.tar.gz", gzip.compress(b"") + b"tail"), "4 bytes follow"),
        (deb_with_data("data.tar", b""), "malformed"),
        (deb_with_data("data.tar", b"x" * 10_000), "malformed"),
    ],
)
def test_a_malformed_package_is_refused_with_its_reason(deb: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        list(read_package(deb, what="sample"))


@pytest.mark.parametrize("name", ["../x", "./../x", "a/../b", "/etc/passwd", "a//b", "a/./b", "..", "a/..", "", "./."])
def test_a_path_that_leaves_the_tree_is_refused(name: str) -> None:
    with pytest.raises(DocumentError, match="unsafe path"):
        list(read_entries(tar_archive([member(name, b"x")]), what="sample"))


def test_a_hard_link_to_outside_is_refused() -> None:
    with pytest.raises(DocumentError, match="unsafe path '/etc/shadow'"):
        list(read_entries(tar_archive([member("a", kind=tarfile.LNKTYPE, target="/etc/shadow")]), what="sample"))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, b"Z"])
def test_devices_and_other_special_files_are_refused(kind: bytes) -> None:
    with pytest.raises(DocumentError, match=r"has type|malformed"):
        list(read_entries(tar_archive([member("dev/null", kind=kind)]), what="sample"))


def test_a_root_directory_that_is_a_link_is_refused() -> None:
    with pytest.raises(DocumentError, match="root directory"):
        list(read_entries(tar_archive([member("./", kind=tarfile.SYMTYPE, target="/")]), what="sample"))


def test_a_time_before_1970_is_refused() -> None:
    with pytest.raises(DocumentError, match="has time -1"):
        list(read_entries(tar_archive([member("a", mtime=-1)]), what="sample"))


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=2047))
def test_an_archive_cut_at_any_byte_is_never_taken_for_a_whole_one(end: int) -> None:
    whole = tar_archive([member("a", b"x" * 500), member("b", b"y")])
    with pytest.raises(DocumentError):
        list(read_entries(whole[:end], what="sample"))


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=511), st.integers(min_value=1, max_value=255))
def test_a_damaged_second_header_never_hides_what_follows(position: int, change: int) -> None:
    """tarfile takes a header with a wrong checksum for the end of the archive."""
    whole = bytearray(tar_archive([member("a"), member("b", b"y"), member("c", b"z")]))
    before = [entry.path for entry in read_entries(bytes(whole), what="sample")]
    whole[512 + position] ^= change
    try:
        after = [entry.path for entry in read_entries(bytes(whole), what="sample")]
    except DocumentError:
        return
    assert after == before, "a change that the checksum field tolerates may not lose members"


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_hold_no_entries(data: bytes) -> None:
    for deb in (data, ar_archive([DEBIAN_BINARY]) + data, deb_with_data("data.tar", data)):
        with suppress(DocumentError):
            assert not list(read_package(deb, what="sample"))


def test_paths_of_a_merged_usr() -> None:
    assert merged_usr_path("bin/sh") == "usr/bin/sh"
    assert merged_usr_path("lib64") == "usr/lib64"
    assert merged_usr_path("usr/bin/sh") == "usr/bin/sh"
    assert merged_usr_path("libx/y") == "libx/y"


@pytest.mark.parametrize(
    ("path", "target", "expected"),
    [("bin", "usr/bin", True), ("lib", "/usr/lib", True), ("bin", "/etc", False), ("srv", "usr/srv", False)],
)
def test_links_of_a_merged_usr(path: str, target: str, *, expected: bool) -> None:
    assert is_merged_usr_link(Entry(path, EntryKind.SYMLINK, 0o777, 0, target=target)) is expected


@pytest.mark.parametrize(
    "name",
    ["a/" * 3000 + "b", "n" * 256, "ä" * 200, "/".join(["d"] * 200)],
    ids=["deep", "long", "bytes", "directories"],
)
def test_a_path_that_no_file_system_takes_is_refused(name: str) -> None:
    with pytest.raises(DocumentError, match="longer or deeper"):
        list(read_entries(tar_archive([member(name)]), what="x.deb"))


@pytest.mark.parametrize("target", ["", "x" * 5000], ids=["empty", "long"])
def test_a_link_without_a_usable_target_is_refused(target: str) -> None:
    with pytest.raises(DocumentError, match="has the target"):
        list(read_entries(tar_archive([member("link", kind=tarfile.SYMTYPE, target=target)]), what="x.deb"))


def test_a_link_target_with_a_zero_byte_is_refused() -> None:
    info, data = member("link", kind=tarfile.SYMTYPE, target="x")
    info.pax_headers = {"linkpath": "a\0b"}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(data))
    with pytest.raises(DocumentError):
        list(read_entries(file.getvalue(), what="x.deb"))


def test_a_chain_of_long_names_is_refused() -> None:
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 2
    block = long_name.tobuf(tarfile.GNU_FORMAT) + b"a\0".ljust(512, b"\0")
    with pytest.raises(DocumentError, match="malformed"):
        list(read_entries(block * 5000 + tar_archive([member("x")]), what="x.deb"))
