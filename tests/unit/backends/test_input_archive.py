"""The input archive has one form; whatever is not that form is refused, and nothing leaves the directory meant."""

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.backends.input_archive import InputArchive, open_archive, write_archive
from builder.errors import BuilderError, DocumentError, FetchError, MissingError
from builder.model.digest import sha256_hex
from builder.ports import ArchiveMember

LOCK = b'{"lock": 1}\n'
OBJECT = b"package " * 1000


def member(name: str, data: bytes, path: Path | None = None) -> ArchiveMember:
    return ArchiveMember(name, len(data), sha256_hex(data), path)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive with a document and an object."""
    (tmp_path / "lock").write_bytes(LOCK)
    (tmp_path / "object").write_bytes(OBJECT)
    members = [member("lock.json", LOCK, tmp_path / "lock"), member("packages/x", OBJECT, tmp_path / "object")]
    write_archive(tmp_path / "in.tar", members)
    return tmp_path / "in.tar"


def read(data: bytes, target: Path | None = None) -> bytes:
    """Read what `archive` holds; the document."""
    reader = InputArchive(io.BytesIO(data), what="archive")
    document = reader.document("lock.json", limit=1000)
    reader.object(member("packages/x", OBJECT, target))
    reader.finish()
    return document


def test_archive_is_read_back(archive: Path, tmp_path: Path) -> None:
    assert read(archive.read_bytes(), tmp_path / "copy") == LOCK
    assert (tmp_path / "copy").read_bytes() == OBJECT


def test_archive_is_a_tar_that_others_can_read(archive: Path) -> None:
    with tarfile.open(archive, "r:") as tar:
        infos = tar.getmembers()

    assert [(info.name, info.size, info.mode, info.mtime, info.uid, info.uname) for info in infos] == [
        ("lock.json", len(LOCK), 0o644, 0, 0, ""),
        ("packages/x", len(OBJECT), 0o644, 0, 0, ""),
    ]


@pytest.mark.parametrize("size", [b"99999999999", b"+0000000014", b"0_000000014", b"           "])
def test_size_that_is_not_octal_is_refused(archive: Path, size: bytes) -> None:
    data = archive.read_bytes()
    with pytest.raises(DocumentError, match="has to be"):
        read(data[:124] + size + data[135:])


def test_size_that_no_header_can_hold_is_refused(archive: Path) -> None:
    with open_archive(archive) as reader:
        reader.document("lock.json", limit=1000)
        with pytest.raises(DocumentError, match="do not fit"):
            reader.object(ArchiveMember("packages/x", 2**53 - 1, "0" * 64, None))


def test_same_members_give_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "lock").chmod(0o600)
    (tmp_path / "lock").touch()
    members = [member("lock.json", LOCK, tmp_path / "lock"), member("packages/x", OBJECT, tmp_path / "object")]
    write_archive(tmp_path / "again.tar", members)

    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()


def test_member_that_changed_is_never_written(tmp_path: Path) -> None:
    (tmp_path / "object").write_bytes(OBJECT[:-1] + b"!")
    with pytest.raises(FetchError, match="object: 8000 bytes with SHA-256"):
        write_archive(tmp_path / "in.tar", [member("packages/x", OBJECT, tmp_path / "object")])

    assert [path.name for path in tmp_path.iterdir()] == ["object"]


def test_archive_on_a_full_disk_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="nowhere"):
        write_archive(tmp_path / "nowhere" / "in.tar", [])


def test_archive_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="in.tar"), open_archive(tmp_path / "in.tar"):
        pass


def test_archive_cut_anywhere_is_refused(archive: Path) -> None:
    data = archive.read_bytes()
    for length in [*range(0, len(data), 97), len(data) - 1]:
        with pytest.raises(DocumentError):
            read(data[:length])


def test_anything_after_the_end_is_refused(archive: Path) -> None:
    with pytest.raises(DocumentError, match="where the archive has to end"):
        read(archive.read_bytes() + b"\0")


def test_any_changed_bit_is_refused(archive: Path, tmp_path: Path) -> None:
    """In a header, the padding, the object or the end; only the document's digest is left to the caller."""
    data = archive.read_bytes()
    for position in [*range(0, 512, 5), 600, *range(1024, 1536, 5), 1600, 5000, len(data) - 700, len(data) - 1]:
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(BuilderError):
            read(bytes(changed), tmp_path / "copy")


