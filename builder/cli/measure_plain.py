"""`measure` of plain files: the options that name them and their machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from builder.cli.measure_boot import BootSources, disk_boot_files, firmware_inputs, is_uki_file
from builder.errors import ExitStatus
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
_OF_A_KERNEL = ("kernel", "initrd", "cmdline")


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
    boot: BootSources

    def require_complete(self) -> None:
        """UsageError naming every option that is missing or empty: none has a default that could be guessed.

        A disk takes the place of a kernel, and a UKI has a command line of its own.
        """
        required = [name for name in _REQUIRED if self.boot.disk is None or name not in _OF_A_KERNEL]
        missing = [name for name in required if not getattr(self, name)]
        if missing == ["cmdline"] and is_uki_file(_named(self.kernel)):
            missing = []
        if missing:
            raise click.UsageError(f"plain files need {', '.join(f'--{name}' for name in missing)} too")
        given = [f"--{name}" for name in _OF_A_KERNEL if getattr(self, name) is not None]
        if self.boot.disk is not None and given:
            raise click.UsageError(f"{', '.join(given)} does not go with --disk: the firmware boots one or the other")


def measure_plain(files: PlainFiles, reader: "AcpiReader | None", progress: "Progress") -> "ReferenceValues":
    """Reference Values of complete plain files; ACPI tables are generated, and read too where there is a reader."""
    from builder.pipeline.measure import reference_values

    inputs = firmware_inputs(files.boot)
    return reference_values(_boot_files(files), _matrix(files), reader, progress, inputs=inputs)


def measure_with_tables(files: PlainFiles, directory: Path) -> "tuple[ReferenceValues, str, ExitStatus]":
    """The same with the ACPI tables in a directory, what there is to say about them, and 6 if they are not those that
    are generated: one of both is wrong, and which one is not known."""
    from builder.pipeline.measure import values_with_tables

    matrix = _matrix(files)
    if len(matrix.vcpus) * len(matrix.memory) != 1:
        raise click.UsageError("--acpi holds the tables of one machine: give one --vcpus and one --memory")
    measured = values_with_tables(_boot_files(files), matrix, _blobs(directory), inputs=firmware_inputs(files.boot))
    notes = {
        True: f"{directory}: the tables are those that are generated for this machine",
        False: f"{directory}: the tables are not those that are generated for this machine; the values are of these",
        None: f"{directory}: no tables are generated for this machine; that these are its own was not checked",
    }
    note = notes[measured.generated]
    if not any(prediction.profile.firmware.acpi_measured for prediction in measured.values.predictions):
        note += "; firmware of this edk2 release measures no ACPI tables, so that no register depends on them"
    status = ExitStatus.REGISTER_DIFFERS if measured.generated is False else ExitStatus.OK
    return measured.values, note, status


def _boot_files(files: PlainFiles) -> "BootFiles":
    from builder.model.launch_profile import BootFiles
    from builder.pipeline.files import read_document

    if files.boot.disk is not None:
        return disk_boot_files(_named(files.firmware), files.boot)
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
