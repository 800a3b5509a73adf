"""What is read of a disk image. The EFI system partition here is a mapping of paths to bytes."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from builder.errors import DocumentError
from builder.model.launch_profile import DiskFiles
from builder.pipeline.boot_disk import LOADER, BootDiskFiles, read_boot_disk
from builder.ports import EspReader
from tests.fakes.efi_images import Disk, Section, pe_image, shim, uki
from tests.fakes.esp_files import Files

UKI, OTHER_UKI = uki(), uki("262")
MENU = pe_image([Section(".sdmagic", b"#### LoaderInfo: systemd-boot 257 ####\0")])
GRUB = pe_image([Section(".text", b"grub")])
SHIM = shim(b"", b"")
ONE_PARTITION = Disk(names=("ESP",))


def read(
    directory: Path, files: Mapping[str, bytes], *, disk: Disk = ONE_PARTITION, uki_path: str | None = None
) -> BootDiskFiles:
    image = directory / "disk.img"
    image.write_bytes(disk.encode())

    def open_esp(path: Path, offset: int) -> EspReader:
        assert (path, offset) == (image, 2048 * disk.sector_size)
        return Files(files)

    return read_boot_disk(image, open_esp, uki_path=uki_path)


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_a_uki_as_loader_is_all_there_is(tmp_path: Path, sector_size: int) -> None:
    disk = Disk(names=("ESP",), sector_size=sector_size)
    assert read(tmp_path, {LOADER: UKI}, disk=disk) == BootDiskFiles(UKI, DiskFiles(disk.event()))


@pytest.mark.parametrize("name", ["/EFI/Linux/a.efi", "/efi/linux/A.EFI"])
def test_the_only_uki_is_what_systemd_boot_starts(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, {LOADER: MENU, name: UKI, "/loader/loader.conf": b"timeout 0\n"})
    assert found == BootDiskFiles(MENU, DiskFiles(ONE_PARTITION.event(), UKI, b"timeout 0\n"))


def test_what_stands_beside_the_uki_is_named(tmp_path: Path) -> None:
    files = {
        LOADER: MENU,
        "/EFI/Linux/a.efi": UKI,
        "/EFI/Linux/a.efi.extra.d/x.addon.efi": b"",
        "/loader/addons/b": b"",
    }
    assert read(tmp_path, files).disk.beside == ("/EFI/Linux/a.efi.extra.d", "/loader/addons")
    alone = {LOADER: UKI, "/loader/credentials/c.cred": b""}
    assert read(tmp_path, alone).disk.beside == ("/loader/credentials",)


def test_one_of_several_is_taken_only_if_it_is_named(tmp_path: Path) -> None:
    files = {LOADER: MENU, "/EFI/Linux/a.efi": UKI, "/EFI/Linux/b.efi": OTHER_UKI}
    with pytest.raises(DocumentError, match="2 UKIs") as refusal:
        read(tmp_path, files)
    assert "--uki-path" in str(refusal.value.hint)
    assert read(tmp_path, files, uki_path="/EFI/Linux/b.efi").disk.next_image == OTHER_UKI
    with pytest.raises(DocumentError, match=r"/EFI/Linux/c\.efi: not on"):
        read(tmp_path, files, uki_path="/EFI/Linux/c.efi")


@pytest.mark.parametrize(
    "files",
    [
        {LOADER: MENU},
        {LOADER: MENU, "/EFI/Linux/readme.txt": b""},
        {LOADER: MENU, "/EFI/Linux/a.efi": UKI, "/loader/entries/debian.conf": b""},
    ],
    ids=["nothing", "no program", "an entry besides"],
)
def test_what_the_menu_starts_is_never_guessed(tmp_path: Path, files: Mapping[str, bytes]) -> None:
    with pytest.raises(DocumentError, match="cannot tell which UKI it starts"):
        read(tmp_path, files)


def test_behind_shim_stands_the_second_stage(tmp_path: Path) -> None:
    found = read(tmp_path, {LOADER: SHIM, "/EFI/BOOT/grubx64.efi": GRUB})
    assert found == BootDiskFiles(SHIM, DiskFiles(ONE_PARTITION.event(), GRUB))
    assert read(tmp_path, {LOADER: SHIM}).disk.next_image is None


def test_of_another_loader_nothing_else_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, {LOADER: GRUB}) == BootDiskFiles(GRUB, DiskFiles(ONE_PARTITION.event()))


@pytest.mark.parametrize("loader", [UKI, SHIM, GRUB], ids=["uki", "shim", "grub"])
def test_a_named_uki_is_never_ignored(tmp_path: Path, loader: bytes) -> None:
    with pytest.raises(DocumentError, match="no systemd-boot"):
        read(tmp_path, {LOADER: loader}, uki_path="/EFI/Linux/a.efi")


@pytest.mark.parametrize("names", [(), ("ESP", "ESP")], ids=len)
def test_other_than_one_efi_system_partition_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(DocumentError, match=f"{len(names)} EFI system partitions"):
        read(tmp_path, {LOADER: UKI}, disk=Disk(names=names))


def test_a_disk_without_a_loader_boots_nothing(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no /EFI/BOOT/BOOTX64.EFI"):
        read(tmp_path, {"/EFI/Linux/a.efi": UKI})


@pytest.mark.parametrize("loader", [b"", b"MZ", b"\xff" * 5000])
def test_a_loader_that_is_no_program_is_refused(tmp_path: Path, loader: bytes) -> None:
    with pytest.raises(DocumentError, match="EFI image"):
        read(tmp_path, {LOADER: loader})


def no_partition(path: Path, offset: int) -> EspReader:
    raise AssertionError(f"{path} has no partition at {offset}")


@pytest.mark.parametrize("data", [b"", b"EFI PART", bytes(5000), b"\xff" * 5000])
def test_an_image_without_a_partition_table_is_refused(tmp_path: Path, data: bytes) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(data)
    with pytest.raises(DocumentError, match="GPT"):
        read_boot_disk(image, no_partition)


def test_an_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.img", tmp_path):
        with pytest.raises(DocumentError, match=str(path)):
            read_boot_disk(path, no_partition)
