"""A difference planted in one place is found there: artefact, member, offset, kind and register."""

import gzip
import io
import json
import lzma
import tarfile
from pathlib import Path

import pytest

from builder.compare.source import BytesSource, Extent
from builder.errors import MissingError
from builder.model.comparison import ArtifactComparison, CauseName, Confidence, Difference, DifferenceKind, Register
from tests.fakes.archives import (
    ENTRIES,
    Entry,
    changed,
    cpio_archive,
    elf_file,
    oci_archive,
    pe_file,
    pseudo_file,
    squashfs_image,
    tar_of,
)
from tests.unit.compare.conftest import Explain


def only(artifact: ArtifactComparison) -> Difference:
    assert len(artifact.differences) == 1, [difference.path for difference in artifact.differences]
    assert artifact.omitted == 0
    assert not artifact.identical
    return artifact.differences[0]


def test_equal_bytes_give_no_difference(explained: Explain) -> None:
    archive = cpio_archive()
    artifact = explained(archive, archive)
    assert artifact.identical
    assert artifact.differences == ()


def test_one_flipped_bit_in_plain_bytes(explained: Explain) -> None:
    a = bytes(range(256)) * 64
    b = bytearray(a)
    b[5000] ^= 0x10
    found = only(explained(a, bytes(b), component="kernel", name="vmlinuz"))
    assert found.path == ("vmlinuz",)
    assert (found.kind, found.offset, found.artifact_offset) == (DifferenceKind.CONTENT, 5000, 5000)
    assert found.a_excerpt.startswith(f"{a[5000]:02x}")
    assert found.b_excerpt.startswith(f"{b[5000]:02x}")
    assert found.cause.name is CauseName.UNKNOWN
    assert found.measured.register is Register.RTMR1


def test_a_truncated_artifact(explained: Explain) -> None:
    found = only(explained(b"0123456789", b"0123456", name="cmdline", component="guest_os"))
    assert (found.kind, found.offset, found.b_excerpt) == (DifferenceKind.SIZE, 7, "")
    assert "command line" in found.measured.via


def test_an_initrd_member_with_another_byte(explained: Explain) -> None:
    a = cpio_archive()
    found = only(explained(a, cpio_archive(changed("etc/hostname", data=b"localhosT\n"))))
    assert found.path == ("initrd.img", "etc/hostname")
    assert (found.kind, found.offset) == (DifferenceKind.CONTENT, 8)
    assert found.artifact_offset == a.index(b"localhost") + 8
    assert found.measured.register is Register.RTMR2


@pytest.mark.parametrize(
    ("change", "kind", "field", "shown"),
    [
        ({"mode": 0o100600}, DifferenceKind.MODE, "mode", ("100644", "100600")),
        ({"mtime": 1_700_000_001}, DifferenceKind.MTIME, "mtime", ("1700000000", "1700000001")),
        ({"uid": 1234}, DifferenceKind.OWNER, "uid", ("0", "1234")),
        ({"gid": 4321}, DifferenceKind.OWNER, "gid", ("0", "4321")),
        ({"ino": 77}, DifferenceKind.OTHER, "ino", ("1", "77")),
        ({"nlink": 2}, DifferenceKind.OTHER, "nlink", ("1", "2")),
    ],
)
def test_metadata_of_an_initrd_member(
    explained: Explain, change: dict[str, int], kind: DifferenceKind, field: str, shown: tuple[str, str]
) -> None:
    a, b = cpio_archive(), cpio_archive(changed("etc/hostname", **change))
    found = only(explained(a, b))
    assert found.path == ("initrd.img", "etc/hostname")
    assert (found.kind, found.field, (found.a_excerpt, found.b_excerpt)) == (kind, field, shown)
    assert found.artifact_offset is not None
    assert a[found.artifact_offset : found.artifact_offset + 8] != b[found.artifact_offset : found.artifact_offset + 8]


def test_a_member_that_only_one_initrd_has(explained: Explain) -> None:
    more = (*ENTRIES, Entry("etc/machine-id", b"0123"))
    found = only(explained(cpio_archive(), cpio_archive(more)))
    assert found.path == ("initrd.img", "etc/machine-id")
    assert (found.kind, found.b_excerpt) == (DifferenceKind.ONLY_IN_B, b"0123".hex())
    assert only(explained(cpio_archive(more), cpio_archive())).kind is DifferenceKind.ONLY_IN_A


