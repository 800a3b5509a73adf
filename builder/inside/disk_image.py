"""Makes the disk image: a GPT with an EFI system partition that holds the UKI, and the root image as it is.

The file system of the first partition is made by mkfs.vfat and mtools, told everything that they would take from clock,
time zone or chance (`determinism.md` 3.10). GUIDs are derived from what lies in the partitions.
Parameters: `uki`, `root_image` (paths of what the steps before wrote), `source_date_epoch`.
"""

import os
import shutil
from pathlib import Path

from builder.errors import DocumentError
from builder.inside.command import run
from builder.inside.program import OUTPUTS, Parameters, run_program
from builder.inside.tree_files import FileContent, content_digest
from builder.normalize.gpt import ESP_TYPE, NO_AUTO, READ_ONLY, ROOT_X86_64_TYPE, NewPartition, layout_disk
from builder.normalize.guid import derived_guid

OUTPUT = "disk.img"
LOADER = "EFI/BOOT/BOOTX64.EFI"  # UEFI specification 3.5.1.1: what firmware starts without being told

_MIB = 1 << 20
_LEAST_ESP = 34 * _MIB  # FAT32 has at least 65525 clusters, here of one sector each
_CLUSTER = 512
_FAT_ENTRY = 2 * 4  # in each of the two tables
_COPIED = "BOOTX64.EFI"
_ESP = "esp.img"


def make_disk_image(parameters: Parameters) -> None:
    """Write `disk.img`."""
    uki, root = Path(parameters.text("uki")), Path(parameters.text("root_image"))
    esp = Path(_ESP)
    _make_esp(uki, esp, parameters.integer("source_date_epoch"))
    digests = [content_digest(FileContent(path)) for path in (esp, root)]
    sizes = [path.stat().st_size for path in (esp, root)]
    partitions = (
        NewPartition(ESP_TYPE, derived_guid("esp", digests[0]), "ESP", sizes[0]),
        NewPartition(ROOT_X86_64_TYPE, derived_guid("root", digests[1]), "root", sizes[1], READ_ONLY | NO_AUTO),
    )
    layout = layout_disk(derived_guid("disk", *digests), partitions)
    with (OUTPUTS / OUTPUT).open("xb") as disk:
        disk.write(layout.head)
        for start, path in zip(layout.starts, (esp, root), strict=True):
            disk.seek(start)
            disk.writelines(FileContent(path))
        disk.seek(layout.tail_start)
        disk.write(layout.tail)
        if disk.tell() != layout.size:
            raise DocumentError(f"{OUTPUT}: {disk.tell()} bytes, wanted {layout.size}")


def _make_esp(uki: Path, esp: Path, epoch: int) -> None:
    """A FAT32 file system with the one file. mtools takes the times of directories from SOURCE_DATE_EPOCH."""
    size = uki.stat().st_size
    with esp.open("xb") as file:
        file.truncate(_esp_size(size))
    copied = Path(_COPIED)
    shutil.copyfile(uki, copied)
    os.utime(copied, (epoch, epoch))
    serial = derived_guid("serial", content_digest(FileContent(uki))).hex[:8]
    environment = {"LC_ALL": "C", "MTOOLSRC": os.devnull, "SOURCE_DATE_EPOCH": str(epoch), "TZ": "UTC"}
    here = Path.cwd()
    for argv in (
        ("mkfs.vfat", "--invariant", "-F", "32", "-S", str(_CLUSTER), "-s", "1", "-i", serial, "-n", "ESP", _ESP),
        ("mmd", "-i", _ESP, "::EFI", "::EFI/BOOT"),
        ("mcopy", "-m", "-i", _ESP, _COPIED, f"::{LOADER}"),
    ):
        run(argv, cwd=here, environment=environment)


def _esp_size(content: int) -> int:
    """Whole MiB for the content, the two tables that count its clusters, and a MiB for directories and headers."""
    clusters = -(-content // _CLUSTER)
    wanted = clusters * (_CLUSTER + _FAT_ENTRY) + _MIB
    return max(_LEAST_ESP, -(-wanted // _MIB) * _MIB)


if __name__ == "__main__":
    run_program(make_disk_image)
