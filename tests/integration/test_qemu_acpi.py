"""The ACPI tables of real QEMUs from pinned roots, against a live TD and published digests.

What a firmware programs into bridges is compared with real boots in test_qemu_pci.py.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.backends.emulator.qemu import QemuAcpiReader
from builder.backends.emulator.qemu_firmware import program_chipset, read_acpi_files
from builder.errors import DocumentError
from builder.measure.acpi.loader import blobs_for
from builder.model.digest import sha256_hex
from builder.model.recipe import VmmSpec
from builder.ports import MachineShape

pytestmark = pytest.mark.network

GIB = 1 << 30
CAPTURE = Path(__file__).parents[3] / "shared/vectors/acpi/fortanix-runtime-capture/acpi_tables.bin"


@pytest.fixture(scope="session")
def reader(vmm_root: Path) -> QemuAcpiReader:
    return QemuAcpiReader(vmm_root)


@pytest.fixture(scope="session")
def reader_11(qemu_11_root: Path) -> QemuAcpiReader:
    return QemuAcpiReader(qemu_11_root)


def replaced(shape: MachineShape, **changes: Any) -> MachineShape:
    """The shape with another VMM."""
    return replace(shape, vmm=replace(shape.vmm, **changes))


def of_11(reader: QemuAcpiReader, shape: MachineShape) -> MachineShape:
    """The shape with the version that the archive has today; the digests are those of 11.1."""
    version = reader.version()
    if not version.startswith("11.1."):
        pytest.skip(f"the archive of this host has QEMU {version}, and digests are known of 11.1")
    return replaced(shape, version=version)


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
    gpus: int = 0,
    switches: int = 0,
    huge: bool = False,
    pic: str = "off",
) -> MachineShape:
    """dstack's machine (`acpi.md` 7): data disk, volumes, NICs, vsock, 9p, root disk, then ports with a device each."""
    kinds = ["virtio-blk-pci"] * (1 + volumes) + ["virtio-net-pci"] * nics + ["vhost-vsock-pci", "virtio-9p-pci"]
    devices = [f"{kind},bus=pcie.0" for kind in (*kinds, *["virtio-blk-pci"] * verity)]
    bus = "pxb" if huge and gpus else "pcie.0"
    devices += ["pxb-pcie,id=pxb,bus_nr=5,addr=0x10,numa_node=0,bus=pcie.0"] if bus == "pxb" else []
    for port, place in enumerate([bus] * gpus + ["pcie.0"] * switches):
        devices += [f"pcie-root-port,id=port{port},chassis={port},bus={place}", f"virtio-rng-pci,bus=port{port}"]
    options = f"hpet=off,smm=off,pic={pic}"
    shape = machine_with(*devices, "serial", vcpus=vcpus, memory=memory, options=options)
    return replaced(shape, numa_nodes=int(huge))


# `vectors/acpi/fortanix-runtime-capture/metadata.json`, `acpi.md` 2.8
LIVE_TD = replaced(
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
        replaced(LIVE_TD, devices=(*LIVE_TD.vmm.devices, "serial")),
        replaced(LIVE_TD, devices=LIVE_TD.vmm.devices[:-1]),
        replaced(LIVE_TD, machine=LIVE_TD.vmm.machine.replace("smm=off", "smm=on")),
        replaced(LIVE_TD, machine=LIVE_TD.vmm.machine.replace("pic=off", "pic=on")),
        replaced(LIVE_TD, machine=LIVE_TD.vmm.machine + ",hpet=off"),
        replace(LIVE_TD, vcpus=7),
        replace(LIVE_TD, memory=GIB),
        replaced(LIVE_TD, pci_hole64=2048 * GIB),
        replaced(LIVE_TD, bridge_hotplug=False),
    ],
    ids=["serial", "fewer devices", "smm", "pic", "hpet", "vcpus", "memory", "hole", "hotplug"],
)
def test_every_part_of_a_shape_shows_in_the_tables(reader: QemuAcpiReader, capture: bytes, other: MachineShape) -> None:
    assert reader.read(other).tables != capture


def without_hotplug(shape: MachineShape) -> MachineShape:
    return replaced(shape, bridge_hotplug=False)