def test_the_same_members_in_another_order(explained: Explain) -> None:
    found = only(explained(cpio_archive(), cpio_archive(ENTRIES[:1] + ENTRIES[:0:-1])))
    assert found.path == ("initrd.img",)
    assert found.kind is DifferenceKind.ORDER
    assert (found.a_excerpt, found.b_excerpt) == ("etc/hostname", "lib/data")
    assert found.cause.name is CauseName.ORDER


def test_bytes_after_the_end_of_an_initrd(explained: Explain) -> None:
    a = cpio_archive()
    found = only(explained(a, a + b"appended"))
    assert found.path == ("initrd.img", "(after the end)")
    assert found.kind is DifferenceKind.TRAILING
    assert found.artifact_offset == len(a)


def test_a_second_archive_behind_the_first_is_looked_into(explained: Explain) -> None:
    first = cpio_archive()[:-16].rstrip(b"\0") + b"\0" * 4
    first += bytes(-len(first) % 4)
    sides = [first + cpio_archive([Entry("late", text)]) for text in (b"one", b"two")]
    found = only(explained(*sides))
    assert found.path[-1] == "late"
    assert found.kind is DifferenceKind.CONTENT


def test_a_name_that_occurs_twice_is_paired_by_its_turn(explained: Explain) -> None:
    a = cpio_archive([Entry("x", b"first"), Entry("x", b"second")])
    b = cpio_archive([Entry("x", b"first"), Entry("x", b"SECOND")])
    assert only(explained(a, b)).a_excerpt == b"second".hex()


@pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_member_with_another_byte(explained: Explain, layout: int) -> None:
    name = "deep/" * 25 + "file"
    entries = (Entry(name, b"some text"), *ENTRIES)
    a, b = (tar_of(changed(name, entries, data=data), layout=layout) for data in (b"some text", b"some Text"))
    found = only(explained(a, b, component="app_image", name="app.tar"))
    assert found.path == ("app.tar", name)
    assert (found.offset, found.artifact_offset) == (5, a.index(b"some text") + 5)


@pytest.mark.parametrize(
    ("change", "kind", "offset"),
    [
        ({"mode": 0o040700}, DifferenceKind.MODE, 100),
        ({"mtime": 1_700_000_001}, DifferenceKind.MTIME, 136),
        ({"uid": 1}, DifferenceKind.OWNER, 108),
        ({"uid": 1 << 40}, DifferenceKind.OWNER, 108),
    ],
)
def test_metadata_of_a_tar_member(
    explained: Explain, change: dict[str, int], kind: DifferenceKind, offset: int
) -> None:
    found = only(explained(tar_of(), tar_of(changed("etc", **change)), name="app.tar"))
    assert found.path == ("app.tar", "etc/")
    assert (found.kind, found.artifact_offset) == (kind, offset)


def test_a_pax_time_is_a_field_of_its_member(explained: Explain) -> None:
    a, b = (tar_of(ENTRIES[1:2], layout=tarfile.PAX_FORMAT, atime=time) for time in ("1700000000.25", "1700000009.5"))
    found = only(explained(a, b, name="app.tar"))
    assert (found.path, found.field, found.kind) == (("app.tar", "etc/hostname"), "atime", DifferenceKind.MTIME)
    assert found.cause.name is CauseName.CLOCK


@pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_target_of_a_long_link(explained: Explain, layout: int) -> None:
    sides = []
    for end in ("x", "y"):
        output = io.BytesIO()
        with tarfile.open(fileobj=output, mode="w", format=layout) as archive:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, "long/" * 30 + end
            archive.addfile(info)
        sides.append(output.getvalue())
    found = only(explained(*sides, name="app.tar"))
    assert (found.path, found.field, found.artifact_offset) == (("app.tar", "link"), "link", None)
    assert (found.a_excerpt[-1], found.b_excerpt[-1]) == ("x", "y")


def test_the_owner_by_name_in_a_tar_header(explained: Explain) -> None:
    a = tar_of(ENTRIES[1:2])
    b = bytearray(a)
    b[265:270] = b"alice"
    b[148:156] = b"%06o\0 " % (sum(b[:512]) - sum(b[148:156]) + sum(b" " * 8))
    found = only(explained(a, bytes(b), name="app.tar"))
    assert (found.kind, found.field, found.b_excerpt) == (DifferenceKind.OWNER, "user", "alice")
    assert found.artifact_offset == 265


