"""Containers come out of builds that may have gone wrong in any way: nothing in them may crash or stall the comparison,
and nothing may make a difference disappear."""

import gzip
import io
import lzma
import struct
import tarfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.compare.formats import compressed
from builder.compare.formats.compressed import GZIP, XZ
from builder.compare.formats.cpio import CPIO
from builder.compare.formats.executable import ELF, PE
from builder.compare.formats.firmware import FIRMWARE
from builder.compare.formats.json_document import JSON
from builder.compare.formats.oci import OCI_ARCHIVE
from builder.compare.formats.pseudo_file import parse_pseudo_file
from builder.compare.formats.registry import formats_with
from builder.compare.formats.squashfs import squashfs_format, verity_root
from builder.compare.search import MAX_DEPTH, MAX_FINDINGS
from builder.compare.source import in_memory, printable
from builder.compare.tree import MAX_MEMBERS, Format
from builder.encoding.canonical_json import encode_canonical
from builder.errors import DocumentError
from builder.model.comparison import Comparison, DifferenceKind, comparison_document
from tests.fakes.archives import (
    ENTRIES,
    Entry,
    changed,
    cpio_archive,
    cpio_member,
    elf_file,
    oci_archive,
    pe_file,
    pseudo_file,
    squashfs_image,
    tar_of,
)
from tests.unit.compare.conftest import Explain

VOLUME = bytes(16) + bytes.fromhex("8d2bf1ff96768b4ca9852747075b4f50") + struct.pack("<Q", 4096) + b"_FVH"
SAMPLES: dict[str, tuple[Format, bytes]] = {
    "cpio": (CPIO, cpio_archive()),
    "tar": (OCI_ARCHIVE, tar_of()),
    "pax": (OCI_ARCHIVE, tar_of(layout=tarfile.PAX_FORMAT, atime="1.5")),
    "oci": (OCI_ARCHIVE, oci_archive(tar_of())),
    "gzip": (GZIP, gzip.compress(cpio_archive())),
    "xz": (XZ, lzma.compress(cpio_archive())),
    "elf": (ELF, elf_file({".text": b"code" * 9})),
    "pe": (PE, pe_file({".text": b"code" * 9})),
    "firmware": (FIRMWARE, VOLUME.ljust(4096, b"\xff") + b"boot" * 1024),
    "json": (JSON, b'{"a": [1, "two", {"three": null}], "b": {}}'),
    "squashfs": (squashfs_format(None), squashfs_image(b"data", verity=bytes(4096))),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_recognised_and_read(name: str) -> None:
    kind, data = SAMPLES[name]
    assert kind.matches(in_memory(data))
    assert kind.parse(in_memory(data)).members
    assert next(each for each in formats_with(None) if each.matches(in_memory(data))).name == kind.name


@pytest.mark.parametrize("name", SAMPLES)
def test_no_truncation_crashes_and_none_is_taken_for_the_whole(name: str, explained: Explain) -> None:
    _, data = SAMPLES[name]
    for length in {*range(0, min(len(data), 700), 29), len(data) // 2, len(data) - 1}:
        artifact = explained(data, data[:length])
        assert not artifact.identical
        assert artifact.differences


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 1 << 30), value=st.binary(min_size=1, max_size=9))
def test_no_overwritten_bytes_crash_and_every_one_is_reported(
    name: str, explained: Explain, place: int, value: bytes
) -> None:
    _, data = SAMPLES[name]
    start = place % len(data)
    other = (data[:start] + value + data[start + len(value) :])[: len(data)]
    artifact = explained(data, other)
    assert bool(artifact.differences) == (data != other)
    encode_canonical(comparison_document(Comparison((artifact,))))


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_two_byte_strings_are_compared(explained: Explain, a: bytes, b: bytes) -> None:
    assert bool(explained(a, b).differences) == (a != b)


