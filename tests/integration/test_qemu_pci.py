"""What OVMF programs into PCI bridges and devices, as its tables show it: predicted, and in a real boot.

The firmware runs under emulation until the DSDT that QEMU built for it lies in the guest's memory. QEMU made that table
from what the firmware had programmed by then; the reader has it made from its own programming of a stopped machine.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from socket import socketpair
from typing import Any

import pytest

from builder.backends.deb_root import unpack_root
from builder.backends.emulator.guest_memory import GuestMemory, guest_memory
from builder.backends.emulator.qemu import Attachment, QemuAcpiReader
from builder.backends.emulator.qemu_firmware import program_machine, read_acpi_files
from builder.backends.emulator.qmp import Qmp
from builder.backends.local_store import LocalStore
from builder.errors import DocumentError
from builder.model.lock import Lock
from builder.model.recipe import VmmSpec
from builder.ports import MachineShape
from tests.fakes.silent_progress import SilentProgress
from tests.integration.conftest import group_debs

pytestmark = [pytest.mark.network, pytest.mark.slow]

GIB = 1 << 30
LIMIT = 300.0  # seconds until a firmware counts as hanging
ENDPOINT = "virtio-rng-pci,bus=pcie.0"
EXPANDER = "pxb-pcie,id=pxb,bus_nr=5,addr=0x10,bus=pcie.0"


def shape_of(*devices: str, memory: int = 2 * GIB, edk2: str = "202502", **vmm: Any) -> MachineShape:
    spec = VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off,hpet=off", "Skylake-Server,phys-bits=46", devices)
    return MachineShape(replace(spec, **vmm), vcpus=1, memory=memory, edk2=edk2)


def port(name: str, *, bus: str = "pcie.0", behind: str = "", options: str = "") -> tuple[str, ...]:
    """A root port, perhaps with a device behind it."""
    bridge = f"pcie-root-port,id={name},bus={bus},chassis={name[1:]},slot={name[1:]}{options}"
    return (bridge, f"{behind},bus={name}") if behind else (bridge,)


def gpu(size: str) -> str:
    """A device with a 64-bit BAR as large as a GPU's."""
    return f"pci-testdev,membar={size}"


DEFAULT_HOLE = shape_of(ENDPOINT, *port("p1", behind="virtio-rng-pci"))
LARGE_BARS = shape_of(
    "virtio-net-pci",
    *port("p1", behind=gpu("128G")),
    *port("p2", behind=gpu("64M")),
    *port("p3"),
    *port("p4", behind="nvme,serial=a", options=",hotplug=off"),
    bridge_hotplug=False,
)
DSTACK_HUGEPAGES = shape_of(
    *(ENDPOINT,) * 6,
    EXPANDER + ",numa_node=0",
    *port("p1", bus="pxb", behind=gpu("128G")),
    *port("p2", bus="pxb", behind=gpu("128G")),
    *port("p3", behind="virtio-rng-pci"),
    *port("p4", behind="virtio-rng-pci"),
    "serial",
    numa_nodes=1,
)
DEEP = shape_of(
    "e1000,romfile=,bus=pcie.0",
    "virtio-net-pci,bus=pcie.0",
    "pcie-pci-bridge,id=b1,bus=pcie.0",
    "e1000,romfile=,bus=b1,addr=1",
    "pci-testdev,membar=64M,bus=b1,addr=2",
    "pxb-pcie,id=x1,bus_nr=20,bus=pcie.0",
    *port("p1", bus="x1"),
    "x3130-upstream,id=u1,bus=p1",
    "xio3130-downstream,id=w1,bus=u1,chassis=11,slot=11",
    "xio3130-downstream,id=w2,bus=u1,chassis=12,slot=12",
    "nvme,serial=b,bus=w2",
    "pxb-pcie,id=x2,bus_nr=60,bus=pcie.0",
    *port("p3", bus="x2", behind="qemu-xhci"),
    *port("p4", bus="x2", behind=gpu("32G")),
    memory=2500 << 20,
    pci_hole64=1 << 44,
)
BEFORE_MMCONFIG_MOVED = shape_of(
    "virtio-net-pci,bus=pcie.0",
    *port("p1", behind="virtio-rng-pci"),
    EXPANDER,
    *port("p2", bus="pxb", behind="virtio-net-pci"),
    edk2="202211",
)
NOTHING_WIDE = shape_of("e1000,romfile=")