@pytest.mark.parametrize(("size", "known"), [("9", True), ("nine", False), ("9" * 21, False)])
def test_a_size_in_a_pax_record_is_the_size(size: str, known: bool, explained: Explain) -> None:
    sides = []
    for end in (b"x", b"y"):
        data = tar_of([Entry("big", b"12345678" + end)], layout=tarfile.PAX_FORMAT, comment="size=")
        record = b"%d size=%b\n"
        line = next(record % (n, size.encode()) for n in range(40) if len(record % (n, size.encode())) == n)
        header = tarfile.TarInfo("pax")
        header.type, header.size = tarfile.XHDTYPE, len(line)
        sides.append(header.tobuf(tarfile.GNU_FORMAT) + line.ljust(512, b"\0") + data[1024:])
    artifact = explained(*sides, name="app.tar")
    assert (only(artifact).path == ("app.tar", "big")) is known
    assert any("pax size" in note for note in artifact.notes) is not known


def test_the_name_in_a_gzip_header(explained: Explain) -> None:
    sides = []
    for name in ("/build/a", "/build/b"):
        output = io.BytesIO()
        with gzip.GzipFile(name, "wb", fileobj=output, mtime=0) as file:
            file.write(b"data")
        sides.append(output.getvalue())
    found = only(explained(*sides))
    assert (found.field, found.a_excerpt, found.b_excerpt) == ("name", "a", "b")


def test_a_file_in_a_layer_of_an_app_image(explained: Explain) -> None:
    a, b = (oci_archive(tar_of(changed("etc/hostname", data=data))) for data in (b"alpha\n", b"omega\n"))
    artifact = explained(a, b, component="app_image", name="app.oci.tar")
    first, *others = artifact.differences
    assert first.path == ("app.oci.tar", "manifests[0].layers[0]", "etc/hostname")
    assert first.artifact_offset == a.index(b"alpha\n")
    assert first.measured.register is Register.RTMR2
    assert others
    assert {difference.cause.name for difference in others} == {CauseName.CONSEQUENCE}


def test_a_member_of_the_config_of_an_app_image(explained: Explain) -> None:
    a, b = (oci_archive(tar_of(), created=day, os="linux") for day in ("2026-01-02T00:00:00Z", "2027-02-06T00:00:00Z"))
    artifact = explained(a, b, component="app_image", name="app.oci.tar")
    found = artifact.differences[0]
    assert found.path == ("app.oci.tar", "manifests[0].config", "$.created")
    assert found.artifact_offset is not None
    assert a[found.artifact_offset :].startswith(b"6-01-02T")
    assert {difference.cause.name for difference in artifact.differences[1:]} == {CauseName.CONSEQUENCE}


def test_a_compressed_layer_is_looked_into(explained: Explain) -> None:
    a, b = (oci_archive(gzip.compress(tar_of(changed("init", data=data)), mtime=0)) for data in (b"one", b"two"))
    found = explained(a, b, component="app_image", name="app.oci.tar").differences[0]
    assert found.path == ("app.oci.tar", "manifests[0].layers[0]", "(unpacked)", "init")
    assert found.artifact_offset is None


def test_every_differing_value_of_a_document_is_named(explained: Explain) -> None:
    a = {"b": [1, {"c": "x"}], "e": {}, "f": [], "n": None}
    b = {"b": [1, {"c": "y"}], "e": {}, "f": [], "n": True}
    data = json.dumps(a, indent=1).encode()
    artifact = explained(data, json.dumps(b, indent=1).encode(), name="config.json")
    assert [difference.path[-1] for difference in artifact.differences] == ["$.b[1].c", "$.n"]
    assert artifact.differences[0].artifact_offset == data.index(b'"x"') + 1


def test_a_document_that_differs_in_white_space_alone_still_differs(explained: Explain) -> None:
    found = only(explained(b'{"a": 1}', b'{"a":1}', name="config.json"))
    assert "white space" in found.cause.evidence
    assert found.offset == 5


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, mtime=0), lzma.compress])
def test_the_content_of_a_compressed_initrd(explained: Explain, pack: object) -> None:
    assert callable(pack)
    found = only(explained(pack(cpio_archive()), pack(cpio_archive(changed("init", data=b"#!/bin/sh\n")))))
    assert found.path == ("initrd.img", "(unpacked)", "init")
    assert found.artifact_offset is None


