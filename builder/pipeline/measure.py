"""`measure`: Reference Values of artefact files, with ACPI tables read from a VMM or digests that a manifest states."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from builder.components.disk_image import COMPONENT as DISK_COMPONENT
from builder.components.disk_image import DISK
from builder.errors import DocumentError
from builder.measure.acpi.blobs import AcpiBlobs
from builder.measure.boot.direct import SMBIOS_EVENT
from builder.measure.firmware.build import firmware_build
from builder.measure.firmware.efi_variables import SecureBootKeys
from builder.measure.images.uki import parse_uki
from builder.measure.predict import Measurer
from builder.measure.profile import launch_profiles
from builder.model.event import PredictedEvent
from builder.model.launch_profile import BootFiles, LaunchProfile, SecureBootVariable
from builder.model.recipe import VmmSpec
from builder.model.reference_values import AcpiDigests, Prediction, ReferenceValues
from builder.pipeline.acpi import acpi_digests, generated_digests, given_digests, same_tables
from builder.pipeline.boot_disk import DiskReader, EspOpener, disk_reader
from builder.pipeline.files import read_document
from builder.ports import AcpiReader, Progress

COMMAND_LINE = "cmdline"


@dataclass(frozen=True)
class LaunchMatrix:
    """The machines to predict for: a VMM, the firmware's edk2 release, and every vCPU count with every memory size."""

    vmm: VmmSpec
    edk2: str
    vcpus: tuple[int, ...]
    memory: tuple[int, ...]


@dataclass(frozen=True)
class FirmwareInputs:
    """What the firmware finds besides its own file: secure-boot keys in place of those in it, and QEMU's SMBIOS tables
    of the one machine that is asked for. None for what is not given."""

    keys: SecureBootKeys | None = None
    smbios: bytes | None = None


NOTHING_FOUND = FirmwareInputs()


def reference_values(
    files: BootFiles,
    matrix: LaunchMatrix,
    reader: AcpiReader | None,
    progress: Progress,
    *,
    inputs: FirmwareInputs = NOTHING_FOUND,
) -> ReferenceValues:
    """Reference Values of the whole matrix.

    The ACPI tables of each shape are generated, and read from the VMM if there is a reader; two ways that do not agree
    are an error, as is a shape that neither covers, and `inputs` that the firmware would not look at.
    """
    measurer = Measurer(files, keys=inputs.keys)
    profiles = _profiles(files, matrix, inputs)
    digests = acpi_digests(profiles, reader, progress)
    return measurer.reference_values(zip(profiles, digests, strict=True), smbios=_smbios(profiles, inputs))


@dataclass(frozen=True)
class GivenTables:
    """Values with ACPI tables that whoever asked gave. `generated` says whether those that are generated for the same
    machine are the same; None if none are."""

    values: ReferenceValues
    generated: bool | None


def values_with_tables(
    files: BootFiles, matrix: LaunchMatrix, blobs: AcpiBlobs, *, inputs: FirmwareInputs = NOTHING_FOUND
) -> GivenTables:
    """Reference Values of the one machine whose tables these are. DocumentError for a matrix of several."""
    shapes = list(product(matrix.vcpus, matrix.memory))
    if len(shapes) != 1:
        raise DocumentError(
            f"ACPI tables of one machine for {len(shapes)}", hint="give one vCPU count and one memory size"
        )
    (profile,) = profiles = _profiles(files, matrix, inputs)
    given = given_digests(profile, blobs)
    own = generated_digests(profile)
    measurer = Measurer(files, keys=inputs.keys)
    values = measurer.reference_values([(profile, given)], smbios=_smbios(profiles, inputs))
    return GivenTables(values, same_tables(own, given) if isinstance(own, AcpiDigests) else None)


def recomputed_values(files: BootFiles, published: ReferenceValues) -> ReferenceValues:
    """The values of the same profiles, computed anew from the files: rules, events and, where the generator covers the
    machine, ACPI tables too.

    For other machines the published ACPI digests are taken; that they are those of the machine is not shown then. The
    digest of the SMBIOS tables is taken always: no file says what the VMM's tables are.
    """
    measurer = Measurer(files)
    groups: dict[tuple[VmmSpec, str], list[Prediction]] = {}
    for prediction in published.predictions:
        profile = prediction.profile
        groups.setdefault((profile.vmm, profile.firmware.edk2), []).append(prediction)
    predicted: dict[str, Prediction] = {}
    for (vmm, edk2), predictions in groups.items():
        shapes = [(prediction.profile.vcpus, prediction.profile.memory) for prediction in predictions]
        profiles = launch_profiles(files, vmm=vmm, edk2=edk2, shapes=shapes)
        for profile, prediction in zip(profiles, predictions, strict=True):
            acpi = _recomputed_acpi(profile, prediction.acpi)
            predicted[prediction.profile.name] = measurer.predict(profile, acpi, smbios=_published_smbios(prediction))
    ordered = tuple(predicted[prediction.profile.name] for prediction in published.predictions)
    return ReferenceValues(measurer.mrtd, ordered)


