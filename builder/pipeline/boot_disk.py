"""What a TD boots from a disk image: its partition table, and of its EFI system partition the files that are started.

Of the image only these bytes are read. The firmware starts `\\EFI\\BOOT\\BOOTX64.EFI` (UEFI specification, 3.5.1.1);
what that starts in turn is looked up where it looks, or is named by whoever asks.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from builder.errors import DocumentError, MissingError
from builder.measure.boot.gpt import EFI_SYSTEM_PARTITION, SECTOR_SIZES, Gpt, encode_gpt_event, parse_gpt
from builder.measure.boot.program import Loader, loader_of
from builder.model.launch_profile import DiskFiles
from builder.ports import EspReader

LOADER = "/EFI/BOOT/BOOTX64.EFI"

_UKIS = "/EFI/Linux"
_ENTRIES = "/loader/entries"
_LOADER_CONF = "/loader/loader.conf"
_SECOND_STAGE = "/EFI/BOOT/grubx64.efi"
_FOR_EVERY_UKI = ("/loader/addons", "/loader/credentials")
_XBOOTLDR = uuid.UUID("bc13c2ff-59e6-4262-a352-b275fd6f7172")
_NAME_UKI = "name the one that is started with --uki-path"

EspOpener = Callable[[Path, int], EspReader]
DiskReader = Callable[[str], "BootDiskFiles"]


@dataclass(frozen=True)
class BootDiskFiles:
    """The loader that the firmware starts, and what else is read of the disk."""

    loader: bytes
    disk: DiskFiles


def read_boot_disk(image: Path, open_esp: EspOpener, *, uki_path: str | None = None) -> BootDiskFiles:
    """The files of a raw disk image. `uki_path` names the UKI that systemd-boot's menu starts, from `/` on.

    DocumentError for an image without a partition table, without exactly one EFI system partition or without a loader
    on it, and where it cannot be told which UKI the menu starts. Not checked: other partitions whose file system the
    firmware reads and that have a loader too.
    """
    gpt = _read_gpt(image)
    partitions = [each for each in gpt.partitions if each.type_guid == EFI_SYSTEM_PARTITION]
    if len(partitions) != 1:
        raise DocumentError(f"{image}: {len(partitions)} EFI system partitions, wanted exactly one")
    esp = open_esp(image, partitions[0].start)
    loader = esp.read(LOADER)
    if loader is None:
        raise DocumentError(f"{image}: no {LOADER} on its EFI system partition: firmware has nothing to start")
    return BootDiskFiles(loader, _disk_files(gpt, esp, loader_of(loader), uki_path))


def disk_reader(directory: Path, open_esp: EspOpener | None) -> DiskReader:
    """Reads disk images of a directory by name. Without `open_esp` that is MissingError."""

    def read(name: str) -> BootDiskFiles:
        if open_esp is None:
            raise MissingError(
                f"{directory / name}: nothing here reads EFI system partitions", hint="give an EspOpener"
            )
        return read_boot_disk(directory / name, open_esp)

    return read


def _disk_files(gpt: Gpt, esp: EspReader, loader: Loader, uki_path: str | None) -> DiskFiles:
    table = encode_gpt_event(gpt)
    if uki_path is not None and loader is not Loader.SYSTEMD_BOOT:
        raise DocumentError(
            f"{LOADER}: no systemd-boot, so that {uki_path} is not what its menu starts", hint="leave --uki-path out"
        )
    match loader:
        case Loader.UKI:
            return DiskFiles(table, beside=_beside(esp, LOADER))
        case Loader.SYSTEMD_BOOT:
            path = uki_path or _only_uki(gpt, esp)
            uki = esp.read(path)
            if uki is None:
                raise DocumentError(f"{path}: not on the EFI system partition", hint=_NAME_UKI)
            return DiskFiles(table, uki, esp.read(_LOADER_CONF), _beside(esp, path))
        case Loader.SHIM:
            return DiskFiles(table, esp.read(_SECOND_STAGE))
        case _:
            return DiskFiles(table)


def _only_uki(gpt: Gpt, esp: EspReader) -> str:
    """The only entry of systemd-boot's menu. DocumentError if it could have others, of which one may be its default."""
    ukis = [name for name in esp.names(_UKIS) if name.lower().endswith(".efi")]
    entries = [name for name in esp.names(_ENTRIES) if name.lower().endswith(".conf")]
    elsewhere = any(partition.type_guid == _XBOOTLDR for partition in gpt.partitions)
    if len(ukis) != 1 or entries or elsewhere:
        raise DocumentError(
            f"systemd-boot: {len(ukis)} UKIs in {_UKIS}, {len(entries)} entries in {_ENTRIES}, "
            f"{'an' if elsewhere else 'no'} extended boot loader partition: cannot tell which UKI it starts",
            hint=_NAME_UKI,
        )
    return f"{_UKIS}/{ukis[0]}"


def _beside(esp: EspReader, uki: str) -> tuple[str, ...]:
    """Directories with files that a stub takes besides its UKI."""
    return tuple(directory for directory in (f"{uki}.extra.d", *_FOR_EVERY_UKI) if esp.names(directory))


def _read_gpt(image: Path) -> Gpt:
    try:
        with image.open("rb") as file:

            def read(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            return parse_gpt(read, sector_size=_sector_size(read))
    except OSError as error:
        raise DocumentError(f"{image}: cannot be read: {error.strerror}") from error


def _sector_size(read: Callable[[int, int], bytes]) -> int:
    """The size at which the table was made; that of 512 where there is none, so that its absence is the error."""
    found = [size for size in SECTOR_SIZES if read(size, 8) == b"EFI PART"]
    return found[0] if found else SECTOR_SIZES[0]