def bad_cpio(**fields: int) -> bytes:
    """A first member whose header says something absurd."""
    names = ("ino", "mode", "uid", "gid", "nlink", "mtime", "size", "d1", "d2", "d3", "d4", "name_size", "check")
    numbers = [fields.get(name, 2 if name == "name_size" else 0) for name in names]
    return b"070701" + b"".join(b"%08x" % number for number in numbers) + b"a\0\0\0" + bytes(64)


MALFORMED: list[tuple[str, Format, bytes]] = [
    ("cpio with an absurd size", CPIO, bad_cpio(size=0xFFFFFFFF)),
    ("cpio with an absurd name", CPIO, bad_cpio(name_size=0xFFFFFFFF)),
    ("cpio without a name", CPIO, bad_cpio(name_size=0)),
    ("cpio without a trailer", CPIO, cpio_member(ENTRIES[1])),
    ("cpio with letters for digits", CPIO, cpio_archive().replace(b"00000001", b"0000000g", 1)),
    ("cpio with signs for digits", CPIO, cpio_archive().replace(b"00000001", b"+0000001", 1)),
    (
        "tar with an absurd size",
        OCI_ARCHIVE,
        tar_of([Entry("x", b"y")])[:512].replace(b"00000000001\0", b"77777777777\0"),
    ),
    ("tar without an end", OCI_ARCHIVE, tar_of()[:512]),
    ("tar with a wrong sum", OCI_ARCHIVE, b"X" + tar_of()[1:]),
    ("gzip that ends early", GZIP, gzip.compress(b"data" * 99)[:-9]),
    ("gzip of nothing but a header", GZIP, gzip.compress(b"")[:10]),
    ("gzip with a wrong sum", GZIP, gzip.compress(b"data")[:-8] + bytes(8)),
    ("xz that ends early", XZ, lzma.compress(b"data" * 99)[:-9]),
    ("ELF with absurd sections", ELF, b"\x7fELF\x02\x01" + b"\xff" * 58),
    ("ELF with sections behind the end", ELF, elf_file({".text": b"x"})[:-64]),
    ("PE with absurd sections", PE, pe_file({".text": b"x"}).replace(b"\x64\x86\1\0", b"\x64\x86\xff\xff")),
    ("PE with a section behind the end", PE, pe_file({".text": b"x" * 100})[:-50]),
    ("a volume longer than its file", FIRMWARE, VOLUME),
    ("JSON nested too deeply", JSON, b"[" * 100 + b"]" * 100),
    ("squashfs longer than its file", squashfs_format(None), squashfs_image(b"x" * 9000)[:4096]),
    ("squashfs with no size", squashfs_format(None), b"hsqs" + bytes(92)),
]


@pytest.mark.parametrize(("kind", "data"), [entry[1:] for entry in MALFORMED], ids=[entry[0] for entry in MALFORMED])
def test_what_is_malformed_is_refused_by_its_reader_and_compared_as_bytes(
    kind: Format, data: bytes, explained: Explain
) -> None:
    with pytest.raises(DocumentError):
        kind.parse(in_memory(data))
    other = data[:-1] + bytes([data[-1] ^ 1])
    artifact = explained(data, other)
    assert [difference.kind for difference in artifact.differences] == [DifferenceKind.CONTENT]
    assert artifact.differences[0].artifact_offset == len(data) - 1


def test_a_malformed_container_is_noted(explained: Explain) -> None:
    artifact = explained(cpio_archive(), bad_cpio(size=0xFFFFFFFF))
    assert artifact.differences
    assert any("not looked into" in note and "cpio member" in note for note in artifact.notes)


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, mtime=0), lzma.compress])
def test_a_bomb_is_not_unpacked(pack: Callable[[bytes], bytes], explained: Explain) -> None:
    bomb = pack(bytes(compressed.MAX_UNPACKED + 1))
    artifact = explained(bomb, bomb + b"x")
    assert artifact.difference is not None
    assert artifact.difference.path == ("initrd.img",)
    assert any("unpacks to more than" in note for note in artifact.notes)


