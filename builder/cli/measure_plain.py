"""`measure` of plain files: the options that name them and their machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from builder.model.size import parse_size

if TYPE_CHECKING:
    from builder.measure.acpi.blobs import AcpiBlobs
    from builder.model.launch_profile import BootFiles
    from builder.model.reference_values import ReferenceValues
    from builder.pipeline.measure import LaunchMatrix
    from builder.ports import AcpiReader, Progress

ACPI_FILES = ("table-loader", "rsdp", "tables")
MACHINE = "q35,smm=off,pic=off,hpet=off"
CPU = "Skylake-Server,phys-bits=46"

_REQUIRED = ("firmware", "kernel", "cmdline", "vcpus", "memory", "qemu", "edk2")


@dataclass(frozen=True)
class PlainFiles:
    """What the options say about an image without a recipe. Made of the options, so that None is one not given."""

    firmware: Path | None
    kernel: Path | None
    initrd: Path | None
    cmdline: str | None
    acpi: Path | None
    vcpus: tuple[int, ...]
    memory: tuple[str, ...]
    qemu: str | None
    edk2: str | None
    machine: str
    cpu: str
    devices: tuple[str, ...]
    pci_hole64: str | None
    bridge_hotplug: bool
    numa_nodes: int

    def require_complete(self) -> None:
        """UsageError naming every option that is missing or empty: none has a default that could be guessed."""
        missing = [f"--{name}" for name in _REQUIRED if not getattr(self, name)]
        if missing:
            raise click.UsageError(f"plain files need {', '.join(missing)} too")


def measure_plain(files: PlainFiles, reader: "AcpiReader | None", progress: "Progress") -> "ReferenceValues":
    """Reference Values of complete plain files; ACPI tables are generated, and read too where there is a reader."""
    from builder.pipeline.measure import reference_values

    return reference_values(_boot_files(files), _matrix(files), reader, progress)


def measure_with_tables(files: PlainFiles, directory: Path) -> "tuple[ReferenceValues, Sequence[str]]":
    """The same with the ACPI tables in a directory, and what there is to say about them."""
    from builder.pipeline.measure import values_with_tables

    matrix = _matrix(files)
    if len(matrix.vcpus) * len(matrix.memory) != 1:
        raise click.UsageError("--acpi holds the tables of one machine: give one --vcpus and one --memory")
    measured = values_with_tables(_boot_files(files), matrix, _blobs(directory))
    notes = {
        True: f"{directory}: the tables are those that are generated for this machine",
        False: f"{directory}: the tables are not those that are generated for this machine; the values are of these",
        None: f"{directory}: no tables are generated for this machine; that these are its own was not checked",
    }
    return measured.values, [notes[measured.generated]]


def _boot_files(files: PlainFiles) -> "BootFiles":
    from builder.model.launch_profile import BootFiles
    from builder.pipeline.files import read_document

    return BootFiles(
        firmware=read_document(_named(files.firmware)),
        kernel=read_document(_named(files.kernel)),
        initrd=read_document(files.initrd) if files.initrd else None,
        command_line=files.cmdline or "",
    )


def _named(path: Path | None) -> Path:
    if path is None:
        raise click.UsageError("plain files need --firmware and --kernel too")
    return path


def _matrix(files: PlainFiles) -> "LaunchMatrix":
    from builder.model.recipe import VmmSpec
    from builder.pipeline.measure import LaunchMatrix

    vmm = VmmSpec(
        name="qemu",
        version=files.qemu or "",
        machine=files.machine,
        cpu=files.cpu,
        devices=files.devices or ("serial",),
        pci_hole64=None if files.pci_hole64 is None else parse_size(files.pci_hole64, what="--pci-hole64"),
        bridge_hotplug=files.bridge_hotplug,
        numa_nodes=files.numa_nodes,
    )
    memory = tuple(parse_size(size, what="--memory") for size in files.memory)
    return LaunchMatrix(vmm, files.edk2 or "", files.vcpus, memory)


def _blobs(directory: Path) -> "AcpiBlobs":
    """Blobs that somebody else read: only their form and CPU count can be checked."""
    from builder.measure.acpi.blobs import AcpiBlobs
    from builder.pipeline.files import read_document

    return AcpiBlobs(*(read_document(directory / name) for name in ACPI_FILES))
