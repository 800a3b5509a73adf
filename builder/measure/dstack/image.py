"""A dstack image: manifest, metadata and boot files, from their bytes (`quotes.md` 8.1, `formats.md` 11).

`sha256sum.txt` is the image's identity. dstack's own tools read it in ways that disagree, so that a listed file could
go unchecked; here a line has one form, every listed file is checked, and what is booted must be listed.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from builder.encoding.canonical_json import parse_json
from builder.errors import BytesDifferError, DocumentError
from builder.measure.dstack.measurement import FILE_NAME, TdxMeasurement, parse_tdx_measurement, tdx_measurement_for
from builder.measure.dstack.names import OvmfVariant, parse_ovmf_variant
from builder.model.digest import sha256_hex
from builder.model.launch_profile import BootFiles

CHECKSUM_FILE = "sha256sum.txt"
DIGEST_FILE = "digest.txt"
METADATA_FILE = "metadata.json"

_MAX_TEXT = 64 << 10
_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9._-]{0,127})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ROOT_HASH = re.compile(r"dstack\.rootfs_hash=([0-9a-f]{64})")
# No part of the identity: other platforms' documents commit to these, and the command line to the root file system.
_UNLISTED = frozenset({CHECKSUM_FILE, DIGEST_FILE, "disk.raw", "ovmf-sev.fd", "measurement.gcp.eventlog.bin"})
_KNOWN_METADATA = frozenset(
    {"bios", "bios-sev", "kernel", "cmdline", "initrd", "rootfs", "version", "git_revision", "shared_ro", "is_dev"}
    | {"ovmf_variant", "kernel_header_normalized"}
)


@dataclass(frozen=True)
class ChecksumFile:
    """A parsed `sha256sum.txt`: its own SHA-256, which is the os_image_hash, and the SHA-256 of each file by name."""

    os_image_hash: str
    digests: Mapping[str, str]


@dataclass(frozen=True)
class ImageMetadata:
    """What `metadata.json` says. File names are plain; `unused` are members that nothing here depends on."""

    bios: str
    kernel: str
    initrd: str
    command_line: str
    rootfs: str | None
    version: str
    is_dev: bool
    ovmf_variant: OvmfVariant | None
    kernel_header_normalized: bool
    unused: tuple[str, ...]

    @property
    def root_hash(self) -> str | None:
        """The verity root that the command line commits to; None if it names no root file system in dstack's way."""
        found = [match[1] for match in map(_ROOT_HASH.fullmatch, self.command_line.split(" ")) if match]
        return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class DstackImage:
    """An image whose listed files were all checked; one without a list has no `os_image_hash`, and nothing was checked.

    `measurement` is its TDX document, if it has one.
    """

    os_image_hash: str | None
    metadata: ImageMetadata
    files: BootFiles
    measurement: TdxMeasurement | None