def test_many_compressed_streams_in_one_file_end(explained: Explain) -> None:
    stream = gzip.compress(b"x", mtime=0)
    artifact = explained(stream * 1000 + b"a", stream * 1000 + b"b")
    assert artifact.difference is not None
    assert artifact.difference.kind is DifferenceKind.TRAILING


def test_nesting_ends(explained: Explain) -> None:
    sides = [b"innermost a", b"innermost b"]
    for _ in range(3 * MAX_DEPTH):
        sides = [gzip.compress(data, mtime=0) for data in sides]
    artifact = explained(*sides)
    assert artifact.difference is not None
    assert len(artifact.difference.path) == MAX_DEPTH + 1
    assert any("nested deeper" in note for note in artifact.notes)


def test_more_members_than_the_bound_are_not_read() -> None:
    member = cpio_member(Entry("m"))
    with pytest.raises(DocumentError, match=f"more than {MAX_MEMBERS} members"):
        CPIO.parse(in_memory(member * (MAX_MEMBERS + 1)))


def test_more_extension_headers_than_the_bound_are_not_read() -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type = tarfile.GNUTYPE_LONGNAME
    with pytest.raises(DocumentError, match="more than"):
        OCI_ARCHIVE.parse(in_memory(header.tobuf(tarfile.GNU_FORMAT) * (2 * MAX_MEMBERS + 1)))


@pytest.mark.parametrize("record", [b"9 path=x", b"0 a=b\n", b"99999999999999999999 a=b\n", b"x a=b\n", b"6 abc\n"])
def test_a_malformed_pax_record_is_refused(record: bytes) -> None:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        info = tarfile.TarInfo("pax")
        info.type, info.size = tarfile.XHDTYPE, len(record)
        archive.addfile(info, io.BytesIO(record))
    with pytest.raises(DocumentError, match="pax record"):
        OCI_ARCHIVE.parse(in_memory(output.getvalue()))


def test_only_so_many_differences_are_listed_and_the_others_are_counted(explained: Explain) -> None:
    entries = [Entry(f"file-{number:03}", b"content") for number in range(200)]
    modes = [Entry(entry.name, b"Content", mode=0o100600) for entry in entries]
    artifact = explained(cpio_archive(entries), cpio_archive(modes))
    assert len(artifact.differences) == MAX_FINDINGS
    assert len(artifact.differences) + artifact.omitted == 400


def test_an_index_that_names_itself_ends(explained: Explain) -> None:
    index = b'{"manifests": [{"digest": "sha256:x"}, 7, {"digest": "../../etc/passwd"}, {"digest": ["a"]}, null]}'
    blob = b'{"config": {"digest": "sha256:x"}, "layers": [{"digest": "sha256:x"}, "layer", {}]}'
    sides = [
        tar_of([Entry("oci-layout"), Entry("index.json", index), Entry("blobs/sha256/x", blob + end)])
        for end in (b"", b" ")
    ]
    artifact = explained(*sides, name="app.oci.tar", component="app_image")
    assert artifact.differences


@pytest.mark.parametrize("index", [b"[]", b"{", b"7", b'{"manifests": {}}', b'{"manifests": [{}]}', b"[" * 100_000])
def test_an_index_that_is_none_leaves_a_plain_archive(index: bytes) -> None:
    data = tar_of([Entry("oci-layout"), Entry("index.json", index), Entry("blobs/sha256/x", b"blob")])
    assert b"blobs/sha256/x" in {member.name for member in OCI_ARCHIVE.parse(in_memory(data)).members}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"/ D 1 755 0 0\n",
        b"#\n# START OF DATA - DO NOT MODIFY\n#\n",
        pseudo_file().replace(b" 10 0\n", b" 10 99999999\n"),
        pseudo_file().replace(b" 10 0\n", b" 99999999 0\n"),
        pseudo_file().replace(b" 10 0\n", b" ten 0\n"),
        pseudo_file().replace(b" 10 0\n", b"\n"),
        b"no definition\n" + pseudo_file().replace(b"/", b""),
        pseudo_file()[:20],
    ],
)
def test_a_malformed_pseudo_file_is_refused_or_keeps_its_bytes_inside(data: bytes) -> None:
    try:
        members = parse_pseudo_file(in_memory(data))
    except DocumentError:
        return
    assert all(member.data.start + member.data.size <= len(data) for member in members)
    assert data.startswith(b"no definition")


