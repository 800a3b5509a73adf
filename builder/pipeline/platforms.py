"""`measure` of other platforms than QEMU: predictions for TDs on GCE, and for td-shim under Cloud Hypervisor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builder.errors import DocumentError
from builder.measure.firmware.signature_database import parse_signature_lists
from builder.measure.platforms.cloud_hypervisor import CloudHypervisorLaunch, cloud_hypervisor_prediction
from builder.measure.platforms.gce import GceMachine
from builder.measure.platforms.gce_prediction import GceBoot, GceLaunch, gce_prediction
from builder.measure.platforms.gce_td_hob import gce_machine_type
from builder.model.platform_values import PlatformPrediction
from builder.pipeline.files import read_document

KEY_NAMES = ("pk", "kek", "db", "dbx")


@dataclass(frozen=True)
class GceRequest:
    """VMs that differ in nothing but their machine type; `keys` are files by name, of KEY_NAMES."""

    machine_types: tuple[str, ...]
    firmware: Path | None = None
    firmware_sha384: str | None = None
    secure_boot: bool = False
    keys: Mapping[str, Path] = field(default_factory=dict)
    disks: int = 1
    disk_controller: int = 4
    every_section_measured: bool = False


@dataclass(frozen=True)
class CloudHypervisorRequest:
    """Machines that differ in nothing but their memory, in bytes."""

    firmware: Path
    kernel: Path
    command_line: str
    memory: tuple[int, ...]
    physical_bits: int
    acpi_tables: tuple[Path, ...] = ()
    version: str | None = None
    hob_list: Path | None = None


def gce_predictions(request: GceRequest, boot: GceBoot | None = None) -> tuple[PlatformPrediction, ...]:
    """One prediction for each machine type. DocumentError as for `gce_prediction`, and for keys that are no lists."""
    firmware = None if request.firmware is None else read_document(request.firmware)
    keys = {name: _signature_lists(path) for name, path in request.keys.items()}
    return tuple(
        gce_prediction(
            GceLaunch(
                machine=_gce_machine(name, request, keys),
                firmware=firmware,
                firmware_sha384=request.firmware_sha384,
                every_section_measured=request.every_section_measured,
                boot=boot,
            )
        )
        for name in dict.fromkeys(request.machine_types)
    )


def cloud_hypervisor_predictions(request: CloudHypervisorRequest) -> tuple[PlatformPrediction, ...]:
    """One prediction for each memory size. DocumentError as for `cloud_hypervisor_prediction`."""
    firmware, kernel = read_document(request.firmware), read_document(request.kernel)
    tables = tuple(read_document(path) for path in request.acpi_tables)
    hob_list = None if request.hob_list is None else read_document(request.hob_list)
    return tuple(
        cloud_hypervisor_prediction(
            CloudHypervisorLaunch(
                firmware=firmware,
                kernel=kernel,
                command_line=request.command_line,
                memory=memory,
                physical_bits=request.physical_bits,
                acpi_tables=tables,
                version=request.version,
                hob_list=hob_list,
            )
        )
        for memory in dict.fromkeys(request.memory)
    )


def _gce_machine(name: str, request: GceRequest, keys: Mapping[str, bytes]) -> GceMachine:
    return GceMachine(
        machine_type=gce_machine_type(name),
        secure_boot=request.secure_boot,
        keys=(keys.get("pk"), keys.get("kek"), keys.get("db"), keys.get("dbx")),
        disks=request.disks,
        disk_controller=request.disk_controller,
    )


def _signature_lists(path: Path) -> bytes:
    """The file of a key variable, as it is measured; an empty file is a variable without data."""
    data = read_document(path)
    try:
        parse_signature_lists(data, what=str(path))
    except DocumentError as error:
        raise DocumentError(
            error.message,
            hint="give the variable's own data, EFI signature lists: not a certificate, not an .auth file",
        ) from error
    return data