def parse_checksum_file(data: bytes) -> ChecksumFile:
    """Lines of 64 lower-case hex digits, two spaces and a plain name, each ended by a newline; names are unique.

    DocumentError for everything else that `sha256sum` would write or accept: paths, escapes, binary mode, empty lines.
    """
    text = _text(data, CHECKSUM_FILE)
    if not text.endswith("\n"):
        raise DocumentError(f"{CHECKSUM_FILE}: does not end with a newline")
    digests: dict[str, str] = {}
    for number, line in enumerate(text[:-1].split("\n"), start=1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in (CHECKSUM_FILE, DIGEST_FILE):
            raise DocumentError(
                f"{CHECKSUM_FILE}: line {number} is {line[:120]!r}",
                hint="wanted 64 lower-case hex digits, two spaces, and the name of another file in this directory",
            )
        if match[2] in digests:
            raise DocumentError(f"{CHECKSUM_FILE}: line {number} lists {match[2]!r} a second time")
        digests[match[2]] = match[1]
    return ChecksumFile(sha256_hex(data), digests)


def encode_checksum_file(digests: Mapping[str, str]) -> bytes:
    """`sha256sum.txt` of these files, in their order: the order is part of the identity."""
    data = "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode("ascii")
    parse_checksum_file(data)
    return data


def check_digest_file(data: bytes, checksums: ChecksumFile) -> None:
    """BytesDifferError unless `digest.txt` says what `sha256sum.txt` hashes to; it may end with one newline."""
    stated = _text(data, DIGEST_FILE).removesuffix("\n")
    if stated != checksums.os_image_hash:
        raise BytesDifferError(
            f"{DIGEST_FILE}: {stated[:80]!r}, but {CHECKSUM_FILE} has SHA-256 {checksums.os_image_hash}",
            hint="one of the two is not of this image",
        )


def check_complete(names: Iterable[str], checksums: ChecksumFile, metadata: ImageMetadata) -> None:
    """DocumentError if `names`, all there is in the image's directory, lack a listed file or hold one too many.

    A file that is booted but not listed would be no part of the image's identity.
    """
    found, listed = set(names), set(checksums.digests)
    missing = sorted(listed - found)
    extra = sorted(found - listed - _UNLISTED - {metadata.rootfs})
    unlisted = [name for name in (metadata.bios, metadata.kernel, metadata.initrd, METADATA_FILE) if name not in listed]
    for problem, files in (("lists no", unlisted), ("lists an absent", missing), ("does not list", extra)):
        if files:
            raise DocumentError(
                f"{CHECKSUM_FILE}: {problem} {files[0][:120]!r}", hint="this is no complete dstack image"
            )


def parse_image_metadata(data: bytes) -> ImageMetadata:
    """Parse `metadata.json`; DocumentError for missing or mistyped members and for file names with a directory part.

    Unknown members are kept by name: the file is covered by os_image_hash, so that it is the image's maker who says
    them. Not checked here: that the files exist, and the command line's characters (`encode_load_options`).
    """
    if len(data) > _MAX_TEXT:
        raise DocumentError(f"{METADATA_FILE}: {len(data)} bytes, wanted at most {_MAX_TEXT}")
    document = parse_json(data, what=METADATA_FILE)
    if not isinstance(document, dict):
        raise DocumentError(f"{METADATA_FILE}: not an object")
    variant = document.get("ovmf_variant")
    rootfs = document.get("rootfs")
    return ImageMetadata(
        bios=_file_name(document, "bios"),
        kernel=_file_name(document, "kernel"),
        initrd=_file_name(document, "initrd"),
        command_line=_member(document, "cmdline"),
        rootfs=None if rootfs is None else _file_name(document, "rootfs"),
        version=_member(document, "version") if "version" in document else "",
        is_dev=_flag(document, "is_dev"),
        ovmf_variant=None if variant is None else parse_ovmf_variant(str(variant), what=METADATA_FILE),
        kernel_header_normalized=_flag(document, "kernel_header_normalized"),
        unused=tuple(sorted(set(document) - _KNOWN_METADATA)),
    )


def dstack_image(files: Mapping[str, bytes], checksums: ChecksumFile) -> DstackImage:
    """The image of these files, by name: all that `checksums` lists. BytesDifferError for one of another digest."""
    for name, wanted in checksums.digests.items():
        found = sha256_hex(_listed(files, name))
        if found != wanted:
            raise BytesDifferError(
                f"{name}: SHA-256 {found}, {CHECKSUM_FILE} lists {wanted}", hint="the file was changed after the build"
            )
    document = files.get(FILE_NAME) if FILE_NAME in checksums.digests else None
    return _image(files, document, os_image_hash=checksums.os_image_hash)


def unlisted_image(files: Mapping[str, bytes]) -> DstackImage:
    """The image of these files, which no `sha256sum.txt` lists: it has the registers of one, and no identity."""
    return _image(files, files.get(FILE_NAME), os_image_hash=None)


def boot_file_names(metadata: ImageMetadata) -> tuple[str, ...]:
    """The files that are booted, in the order of the list."""
    return metadata.bios, metadata.kernel, metadata.initrd


def _image(files: Mapping[str, bytes], document: bytes | None, *, os_image_hash: str | None) -> DstackImage:
    metadata = parse_image_metadata(_listed(files, METADATA_FILE))
    firmware, kernel, initrd = (_listed(files, name) for name in boot_file_names(metadata))
    return DstackImage(
        os_image_hash=os_image_hash,
        metadata=metadata,
        files=BootFiles(firmware, kernel, initrd, metadata.command_line),
        measurement=None if document is None else parse_tdx_measurement(document),
    )


def measurement_differences(image: DstackImage, *, variant: OvmfVariant | None = None) -> tuple[str, ...]:
    """Where the image's TDX document is not what its files give: `member: stated, computed`; empty if they agree.

    `variant` is the firmware's event layout where the image does not say it. DocumentError if the image has no
    document, or nobody says which firmware it has.
    """
    stated = image.measurement
    if stated is None:
        raise DocumentError(f"{FILE_NAME}: the image has none", hint="its own identity does not depend on that")
    computed = tdx_measurement_for(
        image.files,
        ovmf_variant=variant if image.metadata.ovmf_variant is None and variant else stated_variant(image.metadata),
        kernel_header_normalized=image.metadata.kernel_header_normalized,
        version=stated.version,
    )
    names = ("command_line", "load_options", "kernel", "kernel_header_normalized", "initrd", "ovmf_variant", "mrtd")
    pairs = [(name, getattr(stated, name), getattr(computed, name)) for name in (*names, "td_hob_witness")]
    return tuple(f"{name}: stated {left}, computed {right}" for name, left, right in pairs if left != right)


def stated_variant(metadata: ImageMetadata) -> OvmfVariant:
    """The firmware's event layout; DocumentError if the image does not say it: both were shipped without a word."""
    if metadata.ovmf_variant is None:
        raise DocumentError(
            f"{METADATA_FILE}: no ovmf_variant, and images of this age came with both firmware generations",
            hint="find out which edk2 release the firmware was built from, and state it, such as --edk2 202502",
        )
    return metadata.ovmf_variant


def _listed(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise DocumentError(f"{name!r} is not among the image's files", hint="the image is not complete")
    return files[name]


def _text(data: bytes, what: str) -> str:
    if len(data) > _MAX_TEXT:
        raise DocumentError(f"{what}: {len(data)} bytes, wanted at most {_MAX_TEXT}")
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{what}: byte {error.start} is not ASCII") from error


def _member(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise DocumentError(f"{METADATA_FILE}: {name} is {repr(value)[:80]}, wanted text")
    return value


def _file_name(document: dict[str, Any], name: str) -> str:
    value = _member(document, name)
    if not _NAME.fullmatch(value):
        raise DocumentError(
            f"{METADATA_FILE}: {name} is {value[:120]!r}", hint="wanted the plain name of a file in the same directory"
        )
    return value


def _flag(document: dict[str, Any], name: str) -> bool:
    value = document.get(name, False)
    if not isinstance(value, bool):
        raise DocumentError(f"{METADATA_FILE}: {name} is {repr(value)[:80]}, wanted true or false")
    return value
