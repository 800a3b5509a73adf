"""Generated ACPI tables against tables and digests of real TDs (`acpi.md` 2.8, 10.5, 11.3)."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from builder.measure.acpi.blobs import AcpiBlobs
from builder.measure.acpi.generator import generate_acpi
from builder.measure.acpi.loader import blobs_for
from builder.measure.acpi.machine import AcpiMachine, acpi_machine, dstack_machine
from builder.model.recipe import VmmSpec

MIB, GIB = 1 << 20, 1 << 30


def oasis(vcpus: int, memory: int) -> AcpiMachine:
    """QEMU-TDX 8 with a PIC; one slot fewer than dstack's machine (`acpi.md` 11.3)."""
    return dstack_machine("8.2.2", vcpus=vcpus, memory=memory, pic=True, root_verity=False)


def live_td(vectors: Path) -> tuple[bytes, AcpiMachine]:
    folder = vectors / "acpi/fortanix-runtime-capture"
    config = json.loads((folder / "metadata.json").read_bytes())["boot_config"]
    options = dict(text.split("=", 1) for text in config["qemu"]["globals"])
    hole = int(options["q35-pcihost.pci-hole64-size"].removesuffix("G")) * GIB
    vmm = VmmSpec(
        "qemu", "10.2.1", config["qemu"]["machine"], config["qemu"]["cpu"], tuple(config["qemu"]["devices"]), hole
    )
    memory = int(config["memory"].removesuffix("M")) * MIB
    machine = acpi_machine(vmm, vcpus=config["cpus"], memory=memory, edk2="202502")
    return (folder / "acpi_tables.bin").read_bytes(), machine


def test_the_tables_are_those_captured_in_a_live_td(vectors: Path) -> None:
    captured, machine = live_td(vectors)
    assert machine.hpet
    assert generate_acpi(machine) == blobs_for(captured)


@pytest.mark.parametrize("vcpus", [1, 2])
def test_the_tables_are_the_templates_of_oasis(vectors: Path, vcpus: int) -> None:
    template = gzip.decompress((vectors / f"acpi/oasis/template_qemu_cpu{vcpus}.bin.gz").read_bytes())
    generated = generate_acpi(oasis(vcpus, 1 * GIB)).tables
    assert without_low_memory(generated) == without_low_memory(template)


def without_low_memory(tables: bytes) -> bytes:
    """The two dwords of the DSDT that the memory decides (`acpi.md` 11.3)."""
    length = int.from_bytes(tables[68:72], "little") - 684
    return tables[: length - 12] + tables[length - 8 : length] + tables[length + 4 :]


def test_the_digests_of_oasis_are_reproduced(vectors: Path) -> None:
    rows = json.loads((vectors / "tdhob/oasis_subset.json").read_bytes())["acpi"]
    assert len(rows) == 6
    for row in rows:
        digests = generate_acpi(oasis(row["cpus"], row["memory_mib"] * MIB)).digests()
        assert (digests.loader, digests.rsdp, digests.tables) == (row["loader"], row["rsdp"], row["tables"])


def test_the_blobs_are_those_of_a_dstack_td(vectors: Path) -> None:
    folder = vectors / "pairs/dstack-1cpu-1g"
    names = ("acpi_loader.bin", "acpi_rsdp.bin", "acpi_tables.bin")
    assert generate_acpi(oasis(1, GIB)) == AcpiBlobs(*((folder / name).read_bytes() for name in names))


def test_another_machine_has_not_the_digests_of_the_same_td(vectors: Path) -> None:
    logged = (vectors / "pairs/dstack-1cpu-1g/ccel.bin").read_bytes()
    right, wrong = oasis(1, GIB), (oasis(2, GIB), oasis(1, 2 * GIB), dstack_machine("8.2.2", vcpus=1, memory=GIB))
    assert hashlib.sha384(generate_acpi(right).tables).digest() in logged
    assert not any(hashlib.sha384(generate_acpi(machine).tables).digest() in logged for machine in wrong)


def test_the_digests_are_in_the_log_of_a_dstack_quote(vectors: Path) -> None:
    evidence = json.loads((vectors / "pairs/dstack-2cpu-2g/tdx-lite-getquote.json").read_bytes())
    logged = {event["digest"] for event in json.loads(evidence["event_log"])}
    digests = generate_acpi(dstack_machine("8.2.2", vcpus=2, memory=2 * GIB, pic=True)).digests()
    assert {digests.loader, digests.rsdp, digests.tables} <= logged
    other = generate_acpi(dstack_machine("9.2.1", vcpus=2, memory=2 * GIB, pic=True)).digests()
    assert not {other.loader, other.rsdp, other.tables} & logged
