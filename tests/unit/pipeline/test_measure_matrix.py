"""ACPI tables in two ways that must agree, in one where only one is there, and given."""

from dataclasses import dataclass, replace

import pytest

from builder.errors import DocumentError, ExitStatus, RegisterDiffersError
from builder.measure import AcpiBlobs, blobs_for
from builder.measure.acpi.generator import generate_acpi
from builder.measure.acpi.machine import acpi_machine
from builder.measure.firmware.efi_variables import SecureBootKeys
from builder.measure.firmware.smbios import SmbiosStructure
from builder.model.recipe import VmmSpec
from builder.pipeline.measure import (
    FirmwareInputs,
    LaunchMatrix,
    recomputed_values,
    reference_values,
    values_with_tables,
)
from builder.ports import MachineShape
from tests.fakes.boot_files import acpi_tables
from tests.fakes.silent_progress import SilentProgress
from tests.fakes.small_release import FILES

GIB = 1 << 30
COVERED = VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off,hpet=off", "Skylake-Server,phys-bits=46", ("serial",))
OTHER = replace(COVERED, cpu="host")
MATRIX = LaunchMatrix(COVERED, "202502", (1, 2), (GIB, 2 * GIB))
UNCOVERED = replace(MATRIX, vmm=OTHER)
ONE = replace(MATRIX, vcpus=(2,), memory=(2 * GIB,))


@dataclass(frozen=True)
class GeneratingReader:
    """A VMM whose tables are exactly those of the specification."""

    edk2: str = "202502"

    def read(self, shape: MachineShape) -> AcpiBlobs:
        machine = acpi_machine(COVERED, vcpus=shape.vcpus, memory=shape.memory, edk2=self.edk2)
        return generate_acpi(machine)


class OtherReader:
    """A VMM that builds other tables."""

    def read(self, shape: MachineShape) -> AcpiBlobs:
        return blobs_for(acpi_tables(shape.vcpus))


def sources(matrix: LaunchMatrix, reader: GeneratingReader | OtherReader | None) -> set[tuple[str, ...]]:
    values = reference_values(FILES, matrix, reader, SilentProgress())
    return {each.acpi.sources for each in values.predictions if each.acpi is not None}


def test_without_a_vmm_tables_are_generated() -> None:
    assert sources(MATRIX, None) == {("generated",)}


def test_two_ways_that_agree_are_both_named() -> None:
    assert sources(MATRIX, GeneratingReader()) == {("generated", "read")}


def test_both_ways_lead_to_the_same_registers() -> None:
    generated = reference_values(FILES, MATRIX, None, SilentProgress())
    both = reference_values(FILES, MATRIX, GeneratingReader(), SilentProgress())
    assert [each.registers for each in generated.predictions] == [each.registers for each in both.predictions]


def test_two_ways_that_do_not_agree_are_no_prediction() -> None:
    with pytest.raises(RegisterDiffersError, match="are not those generated") as caught:
        reference_values(FILES, ONE, OtherReader(), SilentProgress())
    assert caught.value.status is ExitStatus.REGISTER_DIFFERS


def test_a_machine_that_is_not_generated_is_read_only() -> None:
    assert sources(UNCOVERED, OtherReader()) == {("read",)}


def test_a_machine_that_neither_way_covers_is_refused() -> None:
    with pytest.raises(DocumentError, match="46 physical address bits") as caught:
        reference_values(FILES, UNCOVERED, None, SilentProgress())
    assert "--acpi" in str(caught.value.hint)


@pytest.mark.parametrize("reader", [None, GeneratingReader()], ids=["generated", "both"])
def test_progress_counts_every_shape(reader: GeneratingReader | None) -> None:
    progress = SilentProgress()
    values = reference_values(FILES, MATRIX, reader, progress)
    assert progress.totals == progress.done == {"ACPI tables": len(values.predictions)}
    assert progress.finished == ["ACPI tables"]


def test_given_tables_are_compared_with_the_generated_ones() -> None:
    own = GeneratingReader().read(MachineShape(COVERED, 2, 2 * GIB, edk2="202502"))
    other = blobs_for(acpi_tables(2))
    assert values_with_tables(FILES, ONE, own).generated is True
    assert values_with_tables(FILES, ONE, other).generated is False
    assert values_with_tables(FILES, replace(ONE, vmm=OTHER), other).generated is None


def test_given_tables_are_of_one_machine() -> None:
    with pytest.raises(DocumentError, match="one machine for 4"):
        values_with_tables(FILES, MATRIX, blobs_for(acpi_tables(2)))


def test_values_are_recomputed_with_generated_tables_and_keep_their_sources() -> None:
    published = reference_values(FILES, MATRIX, GeneratingReader(), SilentProgress())
    assert recomputed_values(FILES, published) == published


def test_published_tables_that_are_not_the_generated_ones_are_noticed() -> None:
    published = values_with_tables(FILES, ONE, blobs_for(acpi_tables(2))).values
    assert recomputed_values(FILES, published) != published


def test_published_tables_of_a_machine_that_is_not_generated_are_taken_as_they_are() -> None:
    published = reference_values(FILES, UNCOVERED, OtherReader(), SilentProgress())
    assert recomputed_values(FILES, published) == published


NEW = replace(ONE, edk2="202505")
SMBIOS = SmbiosStructure(0, 0, bytes(20), (b"vendor",)).encode() + bytes.fromhex("7f04007f0000")


def test_published_smbios_tables_are_taken_as_they_are() -> None:
    """They are those of the VMM, which no file shows; everything else is computed anew."""
    published = reference_values(FILES, NEW, None, SilentProgress(), inputs=FirmwareInputs(smbios=SMBIOS))
    assert published.predictions[0].registers.rtmr0 is not None
    assert recomputed_values(FILES, published) == published


def test_a_register_that_was_open_stays_open() -> None:
    published = reference_values(FILES, NEW, None, SilentProgress())
    assert published.predictions[0].registers.rtmr0 is None
    assert recomputed_values(FILES, published) == published


@pytest.mark.parametrize("matrix", [ONE, replace(NEW, vcpus=(1, 2))], ids=["old firmware", "two machines"])
def test_smbios_tables_are_of_one_machine_with_firmware_that_measures_them(matrix: LaunchMatrix) -> None:
    with pytest.raises(DocumentError, match="SMBIOS tables"):
        reference_values(FILES, matrix, None, SilentProgress(), inputs=FirmwareInputs(smbios=SMBIOS))


def test_keys_that_the_firmware_does_not_use_are_refused() -> None:
    with pytest.raises(DocumentError, match="built without secure boot"):
        values_with_tables(FILES, ONE, blobs_for(acpi_tables(2)), inputs=FirmwareInputs(keys=SecureBootKeys(pk=b"key")))


def test_a_profile_without_tables_on_a_machine_that_is_not_generated_is_refused() -> None:
    published = reference_values(FILES, UNCOVERED, OtherReader(), SilentProgress())
    bare = replace(published, predictions=tuple(replace(each, acpi=None) for each in published.predictions))
    with pytest.raises(DocumentError, match="no ACPI digests are published"):
        recomputed_values(FILES, bare)
