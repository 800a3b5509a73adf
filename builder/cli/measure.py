"""`measure`: of a recipe's artefacts, or of plain files without a recipe."""

from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from builder.cli.output import Result, Table, emit
from builder.cli.progress import progress_display
from builder.cli.registers import caveat_lines, registers_document, registers_table
from builder.cli.session import Places, open_session
from builder.cli.wiring import json_option, mirror_options, store_option
from builder.errors import DocumentError
from builder.measure.acpi import AcpiBlobs
from builder.model.event import ExpectedEvent, UnpredictedEvent
from builder.model.launch_profile import BootFiles
from builder.model.recipe import VmmSpec
from builder.model.reference_values import ReferenceValues, reference_values_document
from builder.model.size import parse_size
from builder.ports import MachineShape, Progress

if TYPE_CHECKING:
    from builder.pipeline.measure import LaunchMatrix

_ACPI_FILES = ("table-loader", "rsdp", "tables")
_REQUIRED = ("firmware", "kernel", "cmdline", "vcpus", "memory", "qemu", "edk2")
_MACHINE = "q35,smm=off,pic=off,hpet=off"


@dataclass(frozen=True)
class PlainFiles:
    """What the options say about an image without a recipe."""

    firmware: Path | None
    kernel: Path | None
    initrd: Path | None
    cmdline: str | None
    vcpus: tuple[int, ...]
    memory: tuple[str, ...]
    qemu: str | None
    edk2: str | None
    machine: str | None
    devices: tuple[str, ...]
    acpi: Path | None

    @property
    def given(self) -> bool:
        """Whether any of the options was used: none of them is ever ignored."""
        return any(astuple(self))

    @property
    def missing(self) -> list[str]:
        """The options that plain files need and that were not used."""
        return [f"--{name}" for name in _REQUIRED if not getattr(self, name)]


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path), required=False)
@click.option("--artifacts", type=click.Path(path_type=Path), help="Artefacts of RECIPE.  [default: of its last build]")
@click.option("--firmware", type=click.Path(path_type=Path), help="Firmware file, whole (not CODE only).")
@click.option("--kernel", type=click.Path(path_type=Path), help="Kernel file with EFI stub.")
@click.option("--initrd", type=click.Path(path_type=Path), help="Initrd file.")
@click.option("--cmdline", help="Kernel command line, as given to QEMU.")
@click.option("--vcpus", type=int, multiple=True, help="vCPU count; may be given several times.")
@click.option("--memory", multiple=True, metavar="SIZE", help="Memory, such as 512M or 2G; may be given several times.")
@click.option("--qemu", metavar="VERSION", help="QEMU version, such as 10.0.2.")
@click.option("--edk2", metavar="YYYYMM", help="edk2 stable tag of the firmware, such as 202502.")
@click.option("--machine", help=f"QEMU's -machine.  [default: {_MACHINE}]")
@click.option("--device", "devices", multiple=True, help="QEMU's -device, in order; `serial` for -serial.")
@click.option(
    "--acpi", type=click.Path(path_type=Path), help=f"Directory with the ACPI blobs: {', '.join(_ACPI_FILES)}."
)
@click.option("--events", is_flag=True, help="Show the events behind every register.")
@click.option("--offline", is_flag=True, help="Fetch nothing.")
@store_option
@mirror_options
@json_option
def measure(
    recipe: Path | None,
    artifacts: Path | None,
    store: Path,
    mirrors: tuple[str, ...],
    snapshot: str | None,
    *,
    events: bool,
    offline: bool,
    as_json: bool,
    **plain: object,
) -> int:
    """Predict MRTD and RTMR0-2.

    With RECIPE alone: of its artefacts, for its machines. With --firmware and the other options: of plain files. Their
    ACPI tables come from --acpi, or are read from the pinned QEMU of RECIPE if one is given.
    """
    files = PlainFiles(**plain)  # type: ignore[arg-type]
    places = None
    if recipe is not None:
        places = Places(recipe, None, store, mirrors, snapshot, offline=offline, cold=False)
    with progress_display() as progress:
        if files.given:
            if artifacts is not None:
                raise click.UsageError("--artifacts are those of RECIPE; plain files are named one by one")
            values = _measure_plain(files, places, progress)
        elif places is not None:
            values = _measure_recipe(places, artifacts, progress)
        else:
            raise click.UsageError("name a RECIPE, or plain files with --firmware and the other options")
    blocks: list[str | Table] = [registers_table(values), *caveat_lines(values)]
    if events:
        blocks += _event_tables(values)
    document = {**registers_document(values), "reference_values": reference_values_document(values)}
    return emit(Result("measure", document, blocks), as_json=as_json)