# `acpi.md` 10.4: digests by QEMU 10.0.2 and 11.1.3, of machines without bridges
PUBLISHED = [
    (
        dstack(8, 2815 << 20, pic="on"),
        "df462c63792f4946c00a8214f0bb02455dc4ae96e9dbb0fda16cd87f342fe283",
        "f3cab0798b553aba0fc2933f744acc1c6d02d9e3b9fb782678e821f1b1ca1f2a",
    ),
    (
        dstack(16, 4 * GIB, nics=2, volumes=2),
        "62383ba5f8774c17d67ba2234fc53574a8ff6d3f7539a271966e4c96a0b22299",
        "e140af6a8c273c833d0ab1cacb48fdb56d87886c62172641aa14cf819c4486e5",
    ),
    (
        without_hotplug(dstack(64, 8 * GIB, verity=False)),
        "de425ec8933269733ffa38111013c9926ca2c9f129bb7b3c711a9ed1d40d16e6",
        "4fbd8e31335bea3c8ada3f27cc13e30133fe3dd34d97622ae75aa1eb374b833e",
    ),
    (
        dstack(4, 4 * GIB, huge=True),
        "538c178de0a6f9bd0dfec0a61fc02eb7a376094004dc5b9f776a676378e924b2",
        "5d0883bbf4bc57140352ab3b0751719559b8f634945ac3c85b219c955d4c359c",
    ),
    (
        replaced(dstack(2, 64 * GIB, huge=True), pci_hole64=1 << 44),
        "a1a9c1ce5f1baef9172842b92f418a90491db56af53665f6b1da732f119c57b7",
        "067e75d53b91e15c62da101ca1eee00947a14103f057d365638913569bff1029",
    ),
    (
        dstack(2, 1020 * GIB, huge=True),
        "71e33be7aa7a05884c86ec2e0b11338de1c0c29fdbfdc0e0c4ef6684237b09bd",
        "6b688fc99010f2a0ca914d99fc4c62c7abb9e458a68e963ae16b9e6d31b20e38",
    ),
    (
        dstack(300, 4 * GIB),
        "58bdb2e3a34e4b0650a70decf896152abf00953fe42386e8490d4e6c037c5cc0",
        "060c3a57bb2416eac5aa39b15c104b495a6e886c77f935950595c7418d67dbab",
    ),
]
# the same, of machines whose bridges were left as after reset
UNPROGRAMMED = [
    (
        without_hotplug(dstack(16, 4 * GIB, gpus=1)),
        "0c64adcd4060b0470d18578d74eb18c47a680dc069e55e8767a176cef5566d02",
        "2160dbdfda6f25675eaeab0d6669fb89283f7b86524cabb436379cbbade5ff85",
    ),
    (
        without_hotplug(dstack(16, 4 * GIB, gpus=8, switches=4)),
        "6d0a1f22e7afd71082325a06ae1589ddcedbbb4622500d1a5bbc007be2a62fed",
        "648a9b403c8ffa996d20e2cf894f6c0b2ebabc271a5f0faf0af7fd31678ad083",
    ),
    (
        dstack(4, 4 * GIB, huge=True, gpus=1),
        "59a81ef59c2a3b3df3eaf451f00c0fc1025a54a46a5c43d1fc797c6ab88047dc",
        "5d64e9cbe0fcc21bd87fd2ada822ac409eae26920bd2cfbbd2fb94663d123657",
    ),
    (
        without_hotplug(dstack(4, 4 * GIB, huge=True, gpus=8, switches=4)),
        "68f888e287a182bb2cd4caec8550d55c80db7d48219344d5b31f8347dea154a5",
        "79cf377dc9f158ffd56961bf3cd6bb31f6ab5c36b16f1c4441b92eec5fb242ba",
    ),
    (
        dstack(2, 2 * GIB, gpus=1),
        "826e60cd89135744751e1711a795787ac4c813727c445573f44680ea206a4cc4",
        "47fb9350e377a1c5cbf33a57cecb03bf913b6d8464d86dbc6a0d21da1789af73",
    ),
    (
        dstack(2, 2 * GIB, gpus=2),
        "95e7b197e1d5bcb7156f8ff55c435f3f1a6ea998458c2efd1dbdc7299cc54279",
        "dda096254b6a139642ff06ce3c705795b86d96421b375f695b0931721a7634f7",
    ),
    (
        dstack(2, 2 * GIB, gpus=8, switches=4),
        "a0a6625ea8a054e2c89fd6207a09129e043ea0b0af83ecab33c2a150f913ea86",
        "f137a381bc9e51628a34f4f5cd984454d0010f91bbd065e9557882c24822e2a1",
    ),
    (
        dstack(2, 2 * GIB, huge=True, gpus=8, switches=4),
        "219d42752ca60b4598b8d17d267d6a57bf32794f5eb059c5670c63c0b047ea8f",
        "87181fca983a452f5a5893ae4b6f7e87c4b3ffca60092240f6a405e80b091661",
    ),
]


