"""A small dstack image in the form of a real one, as files by name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.measure.dstack.image import DstackImage, dstack_image, encode_checksum_file, parse_checksum_file
from builder.measure.dstack.measurement import encode_tdx_measurement, tdx_measurement_for
from builder.measure.dstack.names import OvmfVariant
from builder.model.digest import sha256_hex
from builder.model.launch_profile import BootFiles
from tests.fakes.boot_files import Firmware, bzimage

ROOT_HASH = "ab" * 32
COMMAND_LINE = f"console=ttyS0 init=/init dstack.rootfs_hash={ROOT_HASH} dstack.rootfs_size=4096"
METADATA: Mapping[str, Any] = {
    "bios": "ovmf.fd",
    "kernel": "bzImage",
    "cmdline": COMMAND_LINE,
    "initrd": "initramfs.cpio.gz",
    "rootfs": "rootfs.img.parted.verity",
    "version": "0.6.0",
    "git_revision": "0123456789",
    "shared_ro": True,
    "is_dev": False,
    "ovmf_variant": "pre202505",
}
BOOT_FILES = BootFiles(Firmware().encode(), bzimage(), b"an initrd", COMMAND_LINE)


def image_files(*, document_version: int = 4, **metadata: Any) -> dict[str, bytes]:
    """The listed files of an image whose metadata has these members besides, or instead."""
    members = {**METADATA, **metadata}
    measurement = tdx_measurement_for(
        BOOT_FILES,
        ovmf_variant=OvmfVariant.PRE202505,
        kernel_header_normalized=bool(members.get("kernel_header_normalized")),
        version=document_version,
    )
    return {
        "ovmf.fd": BOOT_FILES.firmware,
        "bzImage": BOOT_FILES.kernel,
        "initramfs.cpio.gz": BOOT_FILES.initrd or b"",
        "metadata.json": json.dumps(members).encode(),
        "measurement.tdx.cbor": encode_tdx_measurement(measurement),
    }


def checksum_file(files: Mapping[str, bytes]) -> bytes:
    return encode_checksum_file({name: sha256_hex(data) for name, data in files.items()})


def image_of(files: Mapping[str, bytes]) -> DstackImage:
    return dstack_image(files, parse_checksum_file(checksum_file(files)))


def write_image(directory: Path, files: Mapping[str, bytes]) -> Path:
    """The image's directory, complete with the files that are not listed."""
    directory.mkdir(exist_ok=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    (directory / "sha256sum.txt").write_bytes(checksum_file(files))
    (directory / "digest.txt").write_text(sha256_hex(checksum_file(files)) + "\n")
    (directory / "rootfs.img.parted.verity").write_bytes(b"root file system")
    return directory
