"""A release with a disk image: what is measured and booted is what lies on that disk, and nothing beside it."""

from pathlib import Path

import pytest

from builder.errors import BytesDifferError, DocumentError, MissingError
from builder.model.build_info import BuildInfo
from builder.model.launch_profile import BootFiles
from builder.model.leg import LegRecord
from builder.model.plan import Artifact
from builder.pipeline.boot_disk import LOADER, disk_reader
from builder.pipeline.legs import Leg
from builder.pipeline.measure import measured_command_line, read_boot_files
from builder.pipeline.rehearse import BootPaths, boot_paths, read_boot_paths
from builder.ports import EspReader
from tests.fakes.efi_images import Disk, Section, uki
from tests.fakes.esp_files import Files

DISK = Disk(names=("ESP",))
UKI = uki("257", Section(".cmdline", b"console=ttyS0 tdxb.roothash=1"))
ARTIFACTS = [
    ("firmware", "OVMF.fd"),
    ("kernel", "vmlinuz"),
    ("initrd", "initrd.img"),
    ("guest_os", "rootfs.img"),
    ("guest_os", "cmdline"),
    ("disk_image", "disk.img"),
    ("disk_image", "uki.efi"),
]
NAMES = dict(ARTIFACTS)


def open_esp(_path: Path, _offset: int) -> EspReader:
    return Files({LOADER: UKI})


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    for _, name in ARTIFACTS:
        (tmp_path / name).write_bytes(f"the file {name}".encode())
    (tmp_path / "disk.img").write_bytes(DISK.encode())
    return tmp_path


def test_only_firmware_and_what_the_disk_holds_are_measured(artifacts: Path) -> None:
    files = read_boot_files(artifacts, NAMES, open_esp=open_esp)
    assert (files.firmware, files.kernel) == (b"the file OVMF.fd", UKI)
    assert (files.initrd, files.command_line) == (None, "")
    assert files.disk is not None
    assert files.disk.partition_table == DISK.event()


def test_the_image_that_is_measured_is_the_disk_and_never_the_file_beside_it(artifacts: Path) -> None:
    assert NAMES["disk_image"] == "uki.efi"  # the last of the component
    (artifacts / "uki.efi").unlink()
    assert read_boot_files(artifacts, NAMES, open_esp=open_esp).kernel == UKI
    (artifacts / "disk.img").unlink()
    with pytest.raises(DocumentError, match=r"disk\.img: cannot be read"):
        read_boot_files(artifacts, NAMES, open_esp=open_esp)


def test_a_disk_that_nobody_can_read_is_not_passed_over(artifacts: Path) -> None:
    with pytest.raises(MissingError, match=r"disk\.img: nothing here reads EFI system partitions"):
        read_boot_files(artifacts, NAMES)
    with pytest.raises(MissingError, match="nothing here reads"):
        read_boot_paths(boot_paths(artifacts, ARTIFACTS))


def test_the_command_line_of_a_disk_is_that_of_its_uki(artifacts: Path) -> None:
    files = read_boot_files(artifacts, NAMES, open_esp=open_esp)
    assert measured_command_line(files) == "console=ttyS0 tdxb.roothash=1"
    assert measured_command_line(BootFiles(b"", b"", None, "given")) == "given"


@pytest.mark.parametrize("sections", [(), (Section(".cmdline", b"two\nlines"),)])
def test_a_uki_without_a_command_line_to_publish_is_refused(sections: tuple[Section, ...], artifacts: Path) -> None:
    files = read_boot_files(artifacts, NAMES, open_esp=lambda _path, _offset: Files({LOADER: uki("257", *sections)}))
    with pytest.raises(DocumentError, match="command line"):
        measured_command_line(files)


def test_the_disk_is_booted_by_itself(artifacts: Path) -> None:
    paths = boot_paths(artifacts, ARTIFACTS)
    assert paths == BootPaths(artifacts / "OVMF.fd", None, None, artifacts / "disk.img", "")
    assert read_boot_paths(paths, open_esp=open_esp) == read_boot_files(artifacts, NAMES, open_esp=open_esp)


def test_a_disk_without_firmware_is_not_booted(artifacts: Path) -> None:
    with pytest.raises(DocumentError, match="no firmware among the artefacts"):
        boot_paths(artifacts, ARTIFACTS[1:])


def test_neither_kernel_nor_disk_is_nothing_to_boot(artifacts: Path) -> None:
    with pytest.raises(DocumentError, match="neither a kernel nor a disk"):
        read_boot_paths(BootPaths(artifacts / "OVMF.fd", None, None, None, ""), open_esp=open_esp)


def test_the_disk_of_a_leg_is_the_one_that_its_record_lists(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/disk.img").write_bytes(b"other bytes")
    info = BuildInfo("a", "bubblewrap", "1", (), {}, 0, 0)
    listed = Artifact("disk_image", "disk.img", 11, "0" * 64)
    leg = Leg(tmp_path, LegRecord("1" * 64, "2" * 64, "3" * 64, info, (listed,)))
    with pytest.raises(BytesDifferError, match=r"disk\.img: SHA-256 is"):
        leg.checked_path("disk.img")
    with pytest.raises(BytesDifferError, match=r"uki\.efi: no regular file"):
        leg.checked_path("uki.efi")


def test_a_reader_reads_the_disk_of_its_directory(artifacts: Path) -> None:
    assert disk_reader(artifacts, open_esp)("disk.img").loader == UKI
