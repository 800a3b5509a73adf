"""`rehearse`: of a recipe's artefacts, or of plain files on the machine of a recipe."""

from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from builder.cli.output import Result, Table, emit
from builder.cli.progress import progress_display
from builder.cli.session import VMM, Places, Session, open_session
from builder.cli.streams import note
from builder.cli.wiring import flavour_option, json_option, mirror_options, recipe_argument, store_option
from builder.errors import BuilderError, DocumentError, ExitStatus
from builder.model.components import PROD
from builder.model.recipe import Recipe, VmmSpec
from builder.model.rehearsal import Rehearsal, rehearsal_document
from builder.model.size import parse_size

if TYPE_CHECKING:
    from builder.pipeline.rehearse import BootPaths, Stage

_REQUIRED = ("firmware", "kernel", "cmdline", "edk2")
_SHOWN_DIGITS = 16
_SERIAL_LINES = 25
_SERIAL_BYTES = 8192


@dataclass(frozen=True)
class PlainFiles:
    """What the options say about an image that is not the recipe's."""

    firmware: Path | None
    kernel: Path | None
    initrd: Path | None
    disk: Path | None
    cmdline: str | None
    edk2: str | None

    @property
    def given(self) -> bool:
        """Whether any of the options was used: none of them is ever ignored."""
        return any(value is not None for value in astuple(self))

    @property
    def missing(self) -> list[str]:
        """The options that plain files need and that were not used."""
        return [f"--{name}" for name in _REQUIRED if not getattr(self, name)]


@dataclass(frozen=True)
class Machine:
    """What the options say about the machine; the rest is the recipe's."""

    vcpus: int | None
    memory: str | None
    machine: str | None
    devices: tuple[str, ...]

    def vmm(self, recipe: Recipe) -> VmmSpec:
        """The recipe's VMM with these options."""
        vmm = recipe.measure.vmm
        machine = vmm.machine if self.machine is None else self.machine
        return replace(vmm, machine=machine, devices=self.devices or vmm.devices)

    def shape(self, recipe: Recipe) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """vCPUs and memory of the one machine."""
        vcpus = min(recipe.measure.vcpus) if self.vcpus is None else self.vcpus
        memory = min(recipe.measure.memory) if self.memory is None else parse_size(self.memory, what="--memory")
        return (vcpus,), (memory,)


@click.command()
@recipe_argument
@click.option("--artifacts", type=click.Path(path_type=Path), help="Artefacts of RECIPE.  [default: of its last build]")
@click.option("--firmware", type=click.Path(path_type=Path), help="Firmware file, whole (not CODE only).")
@click.option("--kernel", type=click.Path(path_type=Path), help="Kernel file with EFI stub.")
@click.option("--initrd", type=click.Path(path_type=Path), help="Initrd file.")
@click.option("--disk", type=click.Path(path_type=Path), help="Raw image for the first virtio disk; never written to.")
@click.option("--cmdline", help="Kernel command line, as given to QEMU.")
@click.option("--edk2", metavar="YYYYMM", help="edk2 stable tag of the firmware, such as 202502.")
@click.option("--vcpus", type=int, help="vCPU count.  [default: the recipe's smallest]")
@click.option("--memory", metavar="SIZE", help="Memory, such as 2G.  [default: the recipe's smallest]")
@click.option("--machine", help="QEMU's -machine.  [default: the recipe's]")
@click.option("--device", "devices", multiple=True, help="QEMU's -device, in order; instead of all of the recipe's.")
@click.option(
    "--until",
    metavar="TEXT",
    help="End when the guest says this on its serial port; not to say it fails.  [default: the recipe's]",
)
@click.option(
    "--timeout", "limit", type=click.FloatRange(min=1), metavar="SECONDS", help="For the boot.  [default: 300]"
)
@flavour_option
@click.option("--out", type=click.Path(path_type=Path), help="Build directory.  [default: out/IMAGE/VERSION]")
@click.option("--offline", is_flag=True, help="Fetch nothing.")
@store_option
@mirror_options
@json_option
def rehearse(
    recipe: Path,
    artifacts: Path | None,
    until: str | None,
    limit: float | None,
    flavour: str,
    out: Path | None,
    store: Path,
    mirrors: tuple[str, ...],
    snapshot: str | None,
    *,
    offline: bool,
    as_json: bool,
    **options: object,
) -> int:
    """Boot an image under emulation and compare every measured event with the prediction.

    The artefacts of RECIPE, or with --firmware and the other options plain files, on a machine of RECIPE with its
    pinned QEMU, and with a TPM. What the guest says on its serial port is kept below --out in rehearsal/serial.log.
    """
    machine = Machine(**{name: options.pop(name) for name in ("vcpus", "memory", "machine", "devices")})  # type: ignore[arg-type]
    files = PlainFiles(**options)  # type: ignore[arg-type]
    if files.given and artifacts is not None:
        raise click.UsageError("--artifacts are those of RECIPE; plain files are named one by one")
    if files.given and files.missing:
        raise click.UsageError(f"plain files need {', '.join(files.missing)} too")
    if files.given and flavour != PROD:
        raise click.UsageError("--flavour is of the artefacts of RECIPE, and plain files have none")
    places = Places(recipe, out, store, mirrors, snapshot, offline=offline, cold=False, flavour=flavour)
    with progress_display() as progress, open_session(places, progress) as session:
        paths = _plain_paths(files) if files.given else _recipe_paths(session, artifacts)
        stage = stage_of(session, until=until or _ready_text(session, files), limit=limit)
        return emit(_rehearsed(session, paths, machine, edk2=files.edk2, stage=stage), as_json=as_json)