def test_object_with_another_digest_is_named(archive: Path) -> None:
    data = archive.read_bytes().replace(b"package package", b"package packagf", 1)
    with pytest.raises(FetchError, match=r"packages/x has SHA-256 [0-9a-f]{64}, locked is"):
        read(data)


def tar_of(*infos: tuple[tarfile.TarInfo, bytes], format: int = tarfile.USTAR_FORMAT) -> bytes:  # noqa: A002
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for info, data in infos:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    used = sum(512 + -(-len(data) // 512) * 512 for _, data in infos)
    return buffer.getvalue()[: used + 1024]  # without the padding to a record of 10240 bytes


def info(name: str, **fields: object) -> tarfile.TarInfo:
    result = tarfile.TarInfo(name)
    for field, value in {"mode": 0o644, **fields}.items():
        setattr(result, field, value)
    return result


def test_the_way_of_making_hostile_archives_makes_a_good_one_too() -> None:
    assert read(tar_of((info("lock.json"), LOCK), (info("packages/x"), OBJECT))) == LOCK


@pytest.mark.parametrize(
    "first",
    [
        info("../../etc/cron.d/x"),
        info("/etc/passwd"),
        info("./lock.json"),
        info("lock.json", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        info("lock.json", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
        info("lock.json", type=tarfile.DIRTYPE),
        info("lock.json", type=tarfile.CHRTYPE),
        info("lock.json", type=tarfile.FIFOTYPE),
        info("lock.json", mode=0o4755),
        info("lock.json", mtime=1),
        info("lock.json", uid=1000),
        info("lock.json", uname="root"),
        info("recipe.yaml"),
        info(""),
    ],
)
def test_member_other_than_the_one_wanted_is_refused(first: tarfile.TarInfo) -> None:
    with pytest.raises(DocumentError, match="where 'lock.json' of"):
        read(tar_of((first, LOCK), (info("packages/x"), OBJECT)))


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_extensions_of_the_format_are_refused(format: int) -> None:  # noqa: A002
    long_name = info("x" * 200)
    extended = info("lock.json")
    extended.pax_headers = {"path": "../evil", "comment": "x"}
    with pytest.raises(DocumentError, match="where 'lock.json' of"):
        read(tar_of((long_name, LOCK), format=format))
    with pytest.raises(DocumentError):
        read(tar_of((extended, LOCK), format=format))


def test_member_that_comes_twice_is_refused() -> None:
    twice = tar_of((info("lock.json"), LOCK), (info("lock.json"), LOCK))
    with pytest.raises(
        DocumentError, match="a file with the name 'lock.json' where 'packages/x' of 8000 bytes has to be"
    ):
        read(twice)


def test_member_that_is_not_listed_is_refused(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "extra").write_bytes(b"extra")
    members = [
        member("lock.json", LOCK, tmp_path / "lock"),
        member("packages/x", OBJECT, tmp_path / "object"),
        member("packages/y", b"extra", tmp_path / "extra"),
    ]
    write_archive(archive, members)
    with pytest.raises(DocumentError, match="a file with the name 'packages/y' where the archive has to end"):
        read(archive.read_bytes())


def test_document_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(bytes(1001))
    write_archive(tmp_path / "in.tar", [member("lock.json", bytes(1001), tmp_path / "lock")])
    with pytest.raises(DocumentError, match="lock.json has 1001 bytes, more than 1000"):
        read((tmp_path / "in.tar").read_bytes())


def test_archive_of_another_kind_is_refused() -> None:
    for data in (b"", b"\x1f\x8b\x08" + bytes(600), bytes(10240), b"PK\x03\x04" * 300):
        with pytest.raises(DocumentError, match="archive: "):
            read(data)


@given(st.binary(max_size=2000))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    with pytest.raises(DocumentError):
        read(data)
