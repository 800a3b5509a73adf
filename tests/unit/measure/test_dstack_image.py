"""dstack images: manifest, metadata, files (`quotes.md` 8.1, `formats.md` 11)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BytesDifferError, DocumentError, ExitStatus
from builder.measure.dstack.identities import os_image_hash
from builder.measure.dstack.image import (
    check_complete,
    check_digest_file,
    dstack_image,
    encode_checksum_file,
    measurement_differences,
    parse_checksum_file,
    parse_image_metadata,
    stated_variant,
)
from builder.measure.dstack.names import OvmfVariant
from tests.fakes.boot_files import bzimage
from tests.fakes.dstack_images import COMMAND_LINE, METADATA, ROOT_HASH, checksum_file, image_files, image_of

DIGEST = "0123456789abcdef" * 4
FILES = image_files()
CHECKSUMS = parse_checksum_file(checksum_file(FILES))


def metadata(**changes: Any) -> bytes:
    members = {name: value for name, value in {**METADATA, **changes}.items() if value is not ...}
    return json.dumps(members).encode()


def test_lines_are_kept_in_their_order() -> None:
    data = f"{DIGEST}  ovmf.fd\n{DIGEST}  bzImage\n{DIGEST}  measurement.aws.replay.json\n".encode()
    parsed = parse_checksum_file(data)
    assert list(parsed.digests) == ["ovmf.fd", "bzImage", "measurement.aws.replay.json"]
    assert parsed.os_image_hash == os_image_hash(data)
    assert encode_checksum_file(parsed.digests) == data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"{DIGEST}  bzImage",
        f"{DIGEST}  bzImage\n\n",
        f"\n{DIGEST}  bzImage\n",
        f"{DIGEST}  bzImage\r\n",
        f"{DIGEST}  bzImage\x0c{DIGEST}  bzImage\n",
        f"{DIGEST.upper()}  bzImage\n",
        f"{DIGEST[2:]}  bzImage\n",
        f"{DIGEST}00  bzImage\n",
        f"{DIGEST} bzImage\n",
        f"{DIGEST} *bzImage\n",
        f"\\{DIGEST}  bzImage\n",
        f"{DIGEST}   bzImage\n",
        f"{DIGEST}\tbzImage\n",
        f"{DIGEST}  bzImage junk\n",
        f"{DIGEST}  \n",
        f"{DIGEST}  ./bzImage\n",
        f"{DIGEST}  ../bzImage\n",
        f"{DIGEST}  sub/bzImage\n",
        f"{DIGEST}  /bzImage\n",
        f"{DIGEST}  ..\n",
        f"{DIGEST}  .hidden\n",
        f"{DIGEST}  -rf\n",
        f"{DIGEST}  bz\0Image\n",
        f"{DIGEST}  bzImage\u200b\n",
        f"{DIGEST}  sha256sum.txt\n",
        f"{DIGEST}  digest.txt\n",
        f"{DIGEST}  {'n' * 129}\n",
        f"# comment\n{DIGEST}  bzImage\n",
    ],
    ids=repr,
)
def test_lines_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(DocumentError, match=r"sha256sum\.txt"):
        parse_checksum_file(text.encode())


def test_a_name_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(DocumentError, match="a second time"):
        parse_checksum_file(f"{DIGEST}  bzImage\n{'ab' * 32}  bzImage\n".encode())


@pytest.mark.parametrize("data", [b"\xff\n", b"x" * (1 << 17)], ids=["no text", "too large"])
def test_what_is_no_small_text_is_no_checksum_file(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_checksum_file(data)


@given(st.binary(max_size=200))
def test_hostile_bytes_are_no_checksum_file(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_checksum_file(data)


def test_a_checksum_file_is_not_written_with_a_path() -> None:
    with pytest.raises(DocumentError):
        encode_checksum_file({"../bzImage": DIGEST})


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_digest_file_says_the_image_hash(end: str) -> None:
    check_digest_file((CHECKSUMS.os_image_hash + end).encode(), CHECKSUMS)


@pytest.mark.parametrize("text", ["", "\n", DIGEST, DIGEST + "\n\n", " ", "x"])
def test_another_digest_file_is_noticed(text: str) -> None:
    with pytest.raises(BytesDifferError) as error:
        check_digest_file(text.encode(), CHECKSUMS)
    assert error.value.status is ExitStatus.BYTES_DIFFER


def test_metadata_names_files_and_command_line() -> None:
    parsed = parse_image_metadata(metadata(kernel_header_normalized=True, novelty=1))
    assert (parsed.bios, parsed.kernel, parsed.initrd) == ("ovmf.fd", "bzImage", "initramfs.cpio.gz")
    assert parsed.command_line == COMMAND_LINE
    assert parsed.root_hash == ROOT_HASH
    assert parsed.ovmf_variant is OvmfVariant.PRE202505
    assert parsed.kernel_header_normalized
    assert parsed.unused == ("novelty",)


def test_metadata_of_old_images_says_less() -> None:
    parsed = parse_image_metadata(metadata(version=..., is_dev=..., rootfs=..., ovmf_variant=..., git_revision=...))
    assert (parsed.version, parsed.is_dev, parsed.rootfs, parsed.ovmf_variant) == ("", False, None, None)
    assert not parsed.kernel_header_normalized
    with pytest.raises(DocumentError, match="no ovmf_variant"):
        stated_variant(parsed)


@pytest.mark.parametrize("line", ["quiet", f"{COMMAND_LINE} dstack.rootfs_hash={DIGEST}", "dstack.rootfs_hash=ab"])
def test_a_command_line_without_exactly_one_root_hash_commits_to_none(line: str) -> None:
    assert parse_image_metadata(metadata(cmdline=line)).root_hash is None


@pytest.mark.parametrize("name", ["bios", "kernel", "initrd", "rootfs"])
@pytest.mark.parametrize("path", ["../ovmf.fd", "/etc/passwd", "a/b", "..", ".", "", ".x", "a\\b", "a\0", "a\n", 7, []])
def test_file_names_that_leave_the_directory_are_refused(name: str, path: object) -> None:
    with pytest.raises(DocumentError, match=name):
        parse_image_metadata(metadata(**{name: path}))


@pytest.mark.parametrize(
    "changes",
    [
        {"bios": ...},
        {"kernel": ...},
        {"initrd": None},
        {"cmdline": ...},
        {"cmdline": 7},
        {"version": 7},
        {"is_dev": "no"},
        {"kernel_header_normalized": 1},
        {"kernel_header_normalized": None},
        {"ovmf_variant": "new"},
    ],
    ids=str,
)
def test_missing_and_mistyped_members_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match=r"metadata\.json"):
        parse_image_metadata(metadata(**changes))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"bios":"a","bios":"b"}', b"\xff"])
def test_what_is_no_strict_object_is_no_metadata(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_image_metadata(data)


def test_an_image_is_its_listed_files() -> None:
    image = image_of(FILES)
    assert image.os_image_hash == CHECKSUMS.os_image_hash
    assert (image.files.firmware, image.files.kernel) == (FILES["ovmf.fd"], FILES["bzImage"])
    assert image.files.command_line == COMMAND_LINE
    assert image.measurement is not None


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_noticed(name: str) -> None:
    with pytest.raises(BytesDifferError, match=name):
        dstack_image({**FILES, name: FILES[name] + b" "}, CHECKSUMS)


@pytest.mark.parametrize("name", FILES)
def test_a_listed_file_that_is_missing_is_noticed(name: str) -> None:
    with pytest.raises(DocumentError, match=name):
        dstack_image({each: data for each, data in FILES.items() if each != name}, CHECKSUMS)


@pytest.mark.parametrize("name", ["ovmf.fd", "bzImage", "initramfs.cpio.gz", "metadata.json"])
def test_a_booted_file_that_is_not_listed_is_refused(name: str) -> None:
    listed = parse_checksum_file(checksum_file({each: data for each, data in FILES.items() if each != name}))
    with pytest.raises(DocumentError, match=f"lists no '{name}'"):
        check_complete(FILES, listed, parse_image_metadata(FILES["metadata.json"]))


def test_files_that_belong_to_an_image_without_being_listed_are_no_surprise() -> None:
    parsed = parse_image_metadata(FILES["metadata.json"])
    check_complete([*FILES, "sha256sum.txt", "digest.txt", "disk.raw", str(parsed.rootfs)], CHECKSUMS, parsed)


@pytest.mark.parametrize("name", ["bzImage.old", "rootfs.other", "MEASUREMENT.TDX.CBOR", ".hidden"])
def test_a_file_that_is_not_listed_is_refused(name: str) -> None:
    with pytest.raises(DocumentError, match="does not list"):
        check_complete([*FILES, name], CHECKSUMS, parse_image_metadata(FILES["metadata.json"]))


def test_a_document_that_is_not_listed_is_not_read() -> None:
    listed = {name: data for name, data in FILES.items() if name != "measurement.tdx.cbor"}
    image = dstack_image(FILES, parse_checksum_file(checksum_file(listed)))
    assert image.measurement is None
    with pytest.raises(DocumentError, match="the image has none"):
        measurement_differences(image)


@pytest.mark.parametrize("version", [3, 4])
def test_a_document_of_the_files_does_not_differ(version: int) -> None:
    assert measurement_differences(image_of(image_files(document_version=version))) == ()


def test_a_document_of_a_normalized_kernel_does_not_differ() -> None:
    assert measurement_differences(image_of(image_files(kernel_header_normalized=True))) == ()


def test_a_document_of_another_kernel_differs() -> None:
    files = {**FILES, "bzImage": bzimage(release=b"6.13.0-other")}
    (difference,) = measurement_differences(image_of(files))
    assert difference.startswith("kernel: stated ")


def test_a_document_of_another_command_line_differs() -> None:
    files = {**FILES, "metadata.json": metadata(cmdline="quiet")}
    assert [each.split(":")[0] for each in measurement_differences(image_of(files))] == ["command_line", "load_options"]


def test_a_declared_header_that_the_document_does_not_know_differs() -> None:
    files = {**FILES, "metadata.json": metadata(kernel_header_normalized=True)}
    assert [each.split(":")[0] for each in measurement_differences(image_of(files))] == [
        "kernel",
        "kernel_header_normalized",
    ]
