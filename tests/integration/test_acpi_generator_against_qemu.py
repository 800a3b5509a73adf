"""The generated ACPI blobs against those of real, unmodified QEMUs: random machines, every byte.

Twenty-five machines of each kind and version; TDX_BUILDER_TOPOLOGIES=400 takes as many. A machine is drawn from its
number alone, so that a failure can be repeated. What the generator refuses proves nothing and is drawn again; how much
it refuses is bounded.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

import pytest

from builder.backends.emulator.qemu import QemuAcpiReader
from builder.errors import DocumentError
from builder.measure.acpi.blobs import AcpiBlobs
from builder.measure.acpi.generator import generate_acpi
from builder.measure.acpi.machine import acpi_machine, dstack_machine
from builder.model.recipe import VmmSpec
from builder.ports import MachineShape

pytestmark = [pytest.mark.network, pytest.mark.slow]

COUNT = int(os.environ.get("TDX_BUILDER_TOPOLOGIES", "25"))
MIB = 1 << 20
CPUS = ("Skylake-Server,phys-bits=46", "SapphireRapids,phys-bits=46", "Icelake-Server,phys-bits=46")
ENDPOINTS = (
    *("virtio-blk-pci", "virtio-net-pci", "virtio-rng-pci", "virtio-scsi-pci", "virtio-serial-pci", "vhost-vsock-pci"),
    *("virtio-9p-pci", "virtio-net-pci,romfile=", "e1000,romfile="),
)


@dataclass(frozen=True)
class DstackMachine:
    """dstack's VmConfig, by the names of `dstack_machine`."""

    vcpus: int
    memory: int
    nics: int
    verity_volumes: int
    gpus: int
    nvswitches: int
    hugepages: bool
    root_verity: bool
    hotplug_off: bool
    pic: bool
    pci_hole64: int | None


def drawn_size(random: Random) -> tuple[int, int]:
    """vCPUs, mostly few, and memory from 256 MiB to 1 TiB with the borders of q35's memory map among it."""
    vcpus = random.choice([random.randint(1, 16)] * 14 + [random.randint(17, 120)] * 5 + [random.randint(250, 300)])
    border = random.choice([2047, 2048, 2049, 2815, 2816, 2817, 4096])
    memory = random.choice([random.randint(256, 4096), border, int(2 ** random.uniform(8, 20))])
    return vcpus, memory * MIB


def drawn_hole(random: Random) -> int | None:
    return random.choice([None, None, 1 << random.randint(30, 44), random.randint(1, 1 << 14) << 30])


