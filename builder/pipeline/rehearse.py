"""`rehearse`: boot an image under emulation, and compare every event that was measured with the prediction.

What a rehearsal shows is that this firmware and kernel measure what the prediction says, on a machine that is the TD's
but for a TPM. What it cannot show: TD HOB, variable store and MRTD, which only a TD has, and that the firmware's driver
for TDs extends the same digests as its driver for TPMs (`measurement.md` 10.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.components.disk_image import COMPONENT as DISK_COMPONENT
from builder.components.disk_image import DISK
from builder.encoding.canonical_json import encode_readable
from builder.errors import DocumentError, ExitStatus, NotProvenError, RegisterDiffersError
from builder.measure.rehearsal import rehearsal_of
from builder.model.launch_profile import BootFiles
from builder.model.reference_values import Prediction, ReferenceValues
from builder.model.rehearsal import Rehearsal, rehearsal_document
from builder.pipeline.boot_disk import EspOpener, disk_reader
from builder.pipeline.files import read_document
from builder.pipeline.legs import ARTIFACTS, Leg
from builder.pipeline.measure import COMMAND_LINE, parse_command_line
from builder.ports import BootEmulator, DirectBoot, MachineShape, Progress

DIRECTORY = "rehearsal"
DOCUMENT = "rehearsal.json"
SERIAL_LOG = "serial.log"
DEFAULT_LIMIT = 300.0

_TASK = "rehearsal"


@dataclass(frozen=True)
class BootPaths:
    """The files of a boot, on disk, and the command line as the VMM gets it; without a kernel a boot from `disk`, which
    gets no initrd and no command line either."""

    firmware: Path
    kernel: Path | None
    initrd: Path | None
    disk: Path | None
    command_line: str


@dataclass(frozen=True)
class Stage:
    """How to rehearse: with which emulator, until when (`DirectBoot`), and where serial log and result are kept."""

    emulator: BootEmulator
    directory: Path
    until: str | None = None
    limit: float = DEFAULT_LIMIT


def rehearse(prediction: Prediction, files: BootPaths, stage: Stage, progress: Progress) -> Rehearsal:
    """Boot these files on the machine of the prediction, and compare.

    Whatever the outcome, the serial log is kept. NotProvenError if the log of the boot cannot be had or is not whole;
    DocumentError for a machine that cannot be rehearsed, MissingError for an absent emulator. A difference is no error
    here, but a Rehearsal that says so (`require_rehearsed`).
    """
    profile = prediction.profile
    stage.directory.mkdir(parents=True, exist_ok=True)
    for name in (DOCUMENT, SERIAL_LOG):
        (stage.directory / name).unlink(missing_ok=True)  # of an earlier run, about another boot
    progress.start(_TASK)
    observation = stage.emulator.boot(
        DirectBoot(
            shape=MachineShape(profile.vmm, profile.vcpus, profile.memory, edk2=profile.firmware.edk2),
            firmware=files.firmware,
            kernel=files.kernel,
            initrd=files.initrd,
            disk=files.disk,
            command_line=files.command_line,
            until=stage.until,
            limit=stage.limit,
            serial_log=stage.directory / SERIAL_LOG,
        )
    )
    rehearsal = rehearsal_of(prediction, observation, text_wanted=stage.until is not None)
    (stage.directory / DOCUMENT).write_bytes(encode_readable(rehearsal_document(rehearsal)))
    progress.finish(_TASK, f"{profile.name}: {rehearsal.end}")
    return rehearsal


def rehearse_leg(leg: Leg, values: ReferenceValues, stage: Stage, progress: Progress) -> Rehearsal:
    """Rehearse a leg's artefacts on the smallest machine that there are values for.

    Errors as in `rehearse`, and those of `require_rehearsed`: a leg passes, or it is an error.
    """
    names = [(artifact.component, artifact.name) for artifact in leg.record.artifacts]
    rehearsal = rehearse(smallest_machine(values), boot_paths(leg.directory / ARTIFACTS, names), stage, progress)
    require_rehearsed(rehearsal, stage.directory)
    return rehearsal


def boot_paths(directory: Path, artifacts: Sequence[tuple[str, str]]) -> BootPaths:
    """What to boot out of a directory of artefacts, given as component and file name.

    A disk image is booted by itself. Otherwise the disk is what the guest OS is besides the command line; a guest need
    not have one. DocumentError unless there is one of each of the others.
    """

    def path(component: str) -> Path | None:
        found = [name for kind, name in artifacts if kind == component and name != COMMAND_LINE]
        if len(found) > 1:
            raise DocumentError(f"{' and '.join(found)} are the {component}, wanted one: it is booted")
        return directory / found[0] if found else None

    firmware, kernel = path("firmware"), path("kernel")
    if firmware is not None and (DISK_COMPONENT, DISK) in artifacts:
        return BootPaths(firmware, None, None, directory / DISK, "")
    if firmware is None or kernel is None:
        raise DocumentError(f"{directory}: no {'kernel' if firmware else 'firmware'} among the artefacts to boot")
    text = parse_command_line(read_document(directory / COMMAND_LINE), what=str(directory / COMMAND_LINE))
    return BootPaths(firmware, kernel, path("initrd"), path("guest_os"), text)


def read_boot_paths(paths: BootPaths, *, open_esp: EspOpener | None = None) -> BootFiles:
    """The bytes of what is measured. DocumentError for a file that cannot be read, MissingError for a boot from a disk
    without `open_esp`."""
    if paths.kernel is None:
        if paths.disk is None:
            raise DocumentError("nothing to boot: neither a kernel nor a disk", hint="give one of them")
        found = disk_reader(paths.disk.parent, open_esp)(paths.disk.name)
        return BootFiles(read_document(paths.firmware), found.loader, None, "", found.disk)
    return BootFiles(
        firmware=read_document(paths.firmware),
        kernel=read_document(paths.kernel),
        initrd=read_document(paths.initrd) if paths.initrd else None,
        command_line=paths.command_line,
    )


def smallest_machine(values: ReferenceValues) -> Prediction:
    """The prediction for the least memory, then the fewest vCPUs: it boots in the least time."""
    return min(values.predictions, key=lambda each: (each.profile.memory, each.profile.vcpus))


def require_rehearsed(rehearsal: Rehearsal, directory: Path) -> None:
    """RegisterDiffersError for a boot that measured something else, NotProvenError for one that shows too little."""
    if rehearsal.status is ExitStatus.OK:
        return
    kept = f"every event is in {directory / DOCUMENT}, what the guest said in {directory / SERIAL_LOG}"
    if rehearsal.status is ExitStatus.REGISTER_DIFFERS:
        raise RegisterDiffersError(f"rehearsal of {rehearsal.profile}: {first_failure(rehearsal)}", hint=kept)
    raise NotProvenError(f"rehearsal of {rehearsal.profile}: {shortfall(rehearsal)}", hint=kept)


def first_failure(rehearsal: Rehearsal) -> str:
    """One sentence about the first event that was not measured as predicted."""
    event = rehearsal.failures[0]
    others = len(rehearsal.failures) - 1
    return (
        f"{event.register or event.note}: {event.type_name} {event.name!r} {event.verdict}: predicted "
        f"{event.predicted or 'nothing'}, measured {event.observed or 'nothing'}"
        + (f"; {event.note}" if event.note and event.register else "")
        + (f"; and {others} more" if others else "")
    )


def shortfall(rehearsal: Rehearsal) -> str:
    """One sentence about what keeps a rehearsal without a difference from proving anything."""
    if not rehearsal.left_boot_services:
        return f"the guest had not left boot services when the boot ended ({rehearsal.end})"
    if rehearsal.ready is False:
        return f"the text that was waited for had not come when the boot ended ({rehearsal.end})"
    return "no event was compared"
