"""dstack images from a directory: read, checked file by file, and measured for dstack's machines."""

from collections.abc import Sequence
from pathlib import Path

from builder.errors import DocumentError
from builder.measure.dstack.image import (
    CHECKSUM_FILE,
    DIGEST_FILE,
    METADATA_FILE,
    DstackImage,
    boot_file_names,
    check_complete,
    check_digest_file,
    dstack_image,
    parse_checksum_file,
    parse_image_metadata,
    unlisted_image,
)
from builder.measure.dstack.measurement import FILE_NAME as MEASUREMENT_FILE
from builder.measure.dstack.profile import dstack_acpi, dstack_launch_profile
from builder.measure.dstack.vm_config import VmConfig
from builder.measure.predict import Measurer
from builder.model.launch_profile import BootFiles, LaunchProfile
from builder.model.reference_values import AcpiDigests, ReferenceValues
from builder.pipeline.acpi import generated
from builder.pipeline.files import read_document


def read_dstack_image(directory: Path) -> DstackImage:
    """The image in a directory, which holds nothing else.

    BytesDifferError for a file of another digest than listed, and a digest.txt of another image; DocumentError for
    files that are missing, not listed, no regular files or symbolic links. With neither sha256sum.txt nor digest.txt
    there is no list to check against, and the image has no os_image_hash. That the image is the one that is wanted is
    for the caller to see in its os_image_hash. The root file system is neither read nor checked: the kernel's command
    line commits to it, and the guest checks it.
    """
    names = _names(directory)
    if CHECKSUM_FILE not in names and DIGEST_FILE not in names:
        return _unlisted(directory, names)
    checksums = parse_checksum_file(_read(directory, CHECKSUM_FILE))
    check_digest_file(_read(directory, DIGEST_FILE), checksums)
    image = dstack_image({name: _read(directory, name) for name in checksums.digests}, checksums)
    check_complete(names, checksums, image.metadata)
    return image


def measure_inputs(
    image: DstackImage, config: VmConfig, *, edk2: str | None = None
) -> tuple[BootFiles, LaunchProfile, AcpiDigests]:
    """What `Measurer` needs for one machine: the boot files, the launch profile and the generated ACPI digests."""
    profile = dstack_launch_profile(image, config, edk2=edk2)
    return image.files, profile, generated(profile, dstack_acpi(config))


def dstack_reference_values(
    image: DstackImage, configs: Sequence[VmConfig], *, edk2: str | None = None
) -> ReferenceValues:
    """Reference Values of the image on these machines; `edk2` is the firmware's release where it is known.

    DocumentError for what no rule covers, for no machine at all, and for two of the same vCPUs and memory.
    """
    shapes = [measure_inputs(image, config, edk2=edk2)[1:] for config in configs]
    return Measurer(image.files).reference_values(shapes)


def _unlisted(directory: Path, names: Sequence[str]) -> DstackImage:
    metadata = _read(directory, METADATA_FILE)
    booted = boot_file_names(parse_image_metadata(metadata))
    document = (MEASUREMENT_FILE,) if MEASUREMENT_FILE in names else ()
    return unlisted_image({METADATA_FILE: metadata} | {name: _read(directory, name) for name in (*booted, *document)})


def _names(directory: Path) -> list[str]:
    try:
        return sorted(path.name for path in directory.iterdir())
    except OSError as error:
        raise DocumentError(f"{directory}: cannot be read: {error.strerror}") from error


def _read(directory: Path, name: str) -> bytes:
    """A plain name is known to have no directory part; the file itself could still lead elsewhere."""
    path = directory / name
    if path.is_symlink() or not path.is_file():
        raise DocumentError(f"{path}: not a regular file", hint="give the unpacked image with all its files")
    return read_document(path)
