"""`measure --platform`: TDs on GCE, and of td-shim under Cloud Hypervisor."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder.cli.output import Result, Table, emit
from builder.model.size import parse_size

if TYPE_CHECKING:
    from builder.model.platform_values import PlatformPrediction

GCE, CLOUD_HYPERVISOR = "gce", "cloud-hypervisor"
PLATFORM_OPTIONS = ("platform",)
GCE_OPTIONS = (
    "machine_types",
    "firmware_sha384",
    "secure_boot",
    "disks",
    "disk_controller",
    "every_section_measured",
)
CLOUD_HYPERVISOR_OPTIONS = ("cloud_hypervisor", "physical_bits", "acpi_tables", "hob")

_PATH = click.Path(path_type=Path)
_SHA384 = re.compile("[0-9a-f]{96}")
_CLOUD_HYPERVISOR_NEEDS = ("firmware", "kernel", "cmdline", "memory")
_NOT_PREDICTED = "not predicted"

_OPTIONS = (
    click.option(
        "--platform",
        type=click.Choice([GCE, CLOUD_HYPERVISOR]),
        help="Google Compute Engine; or td-shim and a Linux kernel under Cloud Hypervisor, with --firmware, --kernel, "
        "--cmdline and --memory.  [default: QEMU]",
    ),
    click.option(
        "--machine-type", "machine_types", multiple=True, help="Such as c3-standard-4; may be given several times."
    ),
    click.option("--firmware-sha384", metavar="HEX", help="In place of --firmware, which Google may not hand out."),
    click.option("--secure-boot", is_flag=True, help="The VM enforces Secure Boot."),
    *(
        click.option(f"--{name}", type=_PATH, help=f"Data of the variable {shown}: EFI signature lists.")
        for name, shown in (("pk", "PK"), ("kek", "KEK"), ("db", "db"), ("dbx", "dbx"))
    ),
    click.option(
        "--disks", type=click.IntRange(1, 128), default=1, show_default=True, help="Persistent disks of the VM."
    ),
    click.option(
        "--disk-controller",
        type=click.IntRange(0, 31),
        default=4,
        show_default=True,
        help="PCI device of the disks' NVMe controller: 4 and 5 were seen.",
    ),
    click.option(
        "--every-section-measured",
        is_flag=True,
        help="MRTD as under Google's old VMM, which extended every section of the firmware.",
    ),
    click.option(
        "--cloud-hypervisor",
        metavar="VERSION",
        help="Version of the VMM, such as 44.0: its HOB list depends on it.",
    ),
    click.option(
        "--physical-bits",
        type=click.IntRange(36, 52),
        default=46,
        show_default=True,
        help="Address bits of the CPU that the TD sees.",
    ),
    click.option(
        "--acpi-tables",
        type=_PATH,
        multiple=True,
        help="An ACPI table as the VMM makes it; once for each, in its order: DSDT, FACP, APIC, MCFG.",
    ),
    click.option("--hob", type=_PATH, help="The whole HOB list, in place of --acpi-tables."),
)


def platform_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `--platform` to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def measure_platform(options: dict[str, Any], *, events: bool, as_json: bool) -> int:
    """Predict and print; gives the exit status. UsageError for options that are missing or contradict each other."""
    from builder.errors import ExitStatus

    predictions = _gce(options) if options["platform"] == GCE else _cloud_hypervisor(options)
    if as_json:
        return emit(Result("measure", _document(predictions), [], [ExitStatus.OK]), as_json=True)
    return emit(Result("measure", {}, list(_blocks(predictions, events=events)), [ExitStatus.OK]), as_json=False)


def _gce(options: dict[str, Any]) -> "tuple[PlatformPrediction, ...]":
    from builder.pipeline.platforms import KEY_NAMES, GceRequest, gce_predictions

    if not options["machine_types"]:
        raise click.UsageError("--platform gce needs --machine-type too")
    digest = options["firmware_sha384"]
    if digest is not None and not _SHA384.fullmatch(digest):
        raise click.UsageError(f"--firmware-sha384 {digest[:120]}: wanted 96 lower-case hex digits")
    request = GceRequest(
        **{name: options[name] for name in ("machine_types", "firmware", "firmware_sha384", "secure_boot", "disks")},
        disk_controller=options["disk_controller"],
        every_section_measured=options["every_section_measured"],
        keys={name: options[name] for name in KEY_NAMES if options[name] is not None},
    )
    return gce_predictions(request)


def _cloud_hypervisor(options: dict[str, Any]) -> "tuple[PlatformPrediction, ...]":
    from builder.pipeline.platforms import CloudHypervisorRequest, cloud_hypervisor_predictions

    missing = [f"--{name}" for name in _CLOUD_HYPERVISOR_NEEDS if options[name] in (None, ())]
    if missing:
        raise click.UsageError(f"--platform cloud-hypervisor needs {', '.join(missing)} too")
    _check_hob(options)
    request = CloudHypervisorRequest(
        firmware=options["firmware"],
        kernel=options["kernel"],
        command_line=options["cmdline"],
        memory=tuple(parse_size(size, what="--memory") for size in options["memory"]),
        physical_bits=options["physical_bits"],
        acpi_tables=options["acpi_tables"],
        version=options["cloud_hypervisor"],
        hob_list=options["hob"],
    )
    return cloud_hypervisor_predictions(request)


def _check_hob(options: dict[str, Any]) -> None:
    tables, hob, version = options["acpi_tables"], options["hob"], options["cloud_hypervisor"]
    if tables and hob is not None:
        raise click.UsageError("--acpi-tables and --hob: the list has tables of its own; leave out one of the two")
    if hob is not None and len(options["memory"]) != 1:
        raise click.UsageError("--hob is the list of one machine: give one --memory")
    if tables and version is None:
        raise click.UsageError("--acpi-tables needs --cloud-hypervisor: the list around them depends on the version")


def _document(predictions: "Sequence[PlatformPrediction]") -> dict[str, Any]:
    """Registers under the same names as those of QEMU (`registers.registers_document`), and everything behind them."""
    from builder.model.platform_values import platform_values_document

    profiles = {prediction.name: asdict(prediction.registers) for prediction in predictions}
    orders = [{str(order): value for order, value in prediction.mrtd.items()} for prediction in predictions]
    same = len(orders[0]) > 1 and all(each == orders[0] for each in orders)
    return {
        **(asdict(predictions[0].registers) if len(predictions) == 1 else {}),
        **({"mrtd_page_orders": orders[0]} if same else {}),
        "profiles": profiles,
        "platform_values": platform_values_document(predictions),
    }


def _blocks(predictions: "Sequence[PlatformPrediction]", *, events: bool) -> Sequence[str | Table]:
    from builder.cli.registers import events_table

    blocks: list[str | Table] = []
    for prediction in predictions:
        blocks.append(f"Reference Values of {prediction.name}")
        registers = asdict(prediction.registers)
        blocks += [f"{name} {value or _NOT_PREDICTED}" for name, value in registers.items()]
    blocks += dict.fromkeys(line for prediction in predictions for line in _reasons(prediction))
    blocks += dict.fromkeys(f"caveat: {text}" for prediction in predictions for text in prediction.caveats.values())
    if events:
        blocks += [events_table(each.events, caption=f"Events of {each.name}") for each in predictions]
    return blocks


def _reasons(prediction: "PlatformPrediction") -> list[str]:
    mrtd = [] if prediction.unknown_mrtd is None else [f"not predicted: mrtd: {prediction.unknown_mrtd}"]
    events = prediction.unpredicted
    return mrtd + [f"not predicted: {event.register}, {event.name}: {event.reason}" for event in events]
