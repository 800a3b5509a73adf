"""`measure` of plain files: what the firmware boots besides a Linux kernel, and what it finds besides its own file."""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from builder.measure.firmware.efi_variables import SecureBootKeys
    from builder.model.launch_profile import BootFiles
    from builder.pipeline.measure import FirmwareInputs

DISK_OPTIONS = ("disk", "uki_path")
KEY_OPTIONS = ("pk", "kek", "db", "dbx")
SMBIOS_OPTIONS = ("smbios", "processor_id")

_PATH = click.Path(path_type=Path)
_PROCESSOR_ID = re.compile(r"[0-9a-fA-F]{16}")
_OPTIONS = (
    click.option(
        "--disk",
        type=_PATH,
        help="Raw GPT disk image that the firmware boots, in place of --kernel. Its device is among --device.",
    ),
    click.option(
        "--uki-path",
        metavar="PATH",
        help="The UKI that systemd-boot starts, such as /EFI/Linux/a.efi, if it has several.",
    ),
    click.option(
        "--smbios",
        type=_PATH,
        help="QEMU's fw_cfg file etc/smbios/smbios-tables for this machine: for RTMR0 of firmware from 202505 on.",
    ),
    click.option(
        "--processor-id",
        metavar="HEX",
        help="EAX and EDX of CPUID leaf 1 as the TD sees them, little-endian, for the type 4 tables of --smbios.",
    ),
)


@dataclass(frozen=True)
class BootSources:
    """What the options say, None for each that was not given."""

    disk: Path | None
    uki_path: str | None
    pk: Path | None
    kek: Path | None
    db: Path | None
    dbx: Path | None
    smbios: Path | None
    processor_id: str | None


def boot_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add these options to a command, but for those of KEY_OPTIONS, which `--platform` has as well."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def boot_sources(options: dict[str, Any]) -> BootSources:
    """Out of the options of the command. UsageError for one that means nothing without another."""
    sources = BootSources(**{each.name: options[each.name] for each in fields(BootSources)})
    if sources.uki_path is not None and sources.disk is None:
        raise click.UsageError("--uki-path names a file on --disk, which is missing")
    if sources.processor_id is not None:
        if sources.smbios is None:
            raise click.UsageError("--processor-id is put into the tables of --smbios, which is missing")
        if not _PROCESSOR_ID.fullmatch(sources.processor_id):
            raise click.UsageError(f"--processor-id {sources.processor_id[:40]}: wanted 16 hexadecimal digits")
    return sources


def is_uki_file(path: Path) -> bool:
    """Whether the file given as kernel is a unified kernel image. DocumentError if it cannot be read."""
    from builder.measure.boot.program import is_uki
    from builder.pipeline.files import read_document

    return is_uki(read_document(path))


def disk_boot_files(firmware: Path, sources: BootSources) -> "BootFiles":
    """What a TD boots from --disk. DocumentError for an unusable image, MissingError without mtools."""
    from builder.backends.esp import MtoolsPartition
    from builder.model.launch_profile import BootFiles
    from builder.pipeline.boot_disk import read_boot_disk
    from builder.pipeline.files import read_document

    if sources.disk is None:
        raise click.UsageError("--disk is missing")
    found = read_boot_disk(sources.disk, MtoolsPartition, uki_path=sources.uki_path)
    return BootFiles(read_document(firmware), found.loader, None, "", found.disk)


def firmware_inputs(sources: BootSources) -> "FirmwareInputs":
    """Keys and SMBIOS tables. DocumentError for a file that cannot be read, or is not what it has to be."""
    from builder.measure.firmware.smbios import parse_smbios, with_processor_id
    from builder.pipeline.files import read_document
    from builder.pipeline.measure import FirmwareInputs

    smbios = None
    if sources.smbios is not None:
        smbios = read_document(sources.smbios)
        parse_smbios(smbios)
        if sources.processor_id is not None:
            smbios = with_processor_id(smbios, bytes.fromhex(sources.processor_id))
    return FirmwareInputs(keys=_keys(sources), smbios=smbios)


def _keys(sources: BootSources) -> "SecureBootKeys | None":
    """The keys of all four options, an option that is not given being a variable without data; None without any."""
    from builder.measure.firmware.efi_variables import SecureBootKeys
    from builder.measure.firmware.signature_database import parse_signature_lists
    from builder.pipeline.files import read_document

    data: dict[str, bytes] = {}
    for name in KEY_OPTIONS:
        path: Path | None = getattr(sources, name)
        if path is not None:
            data[name] = read_document(path)
            parse_signature_lists(data[name], what=str(path))
    return SecureBootKeys(**data) if data else None
