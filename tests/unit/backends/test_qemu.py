"""Starting QEMU: its arguments, and every way in which the program may fail. The programs here are shell scripts."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from builder.backends.emulator.qemu import ProgramChannel, QemuAcpiReader, machine_arguments
from builder.errors import DocumentError, MissingError, NotProvenError
from builder.model.recipe import VmmSpec
from builder.ports import MachineShape
from tests.fakes.short_pipe import ProgramWithShortPipe

GIB = 1 << 30
VMM = VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off", "Skylake-Server,phys-bits=46", ("virtio-rng-pci", "serial"))
SHAPE = MachineShape(vmm=VMM, vcpus=4, memory=2 * GIB, edk2="202502")


def shape_with(**changes: Any) -> MachineShape:
    return replace(SHAPE, vmm=replace(VMM, **changes))


def value_of(option: str, shape: MachineShape) -> str:
    arguments = machine_arguments(shape)
    assert arguments.count(option) == 1
    return arguments[arguments.index(option) + 1]


def devices_of(*devices: str) -> list[str]:
    arguments = machine_arguments(shape_with(devices=devices))
    return [value for option, value in pairwise(arguments) if option == "-device"]


def test_the_machine_is_stopped_and_has_nothing_that_was_not_asked_for() -> None:
    arguments = machine_arguments(SHAPE)
    assert "-S" in arguments
    assert "-nodefaults" in arguments
    assert value_of("-vga", SHAPE) == value_of("-display", SHAPE) == "none"
    assert value_of("-smp", SHAPE) == "4"
    assert value_of("-m", SHAPE) == "2G"
    assert value_of("-cpu", SHAPE) == VMM.cpu
    assert value_of("-serial", SHAPE) == "null"
    assert "-global" not in arguments


def test_large_memory_takes_none_of_the_host() -> None:
    shape = replace(SHAPE, memory=1024 * GIB)
    assert value_of("-object", shape) == "memory-backend-ram,id=ram,size=1024G,reserve=off"
    assert value_of("-machine", shape) == "q35,smm=off,pic=off,memory-backend=ram"


def test_a_memory_backend_that_the_machine_names_is_the_one_made() -> None:
    shape = shape_with(machine="q35,memory-backend=mem0,smm=off,pic=off")
    assert value_of("-object", shape).startswith("memory-backend-ram,id=mem0,")
    assert value_of("-machine", shape) == "q35,memory-backend=mem0,smm=off,pic=off"


def test_options_that_only_a_launch_with_tdx_needs_are_left_out() -> None:
    shape = shape_with(machine="q35,accel=kvm,kernel_irqchip=split,confidential-guest-support=tdx0,smm=off,pic=off")
    assert value_of("-machine", shape) == "q35,kernel_irqchip=split,smm=off,pic=off,memory-backend=ram"
    assert value_of("-accel", shape).startswith("tcg")


def test_a_pci_hole_and_hotplug_that_differ_from_the_default_are_passed_on() -> None:
    assert value_of("-global", shape_with(pci_hole64=64 * GIB)) == f"q35-pcihost.pci-hole64-size={64 * GIB}"
    hotplug_off = value_of("-global", shape_with(bridge_hotplug=False))
    assert hotplug_off == "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"


def values_of(option: str, shape: MachineShape) -> list[str]:
    return [value for name, value in pairwise(machine_arguments(shape)) if name == option]


def test_numa_nodes_share_vcpus_and_memory_evenly() -> None:
    shape = shape_with(numa_nodes=2)
    assert values_of("-object", shape) == [
        "memory-backend-ram,id=ram0,size=1G,reserve=off",
        "memory-backend-ram,id=ram1,size=1G,reserve=off",
    ]
    assert values_of("-numa", shape) == [
        "node,nodeid=0,memdev=ram0,cpus=0-1",
        "node,nodeid=1,memdev=ram1,cpus=2-3",
    ]
    assert value_of("-machine", shape) == "q35,smm=off,pic=off", "nodes and a memory backend exclude each other"


def test_hugepages_of_one_node_are_no_different_memory() -> None:
    shape = shape_with(numa_nodes=1, machine="q35,memory-backend=mem0,smm=off,pic=off")
    assert values_of("-object", shape) == ["memory-backend-ram,id=mem00,size=2G,reserve=off"]
    assert values_of("-numa", shape) == ["node,nodeid=0,memdev=mem00,cpus=0-3"]


@pytest.mark.parametrize("nodes", [-1, 3, 5, 8])
def test_what_numa_nodes_cannot_share_evenly_is_refused(nodes: int) -> None:
    with pytest.raises(DocumentError, match=f"cannot be shared evenly by {nodes} NUMA nodes"):
        machine_arguments(shape_with(numa_nodes=nodes))


def test_nodes_of_half_mebibytes_are_refused() -> None:
    with pytest.raises(DocumentError, match="not a whole number of MiB"):
        machine_arguments(replace(shape_with(numa_nodes=4), memory=2 * GIB + (1 << 20)))


def test_devices_that_need_the_host_get_a_stand_in_in_the_same_slot() -> None:
    assert devices_of(
        "virtio-blk-pci,drive=hd0,addr=0x3,id=disk",
        "virtio-blk-pci-non-transitional",
        "vhost-vsock-pci,guest-cid=3",
        "virtio-9p-pci,fsdev=f,mount_tag=t,bus=pcie.0,multifunction=on",
    ) == [
        "virtio-rng-pci,addr=0x3,id=disk",
        "virtio-rng-pci",
        "virtio-rng-pci",
        "virtio-rng-pci,bus=pcie.0,multifunction=on",
    ]


def test_a_device_of_the_host_is_refused_and_a_replacement_named() -> None:
    with pytest.raises(DocumentError, match=r"'vfio-pci,host=01:00\.0' is one of the host's") as caught:
        devices_of("vfio-pci,host=01:00.0")
    assert "pci-testdev,membar=128G" in str(caught.value.hint)


def test_other_devices_are_left_as_they_are_and_in_order() -> None:
    devices = ("virtio-net-pci,romfile=", "e1000,addr=2", "virtio-scsi-pci,disable-legacy=on")
    assert devices_of(*devices) == list(devices)


@pytest.mark.parametrize("name", ["smm", "pic"])
def test_what_qemu_decides_otherwise_in_a_td_must_be_stated(name: str) -> None:
    machine = VMM.machine.replace(f",{name}=off", "")
    with pytest.raises(DocumentError, match=f"leaves {name} to QEMU") as caught:
        machine_arguments(shape_with(machine=machine))
    assert f"{name}=off" in str(caught.value.hint)


@pytest.mark.parametrize("machine", ["pc,smm=off,pic=off", "microvm", "", "q35x,smm=off,pic=off"])
def test_machines_other_than_q35_are_refused(machine: str) -> None:
    with pytest.raises(DocumentError, match="is not a q35"):
        machine_arguments(shape_with(machine=machine))


@pytest.mark.parametrize("cpu", ["qemu64", "max", "Skylake-Server,phys-bits=40", "phys-bits=46", "x,phys-bits=460", ""])
def test_a_cpu_with_another_pci_window_is_refused(cpu: str) -> None:
    with pytest.raises(DocumentError, match="46 physical address bits"):
        machine_arguments(shape_with(cpu=cpu))


@pytest.mark.parametrize("memory", [-GIB, 0, (32 << 20) - (1 << 20), 2 * GIB + 4096])
def test_memory_that_is_too_small_or_not_whole_mebibytes_is_refused(memory: int) -> None:
    with pytest.raises(DocumentError, match="memory"):
        machine_arguments(replace(SHAPE, memory=memory))


SAYS_ITS_VERSION = "echo 'QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)'"


def reader_of(directory: Path, *, machine: str, version: str = SAYS_ITS_VERSION, timeout: float = 60) -> QemuAcpiReader:
    """A reader whose bwrap is a shell script: `version` answers --version, `machine` is the running QEMU."""
    program = directory / "root/usr/bin/qemu-system-x86_64"
    program.parent.mkdir(parents=True)
    program.touch()
    bwrap = directory / "bwrap"
    bwrap.write_text(f'#!/bin/sh\ncase "$*" in\n*--version)\n{version}\n;;\n*)\n{machine}\n;;\nesac\n')
    bwrap.chmod(0o755)
    return QemuAcpiReader(directory / "root", bwrap=str(bwrap), timeout=timeout)


ANSWERS_ONCE = "read line; echo 'OK 0x00'"


def test_a_device_that_qemu_refuses_is_an_error_in_its_own_words(tmp_path: Path) -> None:
    says = "echo 'qemu: warning: no pcid' >&2; echo \"qemu: -device nope: 'nope' is not a valid name\" >&2; exit 1"
    with pytest.raises(DocumentError, match="QEMU refuses this machine: qemu: -device nope: 'nope' is not a valid"):
        reader_of(tmp_path, machine=says).read(SHAPE)


def test_a_refusal_without_a_reason_is_still_an_error(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="it does not say why"):
        reader_of(tmp_path, machine="exit 1").read(SHAPE)


@pytest.mark.parametrize(
    ("machine", "status"),
    [
        ("kill -9 $$", -9),
        ("exit 0", 0),
        ("exit 139", 139),
        (f"{ANSWERS_ONCE}; exit 1", 1),
        (f"{ANSWERS_ONCE}; read line; echo OK; echo 'Assertion failed' >&2; kill -6 $$", -6),
        ("read line; printf 'OK 0x'; exit 0", 0),
    ],
)
def test_a_qemu_that_dies_proves_nothing(tmp_path: Path, machine: str, status: int) -> None:
    with pytest.raises(NotProvenError, match=f"ended with status {status} while its tables were being read"):
        reader_of(tmp_path, machine=machine).read(SHAPE)


def test_the_last_words_of_a_dying_qemu_are_shown(tmp_path: Path) -> None:
    machine = f"{ANSWERS_ONCE}; echo 'Assertion failed' >&2; exit 134"
    with pytest.raises(NotProvenError, match="Assertion failed"):
        reader_of(tmp_path, machine=machine).read(SHAPE)


@pytest.mark.parametrize("machine", ["sleep 1000", f"{ANSWERS_ONCE}; sleep 1000", "read line; printf OK; sleep 1000"])
def test_a_silent_qemu_is_not_waited_for_for_ever(tmp_path: Path, machine: str) -> None:
    with pytest.raises(NotProvenError, match=r"gave no answer within 0\.2 s"):
        reader_of(tmp_path, machine=machine, timeout=0.2).read(SHAPE)


def test_a_qemu_of_another_version_is_not_asked_for_tables(tmp_path: Path) -> None:
    reader = reader_of(tmp_path, machine="exit 1")
    with pytest.raises(DocumentError, match=r"is version 10\.0\.2, the profile says 11\.1\.3"):
        reader.read(shape_with(version="11.1.3"))


@pytest.mark.parametrize("version", ["echo qemu 10", "true", "echo 'QEMU emulator version 10.0 (x)'"])
def test_a_program_that_does_not_say_its_version_is_not_qemu(tmp_path: Path, version: str) -> None:
    with pytest.raises(MissingError, match=r"wanted QEMU's x\.y\.z"):
        reader_of(tmp_path, machine="exit 1", version=version).version()


def test_a_sandbox_that_cannot_start_is_missing_and_says_why(tmp_path: Path) -> None:
    version = "echo 'bwrap: No permissions to create new namespace' >&2; exit 1"
    with pytest.raises(MissingError, match="No permissions to create new namespace"):
        reader_of(tmp_path, machine="exit 1", version=version).version()


def test_a_root_without_qemu_is_refused_and_the_package_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="has no /usr/bin/qemu-system-x86_64") as caught:
        QemuAcpiReader(tmp_path).version()
    assert "qemu-system-x86" in str(caught.value.hint)


def test_a_host_without_bubblewrap_is_told_what_to_install(tmp_path: Path) -> None:
    reader_of(tmp_path, machine="exit 1")
    with pytest.raises(MissingError) as caught:
        QemuAcpiReader(tmp_path / "root", bwrap=str(tmp_path / "nowhere/bwrap")).version()
    assert "bubblewrap" in str(caught.value.hint)


def test_the_version_is_asked_for_once(tmp_path: Path) -> None:
    reader = reader_of(tmp_path, machine="exit 1", version=f"echo x >> {tmp_path}/asked; {SAYS_ITS_VERSION}")
    assert reader.version() == reader.version() == "10.0.2"
    assert (tmp_path / "asked").read_text() == "x\n"


def test_a_command_of_which_a_write_takes_only_a_part_is_sent_whole() -> None:
    with ProgramWithShortPipe() as program:
        ProgramChannel(program, 1).send(b"write 0x1000 0x4 0x01020304\n")  # type: ignore[arg-type]
        assert program.stdin.taken == b"write 0x1000 0x4 0x01020304\n"
