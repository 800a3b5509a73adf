"""The ACPI digests of launch profiles, in two ways that must agree: generated, and read from the stopped VMM."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from builder.errors import DocumentError, RegisterDiffersError
from builder.measure.acpi.blobs import AcpiBlobs
from builder.measure.acpi.generator import generate_acpi
from builder.measure.acpi.machine import acpi_machine
from builder.measure.predict import checked_acpi_digests
from builder.model.launch_profile import LaunchProfile
from builder.model.reference_values import AcpiDigests
from builder.ports import AcpiReader, MachineShape, Progress

GENERATED, READ, GIVEN = "generated", "read", "given"
_TASK = "ACPI tables"
_OTHER_WAYS = "(or name a recipe whose pinned QEMU reads the tables, or give them with --acpi)"


def acpi_digests(profiles: Sequence[LaunchProfile], reader: AcpiReader | None, progress: Progress) -> list[AcpiDigests]:
    """Digests for every profile, with their sources; two shapes are read at a time.

    DocumentError for a machine that neither way covers; RegisterDiffersError if both do and do not agree.
    """
    progress.start(_TASK, len(profiles))

    def find(profile: LaunchProfile) -> AcpiDigests:
        found = _digests(profile, reader)
        progress.advance(_TASK, 1)
        return found

    if reader is None:
        digests = [find(profile) for profile in profiles]
    else:
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="acpi") as pool:
            digests = list(pool.map(find, profiles))
    progress.finish(_TASK, f"{len(profiles)} shapes")
    return digests


def generated_digests(profile: LaunchProfile) -> AcpiDigests | DocumentError:
    """Digests of generated tables, or why the generator does not cover the machine."""
    try:
        machine = acpi_machine(profile.vmm, vcpus=profile.vcpus, memory=profile.memory, edk2=profile.firmware.edk2)
        blobs = generate_acpi(machine)
    except DocumentError as error:
        return error
    return generated(profile, blobs)


def generated(profile: LaunchProfile, blobs: AcpiBlobs) -> AcpiDigests:
    """Digests of blobs that were generated for the profile's machine."""
    return replace(checked_acpi_digests(profile, blobs), sources=(GENERATED,))


def given_digests(profile: LaunchProfile, blobs: AcpiBlobs) -> AcpiDigests:
    """Digests of tables that whoever asks gives: only their form and CPU count are checked."""
    return replace(checked_acpi_digests(profile, blobs), sources=(GIVEN,))


def same_tables(one: AcpiDigests, other: AcpiDigests) -> bool:
    """Whether both are digests of the same tables, however they were found."""
    return replace(one, sources=()) == replace(other, sources=())


def _digests(profile: LaunchProfile, reader: AcpiReader | None) -> AcpiDigests:
    own = generated_digests(profile)
    if reader is None:
        if isinstance(own, DocumentError):
            raise DocumentError(
                f"profile {profile.name!r}: {own.message}", hint=" ".join(filter(None, (own.hint, _OTHER_WAYS)))
            )
        return own
    shape = MachineShape(profile.vmm, profile.vcpus, profile.memory, edk2=profile.firmware.edk2)
    read = replace(checked_acpi_digests(profile, reader.read(shape)), sources=(READ,))
    return read if isinstance(own, DocumentError) else _agreed(profile, own, read)


def _agreed(profile: LaunchProfile, own: AcpiDigests, read: AcpiDigests) -> AcpiDigests:
    if not same_tables(own, read):
        raise RegisterDiffersError(
            f"profile {profile.name!r}: the ACPI tables read from {profile.vmm.name} {profile.vmm.version} are not "
            f"those generated: SHA-384 {read.tables[:16]}... and {own.tables[:16]}...",
            hint="the VMM is another build than its version says, or the generator is wrong; please report the machine",
        )
    return replace(read, sources=(*own.sources, *read.sources))
