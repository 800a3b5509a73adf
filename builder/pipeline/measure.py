"""`measure`: Reference Values of artefact files, with ACPI tables read from a VMM or digests that a manifest states."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from builder.errors import DocumentError
from builder.measure.predict import Measurer, checked_acpi_digests
from builder.measure.profile import launch_profiles
from builder.model.launch_profile import BootFiles, LaunchProfile
from builder.model.recipe import VmmSpec
from builder.model.reference_values import AcpiDigests, Prediction, ReferenceValues
from builder.pipeline.files import read_document
from builder.ports import AcpiReader, MachineShape, Progress

COMMAND_LINE = "cmdline"


@dataclass(frozen=True)
class LaunchMatrix:
    """The machines to predict for: a VMM, the firmware's edk2 release, and every vCPU count with every memory size."""

    vmm: VmmSpec
    edk2: str
    vcpus: tuple[int, ...]
    memory: tuple[int, ...]


def reference_values(files: BootFiles, matrix: LaunchMatrix, reader: AcpiReader, progress: Progress) -> ReferenceValues:
    """Reference Values of the whole matrix, the ACPI tables of each shape read from the VMM, two shapes at a time."""
    measurer = Measurer(files)
    profiles = launch_profiles(
        files, vmm=matrix.vmm, edk2=matrix.edk2, shapes=list(product(matrix.vcpus, matrix.memory))
    )
    digests = _read_acpi(profiles, reader, progress)
    return measurer.reference_values(zip(profiles, digests, strict=True))


def recomputed_values(files: BootFiles, published: ReferenceValues) -> ReferenceValues:
    """The values of the same profiles, from the files, with the ACPI digests that were published.

    What this cannot show is that the ACPI digests are those of the machine; everything else is computed anew, the
    profiles' rules included.
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
            predicted[prediction.profile.name] = measurer.predict(profile, prediction.acpi)
    ordered = tuple(predicted[prediction.profile.name] for prediction in published.predictions)
    return ReferenceValues(measurer.mrtd, ordered)


def read_boot_files(artifacts: Path, names: Mapping[str, str]) -> BootFiles:
    """Firmware, kernel, initrd and command line out of a directory of artefacts; `names` gives their file names by
    component. DocumentError for one that cannot be read."""
    return boot_files(lambda name: read_document(artifacts / name), names)


def boot_files(read: Callable[[str], bytes], names: Mapping[str, str]) -> BootFiles:
    """The same by a function that reads the artefact of a name."""
    return BootFiles(
        firmware=read(names["firmware"]),
        kernel=read(names["kernel"]),
        initrd=read(names["initrd"]),
        command_line=parse_command_line(read(COMMAND_LINE), what=COMMAND_LINE),
    )


def parse_command_line(data: bytes, *, what: str) -> str:
    """A kernel command line as it is given to the VMM: printable ASCII, without a newline. DocumentError otherwise."""
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{what}: byte {error.start} is not ASCII") from error
    if not text or not text.isprintable():
        raise DocumentError(f"{what}: {text[:80]!r} is not a command line: wanted printable text without a newline")
    return text


def _read_acpi(profiles: Sequence[LaunchProfile], reader: AcpiReader, progress: Progress) -> list[AcpiDigests]:
    progress.start(_TASK, len(profiles))

    def read(profile: LaunchProfile) -> AcpiDigests:
        shape = MachineShape(profile.vmm, profile.vcpus, profile.memory, edk2=profile.firmware.edk2)
        digests = checked_acpi_digests(profile, reader.read(shape))
        progress.advance(_TASK, 1)
        return digests

    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="acpi") as pool:
        digests = list(pool.map(read, profiles))
    progress.finish(_TASK, f"{len(profiles)} shapes")
    return digests


_TASK = "ACPI tables"
