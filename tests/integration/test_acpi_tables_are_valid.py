"""Generated ACPI tables, read by ACPICA's own disassembler: what it cannot read, no guest could."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.backends import process
from builder.backends.leg_arguments import ISOLATION
from builder.errors import BuildFailedError
from builder.measure.acpi.generator import generate_acpi
from builder.measure.acpi.machine import AcpiMachine, acpi_machine, dstack_machine
from builder.model.recipe import VmmSpec
from tests.integration.debian import debian_root

pytestmark = pytest.mark.network

GIB = 1 << 30
EVERYTHING = VmmSpec(
    name="qemu",
    version="11.1.3",
    machine="q35,smm=on,pic=on,hpet=on",
    cpu="Skylake-Server,phys-bits=46",
    devices=("virtio-net-pci", "pcie-root-port,id=p1", "virtio-rng-pci,bus=p1", "pcie-root-port,chassis=2", "serial"),
    pci_hole64=1 << 40,
    numa_nodes=2,
)
MACHINES = {
    "smallest": dstack_machine("8.2.2", vcpus=1, memory=2 * GIB),
    "9.2": dstack_machine("9.2.1", vcpus=4, memory=GIB, nics=3),
    "hotplug off": dstack_machine("10.0.2", vcpus=16, memory=4 * GIB, hotplug_off=True),
    "expander": dstack_machine(
        "11.0.0", vcpus=2, memory=64 * GIB, gpus=2, nvswitches=2, hugepages=True, bridges_programmed=False
    ),
    "everything": acpi_machine(EVERYTHING, vcpus=8, memory=6 * GIB, edk2="202502"),
    "many vCPUs": dstack_machine("11.1.0", vcpus=300, memory=4 * GIB),
}


@pytest.fixture(scope="session")
def acpica_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return debian_root(tmp_path_factory, "acpica", suites=["trixie"], packages=["acpica-tools"])


def iasl(root: Path, directory: Path, *arguments: str) -> str:
    """What iasl says; the files are in `directory`."""
    mounts = ("--ro-bind", str(root), "/", "--bind", str(directory), "/mnt", "--chdir", "/mnt")
    done = process.run(("bwrap", *ISOLATION, *mounts, "--", "/usr/bin/iasl", *arguments), environment={}, timeout=120)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def tables_of(machine: AcpiMachine) -> Iterator[tuple[str, bytes]]:
    """Every table with a header, by its signature, with the checksum that the guest fills in."""
    blob = generate_acpi(machine).tables
    offset = 64  # after the FACS
    while blob[offset : offset + 4].strip(b"\0"):
        signature, size = struct.unpack_from("<4sI", blob, offset)
        table = bytearray(blob[offset : offset + size])
        table[9] = -sum(table) & 0xFF
        yield signature.decode("ascii"), bytes(table)
        offset += size


@pytest.mark.parametrize("name", MACHINES)
def test_every_table_is_disassembled_without_an_error(acpica_root: Path, tmp_path: Path, name: str) -> None:
    tables = dict(tables_of(MACHINES[name]))
    assert {"DSDT", "FACP", "APIC", "MCFG", "WAET", "RSDT"} <= set(tables)
    for signature, table in tables.items():
        (tmp_path / f"{signature}.aml").write_bytes(table)
    said = iasl(acpica_root, tmp_path, "-d", *(f"{signature}.aml" for signature in tables))
    assert "error" not in said.lower(), said
    assert "warning" not in said.lower(), said
    for signature in tables:
        text = (tmp_path / f"{signature}.dsl").read_text()
        assert not [line for line in text.splitlines() if "error" in line.lower() or "unknown" in line.lower()]
    said = iasl(acpica_root, tmp_path, "-p", "again", "DSDT.dsl")
    assert "Compilation successful. 0 Errors" in said, (
        "every name has to be that of something, and every call to fit it"
    )


def test_the_disassembler_does_not_read_a_broken_table(acpica_root: Path, tmp_path: Path) -> None:
    """Else the test above could not fail."""
    (dsdt,) = (table for signature, table in tables_of(MACHINES["smallest"]) if signature == "DSDT")
    (tmp_path / "DSDT.aml").write_bytes(dsdt.replace(b"\x5b\x82", b"\x1f\x82", 1))
    with pytest.raises(BuildFailedError, match="Unknown opcode 0x1F"):
        iasl(acpica_root, tmp_path, "-d", "DSDT.aml")