def test_odd_names_of_a_pseudo_file_are_read() -> None:
    data = (
        b"/ D 1 755 0 0\n"
        b'a\\ b/we\\"ird\\\\n R 1 644 0 0 2 0\n'
        b"new\nline R 1 644 0 0 1 2 0\n"
        b"hard L etc/target\n"
        b"null C 1 644 0 0 1 3\n"
        b"\xff\xfe S 1 777 0 0 ../x\n"
        b"#\n# START OF DATA - DO NOT MODIFY\n#\nabc"
    )
    members = {member.name: member for member in parse_pseudo_file(in_memory(data))}
    assert set(members) == {b"/", b'a b/we"ird\\n', b"new\nline", b"hard", b"null", b"\xff\xfe"}
    assert members[b'a b/we"ird\\n'].data.read(0, 9) == b"ab"
    assert members[b"new\nline"].data.read(0, 9) == b"c"
    assert b"../x" in members[b"\xff\xfe"].values
    assert b"etc/target" in members[b"hard"].values


@given(st.binary(max_size=200))
def test_no_name_can_write_to_the_terminal(name: bytes) -> None:
    text = printable(name)
    assert text.isprintable()
    text.encode("utf-8")


def test_a_hostile_name_comes_out_as_escapes(explained: Explain) -> None:
    name = "a\x1b[2J\nb‮"
    a, b = (cpio_archive([Entry(name, data)]) for data in (b"1", b"2"))
    (found,) = explained(a, b).differences
    assert found.path == ("initrd.img", "a\\x1b[2J\\nb\\u202e")


def test_no_root_hash_is_read_where_there_is_none() -> None:
    assert verity_root(in_memory(b"")) is None
    assert verity_root(in_memory(b"other" * 99)) is None
    assert verity_root(in_memory(squashfs_image(b"x"))) is None
    assert verity_root(in_memory(squashfs_image(b"x", verity=b"verity\0\0".ljust(4096, b"\0")))) is None
    assert verity_root(in_memory(b"hsqs" + b"\xff" * 9000)) is None


def test_a_deflate_stream_that_never_ends_is_refused() -> None:
    packer = zlib.compressobj(wbits=31)
    open_stream = packer.compress(b"x" * 5000) + packer.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(DocumentError, match="ends in the middle"):
        GZIP.parse(in_memory(open_stream))


def test_a_member_with_another_type_is_a_difference(explained: Explain) -> None:
    (found,) = explained(cpio_archive(), cpio_archive(changed("lib/data", mode=0o120777))).differences
    assert found.kind is DifferenceKind.MODE


@pytest.mark.parametrize(
    "data",
    [
        '{"a": 1}'.encode("utf-16-le"),
        b"{",
        b"{}x",
        b"[section]\n",
        b'{"a": "\xff"}',
        b"{" * 5000,
        b'\xef\xbb\xbf{"a":1}',
    ],
)
def test_what_is_no_json_is_compared_as_bytes(data: bytes, explained: Explain) -> None:
    assert not JSON.matches(in_memory(data))
    (found,) = explained(data, data[:-1] + b"\x01").differences
    assert found.offset == len(data) - 1


def test_a_document_of_odd_spelling_is_walked(explained: Explain) -> None:
    a = b' {"a\\"b" : [ 1.5e3 , "x\\\\" ,{"\\u00e9":true}],"c":NaN }\n'
    (found,) = explained(a, a.replace(b"true", b"null"), name="odd.json").differences
    assert found.path == ("odd.json", '$.a"b[2].é')