def _measure_recipe(places: Places, artifacts: Path | None, progress: Progress) -> ReferenceValues:
    with open_session(places, progress) as session:
        if artifacts is not None:
            return session.measure_files(artifacts)
        leg = session.built_leg("a")
        if leg is None:
            raise DocumentError(
                f"{session.leg_directory('a')}: no leg of this recipe and lock, as they are now",
                hint="run `tdx-builder build`, or name --artifacts",
            )
        return session.measure(leg)


def _measure_plain(files: PlainFiles, places: Places | None, progress: Progress) -> ReferenceValues:
    from builder.pipeline.files import read_document
    from builder.pipeline.measure import reference_values

    if files.missing or files.firmware is None or files.kernel is None or files.cmdline is None:
        raise click.UsageError(f"plain files need {', '.join(files.missing)} too")
    boot = BootFiles(
        firmware=read_document(files.firmware),
        kernel=read_document(files.kernel),
        initrd=read_document(files.initrd) if files.initrd else None,
        command_line=files.cmdline,
    )
    matrix = _matrix(files)
    if files.acpi is not None:
        if len(matrix.vcpus) * len(matrix.memory) != 1:
            raise click.UsageError("--acpi holds the tables of one machine: give one --vcpus and one --memory")
        return reference_values(boot, matrix, _AcpiFiles(files.acpi), progress)
    if places is None:
        raise click.UsageError("RTMR0 needs the ACPI tables: give --acpi, or a RECIPE whose pinned QEMU reads them")
    with open_session(places, progress) as session:
        return reference_values(boot, matrix, session.acpi_reader(), progress)


def _matrix(files: PlainFiles) -> "LaunchMatrix":
    from builder.pipeline.measure import LaunchMatrix

    devices = files.devices or ("serial",)
    vmm = VmmSpec("qemu", files.qemu or "", files.machine or _MACHINE, "Skylake-Server,phys-bits=46", devices)
    memory = tuple(parse_size(size, what="--memory") for size in files.memory)
    return LaunchMatrix(vmm, files.edk2 or "", files.vcpus, memory)


class _AcpiFiles:
    """An AcpiReader of blobs that somebody else read: only their form and CPU count can be checked, by the caller."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, shape: MachineShape) -> AcpiBlobs:  # noqa: ARG002 - the port's signature
        from builder.pipeline.files import read_document

        return AcpiBlobs(*(read_document(self._directory / name) for name in _ACPI_FILES))


def _event_row(event: ExpectedEvent) -> tuple[str, ...]:
    if isinstance(event, UnpredictedEvent):
        return (event.register, event.type_name, event.name, "not predicted", event.reason)
    return (event.register, event.type_name, event.name, event.digest, event.input)


def _event_tables(values: ReferenceValues) -> list[str | Table]:
    tables: list[str | Table] = []
    for prediction in values.predictions:
        rows = tuple(_event_row(event) for event in prediction.events)
        tables.append(
            Table(
                ("register", "type", "event", "SHA-384", "decided by"),
                rows,
                caption=f"Events of {prediction.profile.name}",
            )
        )
    return tables