def test_the_time_in_a_gzip_header(explained: Explain) -> None:
    a, b = (gzip.compress(b"data", mtime=time) for time in (1_700_000_000, 1_700_000_005))
    found = only(explained(a, b))
    assert (found.path, found.field, found.kind) == (("initrd.img", "(unpacked)"), "mtime", DifferenceKind.MTIME)
    assert found.artifact_offset == 4


def test_another_compressor_is_told_from_other_data(explained: Explain) -> None:
    data = bytes(range(256)) * 400
    a, b = (gzip.compress(data, compresslevel=level, mtime=0) for level in (1, 9))
    b = b[:8] + a[8:9] + b[9:]  # the header says the same level
    artifact = explained(a, b)
    assert artifact.differences
    assert "the unpacked bytes are the same" in artifact.differences[0].cause.evidence


def test_a_section_of_an_executable_names_the_offset(explained: Explain) -> None:
    a, b = (elf_file({".text": b"\x90" * 64, ".rodata": text}) for text in (b"built by x", b"built by y"))
    found = only(explained(a, b, component="kernel", name="vmlinux"))
    assert found.path == ("vmlinux", ".rodata")
    assert (found.offset, found.artifact_offset) == (9, a.index(b"built") + 9)


def test_a_build_id_is_a_consequence_where_another_section_differs(explained: Explain) -> None:
    a, b = (
        elf_file({".note.gnu.build-id": digest * 20, ".text": text}) for digest, text in ((b"1", b"x"), (b"2", b"y"))
    )
    text, build_id = explained(a, b, component="kernel", name="vmlinux").differences
    assert text.path == ("vmlinux", ".text")
    assert build_id.cause.name is CauseName.CONSEQUENCE


def test_a_build_id_that_differs_alone_is_no_consequence(explained: Explain) -> None:
    a, b = (elf_file({".note.gnu.build-id": digest * 20, ".text": b"same"}) for digest in (b"1", b"2"))
    assert only(explained(a, b)).cause.name is CauseName.UNKNOWN


def test_a_section_of_a_kernel_image(explained: Explain) -> None:
    a, b = (pe_file({".setup": b"s" * 64, ".text": text}) for text in (b"code 1", b"code 2"))
    found = only(explained(a, b, component="kernel", name="vmlinuz"))
    assert found.path == ("vmlinuz", ".text")
    assert found.artifact_offset == 512 + 64 + 5


def test_what_is_appended_to_a_kernel_image(explained: Explain) -> None:
    a, b = (pe_file({".text": b"code"}, tail=tail) for tail in (b"", b"signature"))
    found = only(explained(a, b, component="kernel", name="vmlinuz"))
    assert (found.path, found.kind) == (("vmlinuz", "(after the end)"), DifferenceKind.TRAILING)


def test_the_volumes_of_a_firmware_feed_different_registers(explained: Explain, vectors: Path) -> None:
    firmware = (vectors / "firmware" / "virtee_OVMF.inteltdx.fd").read_bytes()
    for offset, register in ((0x100, Register.RTMR0), (0x20000, Register.MRTD), (len(firmware) - 1, Register.MRTD)):
        other = bytearray(firmware)
        other[offset] ^= 1
        found = only(explained(firmware, bytes(other), component="firmware", name="OVMF.fd"))
        assert found.artifact_offset == offset
        assert found.measured.register is register


def test_a_firmware_without_volumes_is_not_given_a_register(explained: Explain) -> None:
    found = only(explained(b"no volume", b"no Volume", component="firmware", name="OVMF.fd"))
    assert found.measured.register is Register.UNKNOWN


def reading(sides: dict[bytes, bytes]) -> object:
    """A reader that knows the pseudo file of each image."""

    def read(image: Extent) -> BytesSource:
        return BytesSource(sides[image.read(0, image.size)])

    return read


def test_a_file_in_a_root_file_system(explained: Explain) -> None:
    a, b = squashfs_image(b"A" * 500, verity=b"\1" * 4096), squashfs_image(b"B" * 500, verity=b"\2" * 4096)
    reader = reading({a: pseudo_file(), b: pseudo_file(changed("etc/hostname", data=b"localhosT\n"))})
    artifact = explained(a, b, component="guest_os", name="rootfs.img", reader=reader)
    file, tree = artifact.differences
    assert file.path == ("rootfs.img", "etc/hostname")
    assert (file.offset, file.artifact_offset) == (8, None)
    assert "dm-verity root hash" in file.measured.via
    assert tree.path == ("rootfs.img", "(dm-verity hash tree)")
    assert tree.cause.name is CauseName.CONSEQUENCE
    assert artifact.notes == ()