@pytest.mark.parametrize(("shape", "digest", "digest_11"), PUBLISHED, ids=[row[1][:8] for row in PUBLISHED])
def test_published_digests_are_reproduced(
    reader: QemuAcpiReader, reader_11: QemuAcpiReader, shape: MachineShape, digest: str, digest_11: str
) -> None:
    blobs = reader.read(shape)
    assert blobs == blobs_for(blobs.tables)
    assert sha256_hex(blobs.tables) == digest
    assert sha256_hex(reader_11.read(of_11(reader_11, shape)).tables) == digest_11


@pytest.mark.parametrize(("shape", "digest", "digest_11"), UNPROGRAMMED, ids=[row[1][:8] for row in UNPROGRAMMED])
def test_published_digests_of_unprogrammed_bridges_are_reproduced(
    reader: QemuAcpiReader, reader_11: QemuAcpiReader, shape: MachineShape, digest: str, digest_11: str
) -> None:
    tables = reader.read_with_unprogrammed_bridges(shape).tables
    assert sha256_hex(tables) == digest
    assert reader.read(shape).tables != tables, "no firmware leaves bridges so"
    other = reader_11.read_with_unprogrammed_bridges(of_11(reader_11, shape))
    assert sha256_hex(other.tables) == digest_11


def test_upstream_s_smallest_machine_has_its_published_digest(reader: QemuAcpiReader) -> None:
    """`acpi.md` 10.3, 10.0.0."""
    wanted = "d0410a8abdbba6d86a19a2eefd491376727e4e2d80c54349d7f30deca14ca6e1"
    assert sha256_hex(reader.read(dstack(1, 2 * GIB)).tables) == wanted


def test_a_root_port_with_room_for_its_window_makes_no_difference_to_a_large_hole(reader: QemuAcpiReader) -> None:
    shape = replaced(dstack(2, 2 * GIB, gpus=1), pci_hole64=1 << 44)
    assert reader.read(shape) == reader.read_with_unprogrammed_bridges(shape)


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
    ],
)
def test_a_device_that_qemu_refuses_is_an_error_in_its_own_words(
    reader: QemuAcpiReader, device: str, message: str
) -> None:
    with pytest.raises(DocumentError, match=f"QEMU refuses this machine: .*{message}"):
        reader.read(machine_with(device))


@pytest.mark.parametrize(
    "device", ["vmgenid,guid=auto", "pcie-root-port,mem-reserve=64M", "igb,romfile="], ids=lambda text: text[:10]
)
def test_devices_whose_tables_no_rule_covers_are_refused(reader: QemuAcpiReader, device: str) -> None:
    with pytest.raises(DocumentError):
        reader.read(machine_with("virtio-rng-pci", device))


def test_a_machine_without_acpi_has_no_tables(reader: QemuAcpiReader) -> None:
    with pytest.raises(DocumentError, match="no etc/table-loader"):
        reader.read(machine_with("virtio-rng-pci", options="acpi=off,smm=off,pic=off"))


def test_another_version_than_the_profile_says_is_refused(reader: QemuAcpiReader) -> None:
    machine = dstack(1, 2 * GIB)
    with pytest.raises(DocumentError, match=r"version 10\.0\.2, the profile says 10\.0\.3"):
        reader.read(replaced(machine, version="10.0.3"))