@pytest.fixture(scope="session")
def firmwares(
    debian_13_firmware: bytes,
    quickstart_lock: Lock,
    locked_inputs: LocalStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Files by edk2 release."""
    directory = tmp_path_factory.mktemp("firmware")
    (directory / "202502.fd").write_bytes(debian_13_firmware)
    packages = group_debs(quickstart_lock, locked_inputs, "components.firmware")
    unpack_root(packages, directory / "202211", SilentProgress())
    return {"202502": directory / "202502.fd", "202211": directory / "202211/usr/share/ovmf/OVMF.fd"}


def built_dsdt(reader: QemuAcpiReader, shape: MachineShape, firmware: Path) -> bytes:
    """The DSDT that the firmware has in memory, once it is whole: its checksum is right."""
    with guest_memory(shape.memory) as memory, running(reader, shape, firmware, memory):
        start = time.monotonic()
        while time.monotonic() - start < LIMIT:
            time.sleep(0.2)
            for place in memory.find(b"DSDT"):
                size = int.from_bytes(memory.read(place + 4, 4), "little")
                table = memory.read(place, size) if 36 <= size < 1 << 20 else b""
                if table[10:16] == b"BOCHS " and sum(table) % 256 == 0:
                    return table
    return pytest.fail(f"the firmware built no DSDT within {LIMIT:g} s")


@contextmanager
def running(reader: QemuAcpiReader, shape: MachineShape, firmware: Path, memory: GuestMemory) -> Iterator[None]:
    """The firmware runs on this machine during the block."""
    ours, theirs = socketpair()
    with ours, theirs:
        attached = Attachment(
            arguments=(
                *("-bios", "/tmp/firmware"),
                *("-chardev", f"socket,id=monitor,fd={theirs.fileno()}", "-mon", "chardev=monitor,mode=control"),
            ),
            mounts=("--ro-bind", str(firmware), "/tmp/firmware"),
            descriptors=(memory.descriptor, theirs.fileno()),
            memory=memory.backend,
        )
        with reader.stopped_machine(shape, attached):
            Qmp(ours, timeout=LIMIT).execute("cont")
            yield


def predicted_dsdt(reader: QemuAcpiReader, shape: MachineShape) -> bytes:
    """As predicted, for a machine that is no TD: there the firmware looks at option ROMs."""
    with reader.stopped_machine(shape) as qtest:
        program_machine(qtest, edk2=shape.edk2, memory=shape.memory, option_roms=True)
        tables = read_acpi_files(qtest).tables
    return tables[64 : 64 + int.from_bytes(tables[68:72], "little")]


@pytest.mark.parametrize(
    "shape",
    [DEFAULT_HOLE, LARGE_BARS, DSTACK_HUGEPAGES, DEEP, BEFORE_MMCONFIG_MOVED, NOTHING_WIDE],
    ids=["default hole", "large BARs", "dstack with hugepages", "deep", "edk2 202211", "nothing 64-bit"],
)
def test_tables_show_bridges_as_the_firmware_left_them(
    vmm_root: Path, firmwares: dict[str, Path], shape: MachineShape
) -> None:
    reader = QemuAcpiReader(vmm_root)
    found = built_dsdt(reader, shape, firmwares[shape.edk2])
    wanted = predicted_dsdt(reader, shape)
    assert without_checksum(found) == without_checksum(wanted)
    if shape != NOTHING_WIDE:
        unprogrammed = reader.read_with_unprogrammed_bridges(shape).tables[64 : 64 + len(wanted)]
        assert without_checksum(unprogrammed) != without_checksum(wanted), "else this topology proves nothing"


def without_checksum(table: bytes) -> bytes:
    return table[:9] + table[10:]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (shape_of(ENDPOINT, *port("p1", options=",mem-reserve=64M")), "asks for reserved resources"),
        (shape_of(ENDPOINT, *port("p1", behind="igb,romfile=")), r"01:00\.0 has virtual functions"),
        (shape_of(ENDPOINT, *port("p1", behind=gpu("8T")), *port("p2", behind=gpu("1T"))), "mem64 windows end at"),
        (
            shape_of(*(f"pcie-root-port,bus=pcie.0,chassis={n}" for n in range(5)), EXPANDER, *port("p9", bus="pxb")),
            "no bus number up to 4 is left",
        ),
        (shape_of(ENDPOINT, *port("p1"), edk2="202208"), "edk2 202208"),
        (shape_of(ENDPOINT, *port("p1", behind="nvme,serial=a"), edk2="202602"), "64-bit BAR that is not prefetchable"),
    ],
    ids=["reservation", "SR-IOV", "too large", "bus numbers", "old firmware", "edk2 202602"],
)
def test_what_no_rule_predicts_is_refused(vmm_root: Path, shape: MachineShape, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        QemuAcpiReader(vmm_root).read(shape)
