"""Reading dstack images from a directory, and measuring them."""

from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import BytesDifferError, DocumentError
from builder.measure.dstack.image import DstackImage
from builder.measure.dstack.profile import dstack_acpi
from builder.measure.dstack.vm_config import vm_config_for
from builder.pipeline.dstack_image import dstack_reference_values, measure_inputs, read_dstack_image
from tests.fakes.dstack_images import BOOT_FILES, image_files, image_of, write_image

CONFIG = vm_config_for(vcpus=2, memory=2 << 30, qemu_version="8.2.2")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_image(tmp_path / "dstack-0.6.0", image_files())


def test_an_image_is_read_whole(directory: Path) -> None:
    assert read_dstack_image(directory) == image_of(image_files())


def test_a_changed_file_is_noticed(directory: Path) -> None:
    (directory / "ovmf.fd").write_bytes(b"other firmware")
    with pytest.raises(BytesDifferError, match=r"ovmf\.fd"):
        read_dstack_image(directory)


def test_a_digest_file_of_another_image_is_noticed(directory: Path) -> None:
    (directory / "digest.txt").write_text("ab" * 32)
    with pytest.raises(BytesDifferError, match=r"digest\.txt"):
        read_dstack_image(directory)


def test_a_line_appended_to_the_manifest_is_noticed(directory: Path) -> None:
    """It would be another os_image_hash with the same boot files, minted by whoever asks."""
    with (directory / "sha256sum.txt").open("a") as manifest:
        manifest.write(f"{'ab' * 32}  extra\n")
    with pytest.raises(BytesDifferError, match=r"digest\.txt"):
        read_dstack_image(directory)


@pytest.mark.parametrize("name", ["sha256sum.txt", "digest.txt", "metadata.json", "ovmf.fd", "measurement.tdx.cbor"])
def test_a_missing_file_is_noticed(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(DocumentError, match=name):
        read_dstack_image(directory)


def test_a_file_that_is_not_listed_is_refused(directory: Path) -> None:
    (directory / "bzImage.new").write_bytes(b"kernel")
    with pytest.raises(DocumentError, match="does not list"):
        read_dstack_image(directory)


def test_a_directory_of_another_name_is_refused(directory: Path) -> None:
    (directory / "sub").mkdir()
    with pytest.raises(DocumentError, match="does not list 'sub'"):
        read_dstack_image(directory)


@pytest.mark.parametrize("name", ["ovmf.fd", "sha256sum.txt", "metadata.json"])
def test_a_link_out_of_the_image_is_refused(directory: Path, name: str) -> None:
    outside = directory.parent / "outside"
    (directory / name).rename(outside)
    (directory / name).symlink_to(outside)
    with pytest.raises(DocumentError, match="not a regular file"):
        read_dstack_image(directory)


def test_a_directory_in_place_of_a_file_is_refused(directory: Path) -> None:
    (directory / "ovmf.fd").unlink()
    (directory / "ovmf.fd").mkdir()
    with pytest.raises(DocumentError, match="not a regular file"):
        read_dstack_image(directory)


def test_no_directory_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be read"):
        read_dstack_image(tmp_path / "absent")
    with pytest.raises(DocumentError, match=r"metadata\.json"):
        read_dstack_image(tmp_path)


@pytest.fixture
def unlisted(directory: Path) -> Path:
    for name in ("sha256sum.txt", "digest.txt"):
        (directory / name).unlink()
    return directory


def test_an_image_without_a_list_has_the_same_files_and_no_identity(unlisted: Path) -> None:
    assert read_dstack_image(unlisted) == replace(image_of(image_files()), os_image_hash=None)


def test_a_document_that_is_not_there_is_none(unlisted: Path) -> None:
    (unlisted / "measurement.tdx.cbor").unlink()
    assert read_dstack_image(unlisted).measurement is None


@pytest.mark.parametrize("name", ["metadata.json", "ovmf.fd", "bzImage", "initramfs.cpio.gz"])
def test_a_booted_file_that_is_missing_is_noticed_without_a_list(unlisted: Path, name: str) -> None:
    (unlisted / name).unlink()
    with pytest.raises(DocumentError, match=name):
        read_dstack_image(unlisted)


@pytest.mark.parametrize("name", ["metadata.json", "ovmf.fd", "measurement.tdx.cbor"])
def test_a_link_out_of_an_image_without_a_list_is_refused(unlisted: Path, name: str) -> None:
    outside = unlisted.parent / "outside"
    (unlisted / name).rename(outside)
    (unlisted / name).symlink_to(outside)
    with pytest.raises(DocumentError, match="not a regular file"):
        read_dstack_image(unlisted)


@pytest.fixture
def image(directory: Path) -> DstackImage:
    return read_dstack_image(directory)


def test_inputs_of_a_machine_are_files_profile_and_tables(image: DstackImage) -> None:
    files, profile, acpi = measure_inputs(image, CONFIG)
    assert files == BOOT_FILES
    assert profile.name == "2cpu-2G"
    assert acpi == replace(dstack_acpi(CONFIG).digests(), sources=("generated",))


def test_values_are_predicted_for_every_machine(image: DstackImage) -> None:
    values = dstack_reference_values(image, [CONFIG, replace(CONFIG, vcpus=4)])
    assert [prediction.profile.name for prediction in values.predictions] == ["2cpu-2G", "4cpu-2G"]
    first, second = (prediction.registers for prediction in values.predictions)
    assert (first.mrtd, first.rtmr1, first.rtmr2) == (second.mrtd, second.rtmr1, second.rtmr2)
    assert first.rtmr0 != second.rtmr0


def test_no_machine_is_no_prediction(image: DstackImage) -> None:
    with pytest.raises(DocumentError, match="0 launch profiles"):
        dstack_reference_values(image, [])
