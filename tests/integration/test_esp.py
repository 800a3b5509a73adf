"""Files of an EFI system partition, by the mtools of this host."""

from pathlib import Path

import pytest

from builder.backends.esp import MtoolsPartition
from builder.errors import DocumentError, MissingError
from tests.fakes.gpt_disks import ESP_START, make_disk

CONTENT = bytes(range(256)) * 9000
FILES = {"/EFI/BOOT/BOOTX64.EFI": CONTENT, "/EFI/Linux/a name, with ünicode.efi": b"uki", "/EFI/Linux/B.EFI": b""}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Under a name of which mtools would read the end as an offset."""
    made = make_disk(tmp_path_factory.mktemp("disk") / "disk.img", FILES)
    return made.rename(made.with_name("disk@@512"))


def test_files_are_read_as_they_are_whatever_the_case_of_their_names(image: Path) -> None:
    partition = MtoolsPartition(image, ESP_START)
    for name, content in FILES.items():
        assert partition.read(name) == content
    assert partition.read("/efi/boot/bootx64.efi") == CONTENT


def test_names_are_sorted_and_those_of_directories_among_them(image: Path) -> None:
    partition = MtoolsPartition(image, ESP_START)
    assert partition.names("/EFI") == ("BOOT", "Linux")
    assert partition.names("/efi/linux") == ("B.EFI", "a name, with ünicode.efi")


def test_what_is_not_there_is_nothing_and_no_error(image: Path) -> None:
    partition = MtoolsPartition(image, ESP_START)
    assert partition.names("/EFI/nothing") == ()
    assert partition.read("/EFI/nothing") is None
    assert partition.read("/nothing/at/all") is None


@pytest.mark.parametrize("path", ["", "EFI", "/EFI/*", "/EFI/[B]OOT", "/E?I", "/EFI\\BOOT", "/EFI\n"])
def test_paths_that_mtools_would_take_for_something_else_are_refused(image: Path, path: str) -> None:
    for call in (MtoolsPartition(image, ESP_START).names, MtoolsPartition(image, ESP_START).read):
        with pytest.raises(DocumentError, match="wanted a path from /"):
            call(path)


@pytest.mark.parametrize("offset", [0, 512, ESP_START + 512, 1 << 40])
def test_what_is_no_fat_is_an_error_and_never_an_empty_partition(image: Path, offset: int) -> None:
    partition = MtoolsPartition(image, offset)
    for call in (partition.names, partition.read):
        with pytest.raises(DocumentError, match="cannot be read"):
            call("/EFI")


@pytest.mark.parametrize("damage", [(0, 512), (512 * 32, 8192), (512 * 32, 1 << 20)])
def test_a_damaged_file_system_gives_no_other_content(image: Path, tmp_path: Path, damage: tuple[int, int]) -> None:
    start, size = damage
    data = bytearray(image.read_bytes())
    data[ESP_START + start : ESP_START + start + size] = b"\xff" * size
    copy = tmp_path / "damaged.img"
    copy.write_bytes(data)
    try:
        found = MtoolsPartition(copy, ESP_START).read("/EFI/BOOT/BOOTX64.EFI")
    except DocumentError:
        return
    assert found in (None, CONTENT)


def test_an_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"absent\.img: cannot be read"):
        MtoolsPartition(tmp_path / "absent.img", 0).names("/EFI")


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_changed_and_no_descriptor_stays_open(image: Path) -> None:
    before = (image.read_bytes(), open_descriptors())
    MtoolsPartition(image, ESP_START).read("/EFI/BOOT/BOOTX64.EFI")
    assert (image.read_bytes(), open_descriptors()) == before


def test_without_mtools_the_package_is_named(image: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="cannot run mcopy") as refusal:
        MtoolsPartition(image, ESP_START).read("/EFI")
    assert "package mtools" in str(refusal.value.hint)
