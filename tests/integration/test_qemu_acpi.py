"""The ACPI tables of a real QEMU 10.0.2 from a pinned root, against a live TD and published digests."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from builder.backends.qemu import QemuAcpiReader
from builder.backends.qemu_firmware import mmconfig_base, place_window, program_chipset, read_acpi_files, scan_root_bus
from builder.errors import DocumentError
from builder.measure.acpi_loader import blobs_for
from builder.model.recipe import VmmSpec
from builder.ports import MachineShape

pytestmark = pytest.mark.network

GIB = 1 << 30
CAPTURE = Path(__file__).parents[3] / "shared/vectors/acpi/fortanix-runtime-capture/acpi_tables.bin"


@pytest.fixture(scope="session")
def reader(vmm_root: Path) -> QemuAcpiReader:
    return QemuAcpiReader(vmm_root)


def machine_with(
    *devices: str, vcpus: int = 1, memory: int = 2 * GIB, options: str = "hpet=off,smm=off,pic=off"
) -> MachineShape:
    machine = f"q35,kernel_irqchip=split,{options}"
    vmm = VmmSpec("qemu", "10.0.2", machine, "Skylake-Server,phys-bits=46", devices)
    return MachineShape(vmm=vmm, vcpus=vcpus, memory=memory, edk2="202502")


def dstack(
    vcpus: int,
    memory: int,
    *,
    nics: int = 1,
    volumes: int = 0,
    verity: bool = True,
    ports: int = 0,
    pic: str = "off",
) -> MachineShape:
    """dstack's machine (`acpi.md` 7): data disk, volumes, NICs, vsock, 9p, root disk, then root ports with a device."""
    devices = ["virtio-blk-pci"] * (1 + volumes) + ["virtio-net-pci"] * nics + ["vhost-vsock-pci", "virtio-9p-pci"]
    devices += ["virtio-blk-pci"] if verity else []
    for port in range(ports):
        devices += [f"pcie-root-port,id=port{port},chassis={port}", f"virtio-rng-pci,bus=port{port}"]
    options = f"hpet=off,smm=off,pic={pic}"
    return machine_with(*devices, "serial", vcpus=vcpus, memory=memory, options=options)


# `vectors/acpi/fortanix-runtime-capture/metadata.json`, `acpi.md` 2.8
LIVE_TD = replace(
    machine_with(
        "e1000,bus=pcie.0,addr=0x2,romfile=",
        "vhost-vsock-pci,guest-cid=99",
        *(f"virtio-scsi-pci,id=scsi{index},disable-legacy=on,iommu_platform=true" for index in range(3)),
        vcpus=8,
        memory=16 * GIB,
        options="memory-backend=mem0,smm=off,pic=off",
    ),
    pci_hole64=4096 * GIB,
)


@pytest.fixture
def capture() -> bytes:
    if not CAPTURE.exists():
        pytest.skip(f"{CAPTURE} is not there: the shared vectors are missing")
    return CAPTURE.read_bytes()


def test_the_tables_are_those_that_a_live_td_had(reader: QemuAcpiReader, capture: bytes) -> None:
    blobs = reader.read(LIVE_TD)
    assert blobs.tables == capture
    assert blobs == blobs_for(capture), "loader and RSDP follow from the tables"


def test_without_placing_a_bar_six_bytes_of_the_pci_window_differ(reader: QemuAcpiReader, capture: bytes) -> None:
    with reader.stopped_machine(LIVE_TD) as qtest:
        program_chipset(qtest, 0xE0000000)
        tables = read_acpi_files(qtest).tables
    assert sum(found != wanted for found, wanted in zip(tables, capture, strict=True)) == 6


def test_an_unprogrammed_machine_has_other_tables(reader: QemuAcpiReader, capture: bytes) -> None:
    with reader.stopped_machine(LIVE_TD) as qtest:
        assert read_acpi_files(qtest).tables != capture
    assert reader.read(replace(LIVE_TD, edk2="202302")).tables != capture


@pytest.mark.parametrize(
    "other",
    [
        replace(LIVE_TD, vmm=replace(LIVE_TD.vmm, devices=(*LIVE_TD.vmm.devices, "serial"))),
        replace(LIVE_TD, vmm=replace(LIVE_TD.vmm, devices=LIVE_TD.vmm.devices[:-1])),
        replace(LIVE_TD, vmm=replace(LIVE_TD.vmm, machine=LIVE_TD.vmm.machine.replace("smm=off", "smm=on"))),
        replace(LIVE_TD, vmm=replace(LIVE_TD.vmm, machine=LIVE_TD.vmm.machine.replace("pic=off", "pic=on"))),
        replace(LIVE_TD, vmm=replace(LIVE_TD.vmm, machine=LIVE_TD.vmm.machine + ",hpet=off")),
        replace(LIVE_TD, vcpus=7),
        replace(LIVE_TD, memory=GIB),
        replace(LIVE_TD, pci_hole64=2048 * GIB),
        replace(LIVE_TD, bridge_hotplug=False),
    ],
    ids=["serial", "fewer devices", "smm", "pic", "hpet", "vcpus", "memory", "hole", "hotplug"],
)
def test_every_part_of_a_shape_shows_in_the_tables(reader: QemuAcpiReader, capture: bytes, other: MachineShape) -> None:
    assert reader.read(other).tables != capture