def drawn_shape(random: Random, version: str) -> MachineShape:
    """Any q35 machine with endpoints, root ports and PCI expanders on pcie.0."""
    vcpus, memory = drawn_size(random)
    nodes = random.choice([0, 0, 0, 1, 1, 2, 3, 4])
    switches = ",".join(f"{name}={random.choice(('on', 'off'))}" for name in ("pic", "smm", "hpet"))
    vmm = VmmSpec(
        name="qemu",
        version=version,
        machine=f"q35,kernel_irqchip=split,{switches}",
        cpu=random.choice(CPUS),
        devices=tuple(drawn_devices(random, nodes)),
        pci_hole64=drawn_hole(random),
        bridge_hotplug=random.random() < 0.7,
        numa_nodes=nodes,
    )
    share = max(nodes, 1)
    unit = share * MIB
    vcpus, memory = max(vcpus // share, 1) * share, memory // unit * unit
    return MachineShape(vmm, vcpus, memory, random.choice(["202502", "202502", "202305", "202302", "202211"]))


def drawn_devices(random: Random, nodes: int) -> Iterator[str]:
    for _ in range(random.choice([0, 1, 2, 3, 5, 8])):
        yield f"{random.choice(ENDPOINTS)},bus=pcie.0"
    slots = random.sample(range(0x0E, 0x18), 5)  # not in the order of creation, which decides some numbers
    for number in range(random.choice([0, 0, 0, 1, 2, 5])):
        address = f",addr={slots[number]:#x}" if random.random() < 0.3 else ""
        yield from drawn_port(random, number, "pcie.0" + address)
    for number in range(random.choice([0, 0, 0, 0, 1, 2])):
        node = f",numa_node={random.randrange(nodes)}" if nodes and random.random() < 0.7 else ""
        yield f"pxb-pcie,id=pxb{number},bus_nr={random.randint(20, 90) + 100 * number},bus=pcie.0{node}"
        for behind in range(random.randint(0, 3)):
            yield from drawn_port(random, 10 * number + 10 + behind, f"pxb{number}")
    if random.random() < 0.3:
        yield f"virtio-rng-pci,bus=pcie.0,addr={random.choice(['0x1c', '0x1d', '0x18'])},multifunction=on"
    if random.random() < 0.3:
        yield "virtio-rng-pci,bus=pcie.0,addr=0x1a,multifunction=on"
        for function in sorted(random.sample(range(1, 8), random.randint(1, 3))):
            yield f"virtio-rng-pci,bus=pcie.0,addr=0x1a.{function:#x}"
    if random.random() < 0.7:
        yield "serial"


def drawn_port(random: Random, number: int, bus: str) -> Iterator[str]:
    yield f"pcie-root-port,id=port{number},chassis={number},bus={bus}"
    if random.random() < 0.8:
        yield f"virtio-rng-pci,bus=port{number}"


def drawn_dstack(random: Random) -> DstackMachine:
    vcpus, memory = drawn_size(random)
    return DstackMachine(
        vcpus=vcpus,
        memory=memory,
        nics=random.randint(0, 3),
        verity_volumes=random.choice([0, 0, 1, 4]),
        gpus=random.choice([0, 1, 1, 2, 8]),
        nvswitches=random.choice([0, 0, 1, 4]),
        hugepages=random.random() < 0.5,
        root_verity=random.random() < 0.8,
        hotplug_off=random.random() < 0.4,
        pic=random.random() < 0.3,
        pci_hole64=drawn_hole(random),
    )


def dstack_shape(machine: DstackMachine, version: str) -> MachineShape:
    """The same for QEMU (`acpi.md` 7): endpoints in order, then a root port for each GPU and switch."""
    kinds = ["virtio-blk-pci"] * (1 + machine.verity_volumes) + ["virtio-net-pci"] * machine.nics
    kinds += ["vhost-vsock-pci", "virtio-9p-pci", *["virtio-blk-pci"] * machine.root_verity]
    devices = [f"{kind},bus=pcie.0" for kind in kinds]
    bus = "pxb" if machine.hugepages and machine.gpus else "pcie.0"
    devices += ["pxb-pcie,id=pxb,bus_nr=5,addr=0x10,numa_node=0,bus=pcie.0"] if bus == "pxb" else []
    for port, place in enumerate([bus] * machine.gpus + ["pcie.0"] * machine.nvswitches):
        devices += [f"pcie-root-port,id=port{port},chassis={port},bus={place}", f"virtio-rng-pci,bus=port{port}"]
    vmm = VmmSpec(
        name="qemu",
        version=version,
        machine=f"q35,hpet=off,smm=off,pic={'on' if machine.pic else 'off'}",
        cpu=CPUS[0],
        devices=(*devices, "serial"),
        pci_hole64=machine.pci_hole64,
        bridge_hotplug=not machine.hotplug_off,
        numa_nodes=int(machine.hugepages),
    )
    return MachineShape(vmm, machine.vcpus, machine.memory, "202502")


Comparison = tuple[object, Callable[[], AcpiBlobs], Callable[[], AcpiBlobs]]  # what of, generated, read


def any_machine(reader: QemuAcpiReader, random: Random) -> Comparison:
    shape = drawn_shape(random, reader.version())
    machine = acpi_machine(shape.vmm, vcpus=shape.vcpus, memory=shape.memory, edk2=shape.edk2)
    return shape, lambda: generate_acpi(machine), lambda: reader.read(shape)


def dstack_as_published(reader: QemuAcpiReader, random: Random) -> Comparison:
    """With bridges as after reset, as dstack publishes it."""
    drawn = drawn_dstack(random)
    machine = dstack_machine(reader.version(), **asdict(drawn), bridges_programmed=False)
    shape = dstack_shape(drawn, reader.version())
    return drawn, lambda: generate_acpi(machine), lambda: reader.read_with_unprogrammed_bridges(shape)


def dstack_in_a_td(reader: QemuAcpiReader, random: Random) -> Comparison:
    """With bridges as the firmware leaves them; GPUs need a hole that is certain to be large enough."""
    drawn = drawn_dstack(random)
    drawn = replace(drawn, pci_hole64=1 << random.randint(43, 44)) if drawn.gpus + drawn.nvswitches else drawn
    machine = dstack_machine(reader.version(), **asdict(drawn))
    shape = dstack_shape(drawn, reader.version())
    return drawn, lambda: generate_acpi(machine), lambda: reader.read(shape)


@pytest.mark.parametrize("draw", [any_machine, dstack_as_published, dstack_in_a_td])
@pytest.mark.parametrize("root", ["vmm_root", "qemu_11_root"])
def test_generated_tables_are_those_of_qemu(
    request: pytest.FixtureRequest, root: str, draw: Callable[[QemuAcpiReader, Random], Comparison]
) -> None:
    directory: Path = request.getfixturevalue(root)
    reader = QemuAcpiReader(directory)
    compared, number = 0, 0
    while compared < COUNT:
        number += 1
        assert number <= 4 * COUNT + 10, f"the generator refused {number - compared} of {number} machines"
        try:
            machine, generate, read = draw(reader, Random(number))
            generated = generate()
        except DocumentError:
            continue
        compared += 1
        assert generated == read(), f"machine number {number} of {draw.__name__}, QEMU {reader.version()}: {machine}"
