"""`measure`: of a recipe's artefacts, of a dstack image, of plain files, or of TDs on other platforms than QEMU."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder.cli.measure_boot import boot_options, boot_sources
from builder.cli.measure_plain import ACPI_FILES, CPU, MACHINE, PlainFiles, measure_plain, measure_with_tables
from builder.cli.measure_platform import measure_platform, platform_options
from builder.cli.measure_target import GROUPS, Target, target_of
from builder.cli.option_groups import GroupedCommand, given_options
from builder.cli.output import Result, Table, emit
from builder.cli.progress import QUIET, progress_display
from builder.cli.wiring import flavour_option, json_option, mirror_options, store_option
from builder.errors import DocumentError, ExitStatus

if TYPE_CHECKING:
    from builder.cli.session import Places
    from builder.model.reference_values import ReferenceValues
    from builder.ports import Progress

_PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class _Measured:
    """Reference Values, and what one way of measuring adds to them."""

    values: "ReferenceValues"
    document: dict[str, Any] = field(default_factory=dict)
    blocks: list[str | Table] = field(default_factory=list)
    status: ExitStatus = ExitStatus.OK


@click.command(cls=GroupedCommand, groups=GROUPS)
@click.argument("target", type=_PATH, required=False)
@click.option("--firmware", type=_PATH, help="Firmware file, whole (not CODE only).")
@click.option("--kernel", type=_PATH, help="Kernel file with EFI stub, or a unified kernel image (UKI).")
@click.option("--initrd", type=_PATH, help="Initrd file; left out if the guest has none.")
@click.option("--cmdline", help="Kernel command line, as given to QEMU; a UKI needs none.")
@click.option(
    "--acpi",
    type=_PATH,
    help=f"Directory with the ACPI blobs of the machine: {', '.join(ACPI_FILES)}.  [default: generated]",
)
@click.option("--vcpus", type=int, multiple=True, help="vCPU count; may be given several times.")
@click.option("--memory", multiple=True, metavar="SIZE", help="Memory, such as 512M or 2G; may be given several times.")
@click.option("--qemu", metavar="VERSION", help="QEMU version, such as 10.0.2.")
@click.option(
    "--edk2",
    metavar="YYYYMM",
    help="edk2 stable tag of the firmware, such as 202502. A dstack image may say it itself, by its ovmf_variant.",
)
@click.option("--machine", default=MACHINE, show_default=True, help="QEMU's -machine.")
@click.option("--cpu", default=CPU, show_default=True, help="QEMU's -cpu, as far as ACPI tables show it.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="DEVICE",
    help="QEMU's -device, in order; `serial` for -serial.  [default: serial alone]",
)
@click.option("--pci-hole64", metavar="SIZE", help="QEMU's pci-hole64-size, such as 512G.  [default: QEMU's own]")
@click.option(
    "--no-bridge-hotplug", "bridge_hotplug", flag_value=False, default=True, help="ACPI hotplug of PCI bridges is off."
)
@click.option(
    "--numa-nodes",
    type=click.IntRange(min=0),
    default=0,
    help="NUMA nodes that share vCPUs and memory evenly.  [default: no NUMA]",
)
@click.option(
    "--vm-config",
    "vm_configs",
    type=_PATH,
    multiple=True,
    help="The machine as dstack delivers it in JSON with a quote, or that answer itself: what its sender claims. In "
    "place of --vcpus, --memory and --qemu; may be given several times.",
)
@click.option("--app-compose", type=_PATH, help="app-compose.json as delivered to the guest: for RTMR3 and identities.")
@click.option(
    "--runtime-events",
    metavar="NAMES",
    help="Which of the events that not every guest emits this one does: `none`, or with commas storage-fs (since "
    "0.5.5), gpu-policy-hash (since 2026-07), gpu-attestation, init-script-hash (since 2026-08), mr-kms (until "
    "2026-08).",
)
@click.option(
    "--runtime",
    "runtime_values",
    multiple=True,
    metavar="NAME=HEX",
    help="A value that only the running guest decides: instance-id, os-image-hash (what the key service replied), "
    "key-provider-id, mr-kms, gpu-attestation; app-id if one was assigned; mrconfigid, mrowner, mrownerconfig.",
)
@click.option(
    "--app-event",
    "app_events",
    multiple=True,
    metavar="NAME=HEX",
    help="An event that the app itself emits, with its payload; in order.",
)
@boot_options
@platform_options
@click.option("--artifacts", type=_PATH, help="Directory of the artefacts.  [default: of the recipe's last build]")
@flavour_option
@click.option("--offline", is_flag=True, help="Fetch nothing.")
@click.option("--events", is_flag=True, help="Show the events behind every register; --json always has them.")
@store_option
@mirror_options
@json_option
@click.pass_context
def measure(context: click.Context, /, target: Path | None, *, events: bool, as_json: bool, **options: Any) -> int:
    """Predict MRTD and RTMR0-2, and of a dstack app RTMR3.

    TARGET is the directory of a recipe: its artefacts are measured, for its machines. Or that of an unpacked dstack
    image, which needs its machines: --vm-config, or --vcpus, --memory and --qemu. Without TARGET, --firmware, --kernel
    and the other options name plain files and their machines, which --platform makes those of another VMM than QEMU.

    ACPI tables are generated. With the pinned QEMU of a recipe they are read as well, and both have to be the same;
    plain files may be measured beside a recipe for that.
    """
    kind = target_of(target, given_options(context), platform=options["platform"])
    if kind in (Target.GCE, Target.CLOUD_HYPERVISOR):
        return measure_platform(options, events=events, as_json=as_json)
    if kind is Target.DSTACK and target is not None:
        measured = _dstack(target, options, events=events)
    elif target is None:
        measured = _plain(options)
    else:
        measured = _recipe(target, options, plain=kind is Target.PLAIN_BESIDE_RECIPE)
    return _emit(measured, events=events, as_json=as_json)


def _emit(measured: _Measured, *, events: bool, as_json: bool) -> int:
    from builder.cli.registers import registers_document
    from builder.model.reference_values import reference_values_document

    if as_json:
        values = measured.values
        document = {**registers_document(values), **measured.document}
        document["reference_values"] = reference_values_document(values)
        return emit(Result("measure", document, [], [measured.status]), as_json=True)
    return emit(Result("measure", {}, _blocks(measured, events=events), [measured.status]), as_json=False)


def _blocks(measured: _Measured, *, events: bool) -> list[str | Table]:
    from builder.cli.registers import caveat_lines, events_table, register_lines, registers_table, unpredicted_lines

    values = measured.values
    blocks: list[str | Table] = []
    blocks += register_lines(values) if len(values.predictions) == 1 else [registers_table(values)]
    blocks += [*unpredicted_lines(values), *caveat_lines(values)]
    if events:
        blocks += [
            events_table(prediction.events, caption=f"Events of {prediction.profile.name}")
            for prediction in values.predictions
        ]
    return blocks + measured.blocks


def _plain(options: dict[str, Any]) -> _Measured:
    files = _plain_files(options)
    files.require_complete()
    if files.acpi is None:
        return _Measured(measure_plain(files, None, QUIET))
    values, note, status = measure_with_tables(files, files.acpi)
    return _Measured(values, {"notes": [note]}, [note], status)


def _plain_files(options: dict[str, Any]) -> PlainFiles:
    own = {each.name: options[each.name] for each in fields(PlainFiles) if each.name != "boot"}
    return PlainFiles(**own, boot=boot_sources(options))


def _recipe(recipe: Path, options: dict[str, Any], *, plain: bool) -> _Measured:
    from builder.cli.session import Places

    places = Places(
        recipe=recipe,
        out=None,
        store=options["store"],
        mirrors=options["mirrors"],
        snapshot=options["snapshot"],
        offline=options["offline"],
        cold=False,
        flavour=options["flavour"],
    )
    with progress_display() as progress:
        if plain:
            return _Measured(_measure_beside(places, _plain_files(options), progress))
        return _Measured(_measure_recipe(places, options["artifacts"], progress))


def _measure_beside(places: "Places", files: PlainFiles, progress: "Progress") -> "ReferenceValues":
    from builder.cli.session import open_session

    files.require_complete()
    if files.acpi is not None:
        raise click.UsageError("--acpi gives the tables, a recipe's QEMU reads them: leave out one of the two")
    with open_session(places, progress) as session:
        return measure_plain(files, session.acpi_reader(), progress)


def _measure_recipe(places: "Places", artifacts: Path | None, progress: "Progress") -> "ReferenceValues":
    from builder.cli.session import open_session

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


def _dstack(directory: Path, options: dict[str, Any], *, events: bool) -> _Measured:
    from builder.cli.dstack import DstackMachines, measure_image
    from builder.cli.measure_app import AppOptions, measure_app
    from builder.cli.measure_dstack import DstackResult

    machines = DstackMachines(*(options[name] for name in ("vm_configs", "vcpus", "memory", "qemu", "edk2")))
    app = AppOptions(*(options[name] for name in ("app_compose", "runtime_events", "runtime_values", "app_events")))
    measured = measure_image(directory, machines)
    result = DstackResult(measured, measure_app(app, measured.image.metadata.command_line))
    return _Measured(measured.values, result.document(), result.blocks(events=events), result.status)