def test_an_absent_reader_is_named_and_the_place_is_still_told(explained: Explain) -> None:
    a, b = squashfs_image(b"A" * 500), squashfs_image(b"A" * 499 + b"B")
    artifact = explained(a, b, component="guest_os", name="rootfs.img")
    found = only(artifact)
    assert (found.path, found.artifact_offset) == (("rootfs.img", "(data)"), 96 + 499)
    assert found.cause.name is CauseName.UNKNOWN
    assert any("no reader for squashfs" in note for note in artifact.notes)


def test_a_reader_that_fails_on_one_side_is_named_and_nothing_is_taken_for_missing(explained: Explain) -> None:
    a, b = squashfs_image(b"A" * 500), squashfs_image(b"B" * 500)

    def read(image: Extent) -> BytesSource:
        if image.read(0, image.size) == b:
            raise MissingError("unsquashfs is not in the pinned root")
        return BytesSource(pseudo_file())

    artifact = explained(a, b, component="guest_os", name="rootfs.img", reader=read)
    assert only(artifact).path == ("rootfs.img",)
    assert any("unsquashfs is not in the pinned root" in note for note in artifact.notes)


def test_the_creation_time_of_a_root_file_system(explained: Explain) -> None:
    a, b = squashfs_image(b"A" * 500), squashfs_image(b"A" * 500, created=1_700_000_060)
    found = only(explained(a, b, component="guest_os", name="rootfs.img"))
    assert (found.path, found.field, found.artifact_offset) == (("rootfs.img", "(superblock)"), "created", 8)
    assert found.cause.name is CauseName.CLOCK


def test_a_root_file_system_packed_another_way_still_differs(explained: Explain) -> None:
    a, b = squashfs_image(b"AB" * 250), squashfs_image(b"BA" * 250)
    found = only(
        explained(a, b, component="guest_os", name="rootfs.img", reader=reading({a: pseudo_file(), b: pseudo_file()}))
    )
    assert "no member differs" in found.cause.evidence


def verity_superblock(uuid: bytes, salt: bytes) -> bytes:
    header = b"verity\0\0" + bytes(8) + uuid + b"sha256".ljust(32, b"\0") + bytes(16)
    return (header + len(salt).to_bytes(2, "little") + bytes(6) + salt).ljust(512, b"\0")


def test_the_uuid_of_dm_verity_is_unmeasured_and_its_salt_is_not(explained: Explain) -> None:
    uuids = bytes.fromhex("0d4f7ac3b1e24689a5c7d8e9f01b2a3c"), bytes.fromhex("f3a81c5e27904bd6a1e4b39c805d7f62")
    tree = b"\7" * 3584
    a, b = (squashfs_image(b"A" * 500, verity=verity_superblock(uuid, b"s" * 16) + tree) for uuid in uuids)
    found = only(explained(a, b, component="guest_os", name="rootfs.img"))
    assert (found.field, found.measured.register) == ("uuid", Register.UNMEASURED)
    assert found.cause.name is CauseName.RANDOM
    a, b = (squashfs_image(b"A" * 500, verity=verity_superblock(uuids[0], salt) + tree) for salt in uuids)
    found = only(explained(a, b, component="guest_os", name="rootfs.img"))
    assert (found.field, found.measured.register) == ("salt", Register.RTMR2)


def test_an_unknown_component_is_not_given_a_register(explained: Explain) -> None:
    assert only(explained(b"a", b"b", component="unknown", name="x")).measured.register is Register.UNKNOWN


def test_random_bytes_are_called_random_with_at_most_medium_confidence(explained: Explain) -> None:
    a = b"salt:" + bytes.fromhex("9f1c0a7be25d4438c6b1e09372fa5d8e") + b":end"
    b = b"salt:" + bytes.fromhex("36d87e01a94fc25b10e7943d6ac8b2f5") + b":end"
    found = only(explained(a, b))
    assert found.cause.name is CauseName.RANDOM
    assert found.cause.confidence is not Confidence.HIGH