def _ready_text(session: Session, files: PlainFiles) -> str | None:
    """What the recipe's own guest says once it works; of other files nothing is known."""
    return None if files.given else session.recipe.recipe.ready_text


def stage_of(session: Session, *, until: str | None = None, limit: float | None = None) -> "Stage":
    """The emulators of the recipe's pinned root, and the rehearsal directory below the build directory."""
    from builder.backends.emulator.boot import QemuTpmBoot
    from builder.pipeline.rehearse import DEFAULT_LIMIT, DIRECTORY, Stage

    return Stage(QemuTpmBoot(session.root(VMM)), session.out / DIRECTORY, until, limit or DEFAULT_LIMIT)


def events_table(rehearsal: Rehearsal) -> Table:
    """One row an event."""
    rows = tuple(
        (
            event.register or "-",
            event.type_name or "-",
            event.name,
            _short(event.predicted),
            _short(event.observed),
            str(event.verdict),
            event.note,
        )
        for event in rehearsal.events
    )
    return Table(
        ("register", "type", "event", "predicted", "measured", "verdict", ""),
        rows,
        caption=f"Rehearsal of {rehearsal.profile}",
    )


def summary_lines(rehearsal: Rehearsal) -> list[str]:
    """What was compared, with which programs, and how the boot ended."""
    from builder.pipeline.rehearse import first_failure, shortfall

    programs = ", ".join(f"{name} {version}" for name, version in rehearsal.programs.items())
    lines = [f"boot: {rehearsal.end}; {programs}, emulated, with a TPM that a TD does not have"]
    if not rehearsal.acpi_measured:
        lines.append(f"note: firmware of edk2 {rehearsal.edk2} measures no ACPI tables, so none were rehearsed")
    counts = ", ".join(f"{verdict}: {count}" for verdict, count in rehearsal.counts().items())
    outcome = {
        ExitStatus.OK: "what was measured is what was predicted",
        ExitStatus.REGISTER_DIFFERS: "something else was measured than was predicted",
    }.get(rehearsal.status, "not proven")
    lines.append(f"rehearsal: {outcome} ({counts})")
    if rehearsal.open_registers:
        lines.append(f"not derivable, and not compared to the end: {', '.join(rehearsal.open_registers)}")
    if rehearsal.status is ExitStatus.REGISTER_DIFFERS:
        lines.append(f"first: {first_failure(rehearsal)}")
    elif rehearsal.status is not ExitStatus.OK:
        lines.append(f"because: {shortfall(rehearsal)}")
    return lines


def serial_tail(directory: Path) -> list[str]:
    """The last lines that the guest said, and where all are."""
    from builder.pipeline.rehearse import SERIAL_LOG

    path = directory / SERIAL_LOG
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _SERIAL_BYTES))
            text = file.read(_SERIAL_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()][-_SERIAL_LINES:]
    return [f"serial log: {path}", *(f"  | {line}" for line in lines)]


def note_serial(directory: Path) -> None:
    """The same on stderr, where a rehearsal ends with an error."""
    if lines := serial_tail(directory):
        note("\n".join(lines))


def _rehearsed(session: Session, paths: "BootPaths", machine: Machine, *, edk2: str | None, stage: "Stage") -> Result:
    from builder.backends.esp import MtoolsPartition
    from builder.pipeline.measure import LaunchMatrix, reference_values
    from builder.pipeline.rehearse import read_boot_paths
    from builder.pipeline.rehearse import rehearse as rehearse_boot

    spec = session.recipe.recipe
    matrix = LaunchMatrix(machine.vmm(spec), edk2 or spec.firmware.edk2, *machine.shape(spec))
    values = reference_values(
        read_boot_paths(paths, open_esp=MtoolsPartition), matrix, session.acpi_reader(), session.progress
    )
    try:
        rehearsal = rehearse_boot(values.predictions[0], paths, stage, session.progress)
    except BuilderError:
        note_serial(stage.directory)
        raise
    blocks: list[str | Table] = [events_table(rehearsal), *summary_lines(rehearsal)]
    if rehearsal.status is not ExitStatus.OK:
        blocks += serial_tail(stage.directory)
    return Result("rehearse", rehearsal_document(rehearsal), blocks, rehearsal.statuses)


def _recipe_paths(session: Session, artifacts: Path | None) -> "BootPaths":
    from builder.pipeline.rehearse import boot_paths

    if artifacts is None:
        leg = session.built_leg("a")
        if leg is None:
            raise DocumentError(
                f"{session.leg_directory('a')}: no leg of this recipe and lock, as they are now",
                hint="run `tdx-builder build`, or name --artifacts",
            )
        artifacts = leg.directory / "artifacts"
    return boot_paths(artifacts, [(artifact.component, artifact.output) for artifact in session.plan.artifacts])


def _plain_paths(files: PlainFiles) -> "BootPaths":
    from builder.pipeline.rehearse import BootPaths

    if files.firmware is None or files.kernel is None or files.cmdline is None:
        raise click.UsageError(f"plain files need {', '.join(files.missing)} too")
    return BootPaths(files.firmware, files.kernel, files.initrd, files.disk, files.cmdline)


def _short(digest: str | None) -> str:
    return f"{digest[:_SHOWN_DIGITS]}…" if digest else "-"