# `acpi.md` 10.3 (10.0.0) and 10.4 (QEMU 10.0.2)
PUBLISHED = {
    "d0410a8abdbba6d86a19a2eefd491376727e4e2d80c54349d7f30deca14ca6e1": dstack(1, 2 * GIB),
    "df462c63792f4946c00a8214f0bb02455dc4ae96e9dbb0fda16cd87f342fe283": dstack(8, 2815 << 20, pic="on"),
    "62383ba5f8774c17d67ba2234fc53574a8ff6d3f7539a271966e4c96a0b22299": dstack(16, 4 * GIB, nics=2, volumes=2),
    "de425ec8933269733ffa38111013c9926ca2c9f129bb7b3c711a9ed1d40d16e6": replace(
        dstack(64, 8 * GIB, verity=False), bridge_hotplug=False
    ),
    "58bdb2e3a34e4b0650a70decf896152abf00953fe42386e8490d4e6c037c5cc0": dstack(300, 4 * GIB),
}


@pytest.mark.parametrize("digest", PUBLISHED, ids=lambda digest: digest[:8])
def test_published_digests_are_reproduced(reader: QemuAcpiReader, digest: str) -> None:
    blobs = reader.read(PUBLISHED[digest])
    assert hashlib.sha256(blobs.tables).hexdigest() == digest
    assert blobs == blobs_for(blobs.tables)


# `acpi.md` 10.4: these rows have bridges as they are after reset, which no firmware leaves them
UNPROGRAMMED = {
    "826e60cd89135744751e1711a795787ac4c813727c445573f44680ea206a4cc4": dstack(2, 2 * GIB, ports=1),
    "95e7b197e1d5bcb7156f8ff55c435f3f1a6ea998458c2efd1dbdc7299cc54279": dstack(2, 2 * GIB, ports=2),
    "a0a6625ea8a054e2c89fd6207a09129e043ea0b0af83ecab33c2a150f913ea86": dstack(2, 2 * GIB, ports=12),
    "0c64adcd4060b0470d18578d74eb18c47a680dc069e55e8767a176cef5566d02": replace(
        dstack(16, 4 * GIB, ports=1), bridge_hotplug=False
    ),
}


@pytest.mark.parametrize("digest", UNPROGRAMMED, ids=lambda digest: digest[:8])
def test_published_digests_of_unprogrammed_bridges_are_reproduced(reader: QemuAcpiReader, digest: str) -> None:
    with reader.stopped_machine(UNPROGRAMMED[digest]) as qtest:
        program_chipset(qtest, mmconfig_base("202502"))
        place_window(qtest, replace(scan_root_bus(qtest), root_ports=()), None)
        tables = read_acpi_files(qtest).tables
    assert hashlib.sha256(tables).hexdigest() == digest


@pytest.mark.parametrize("machine", UNPROGRAMMED.values(), ids=lambda machine: f"{len(machine.vmm.devices)} devices")
def test_bridges_that_firmware_would_program_otherwise_are_not_published(
    reader: QemuAcpiReader, machine: MachineShape
) -> None:
    with pytest.raises(DocumentError, match="root ports with a 64-bit PCI hole of 32 GiB"):
        reader.read(machine)


def test_a_root_port_with_room_for_its_window_is_read(reader: QemuAcpiReader) -> None:
    machine = replace(dstack(2, 2 * GIB, ports=1), pci_hole64=64 * GIB)
    assert reader.read(machine).tables != reader.read(dstack(2, 2 * GIB)).tables


def test_shapes_read_side_by_side_are_those_read_one_by_one(reader: QemuAcpiReader) -> None:
    shapes = [dstack(vcpus, memory * GIB) for vcpus in (1, 2, 4) for memory in (1, 2)]
    with ThreadPoolExecutor(max_workers=4) as pool:
        together = list(pool.map(reader.read, shapes))
    assert together == [reader.read(shape) for shape in shapes]
    assert len(set(together)) == len(shapes), "no two shapes have the same tables"


def test_memory_far_beyond_the_host_is_no_problem(reader: QemuAcpiReader) -> None:
    assert reader.read(dstack(2, 1024 * GIB)).tables == reader.read(dstack(2, 4 * GIB)).tables


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("virtio-nope-pci", "'virtio-nope-pci' is not a valid device model name"),
        ("virtio-net-pci,netdev=n0", "can't find value 'n0'"),
        ("virtio-rng-pci,addr=40", "doesn't take value '40'"),
        ("vfio-pci,host=00:00.0", "vfio"),
    ],
)
def test_a_device_that_qemu_refuses_is_an_error_in_its_own_words(
    reader: QemuAcpiReader, device: str, message: str
) -> None:
    with pytest.raises(DocumentError, match=f"QEMU refuses this machine: .*{message}"):
        reader.read(machine_with(device))


@pytest.mark.parametrize("device", ["pxb-pcie,id=p,bus_nr=5", "pcie-pci-bridge", "vmgenid,guid=auto"])
def test_devices_whose_tables_no_rule_covers_are_refused(reader: QemuAcpiReader, device: str) -> None:
    with pytest.raises(DocumentError):
        reader.read(machine_with("virtio-rng-pci", device))


def test_a_machine_without_acpi_has_no_tables(reader: QemuAcpiReader) -> None:
    with pytest.raises(DocumentError, match="no etc/table-loader"):
        reader.read(machine_with("virtio-rng-pci", options="acpi=off,smm=off,pic=off"))


def test_another_version_than_the_profile_says_is_refused(reader: QemuAcpiReader) -> None:
    machine = dstack(1, 2 * GIB)
    with pytest.raises(DocumentError, match=r"version 10\.0\.2, the profile says 10\.0\.3"):
        reader.read(replace(machine, vmm=replace(machine.vmm, version="10.0.3")))