def _profiles(files: BootFiles, matrix: LaunchMatrix, inputs: FirmwareInputs) -> tuple[LaunchProfile, ...]:
    """A profile for every shape. DocumentError for inputs that change nothing: a firmware that does not know secure
    boot, or does not measure SMBIOS tables, or tables of one machine for several."""
    shapes = list(product(matrix.vcpus, matrix.memory))
    profiles = launch_profiles(files, vmm=matrix.vmm, edk2=matrix.edk2, shapes=shapes, keys=inputs.keys)
    rules = [profile.firmware for profile in profiles]
    if inputs.keys is not None and any(each.secure_boot_variable is SecureBootVariable.ABSENT for each in rules):
        raise DocumentError(
            "secure-boot keys: this firmware was built without secure boot, or does not show whether it was",
            hint="leave the keys out: it does not use any",
        )
    measured = all(each.fw_cfg_events for each in rules) and firmware_build(files.firmware).smbios_measured is not False
    if inputs.smbios is not None and not measured:
        raise DocumentError(
            f"SMBIOS tables: this firmware of edk2 {matrix.edk2} does not measure them",
            hint="leave them out; 202505 is the first to do so",
        )
    if inputs.smbios is not None and len(profiles) != 1:
        raise DocumentError(
            f"SMBIOS tables of one machine for {len(profiles)}", hint="give one vCPU count and one memory size"
        )
    return profiles


def _smbios(profiles: Sequence[LaunchProfile], inputs: FirmwareInputs) -> dict[str, bytes | str]:
    return {} if inputs.smbios is None else {profile.name: inputs.smbios for profile in profiles}


def _published_smbios(prediction: Prediction) -> str | None:
    """The digest of the SMBIOS tables that a prediction states, None if it has none."""
    for event in prediction.events:
        if event.name == SMBIOS_EVENT and isinstance(event, PredictedEvent):
            return event.digest
    return None


def _recomputed_acpi(profile: LaunchProfile, published: AcpiDigests | None) -> AcpiDigests:
    own = generated_digests(profile)
    if isinstance(own, AcpiDigests):
        return own if published is None else replace(own, sources=published.sources)
    if published is None:
        raise DocumentError(
            f"profile {profile.name!r}: no ACPI digests are published, and {own.message}", hint=own.hint
        )
    return published


def read_boot_files(artifacts: Path, names: Mapping[str, str], *, open_esp: EspOpener | None = None) -> BootFiles:
    """Firmware, kernel, initrd and command line out of a directory of artefacts, or firmware and disk image where there
    is one; `names` gives their file names by component. DocumentError for one that cannot be read, MissingError for a
    disk image without `open_esp`."""
    read_disk = disk_reader(artifacts, open_esp)
    return boot_files(lambda name: read_document(artifacts / name), names, read_disk=read_disk)


def boot_files(read: Callable[[str], bytes], names: Mapping[str, str], *, read_disk: DiskReader) -> BootFiles:
    """The same by functions that read the artefact, or the disk image, of a name.

    A TD that boots from a disk is given no kernel, initrd or command line besides: what is measured is what lies on it.
    """
    if DISK_COMPONENT in names:
        found = read_disk(DISK)
        return BootFiles(read(names["firmware"]), found.loader, None, "", found.disk)
    return BootFiles(
        firmware=read(names["firmware"]),
        kernel=read(names["kernel"]),
        initrd=read(names["initrd"]),
        command_line=parse_command_line(read(COMMAND_LINE), what=COMMAND_LINE),
    )


def measured_command_line(files: BootFiles) -> str:
    """The command line that these files make a guest measure: as it is given, or that of the UKI of a disk.

    DocumentError for a disk whose loader is no UKI with a command line.
    """
    if files.disk is None:
        return files.command_line
    section = parse_uki(files.kernel).profile(0).get(".cmdline")
    if section is None:
        raise DocumentError("disk: its UKI has no command line")
    return parse_command_line(section, what="disk: .cmdline of its UKI")


def parse_command_line(data: bytes, *, what: str) -> str:
    """A kernel command line as it is given to the VMM: printable ASCII, without a newline. DocumentError otherwise."""
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{what}: byte {error.start} is not ASCII") from error
    if not text or not text.isprintable():
        raise DocumentError(f"{what}: {text[:80]!r} is not a command line: wanted printable text without a newline")
    return text
