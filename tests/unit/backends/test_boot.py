"""Starting emulators for a boot: what the machine gets, what is refused, and emulators that fail. Those here are shell
scripts."""

import os
import socket
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from builder.backends.emulator.boot import QemuTpmBoot, attachment_of
from builder.backends.emulator.guest_memory import guest_memory
from builder.backends.emulator.qemu import QemuAcpiReader, machine_arguments
from builder.backends.emulator.swtpm import Swtpm
from builder.errors import DocumentError, MissingError, NotProvenError
from builder.model.recipe import VmmSpec
from builder.ports import DirectBoot, MachineShape
from tests.fakes.qemu_process import DSDT_BODY

GIB = 1 << 30
VMM = VmmSpec(
    "qemu", "10.0.2", "q35,smm=off,pic=off", "Skylake-Server,phys-bits=46", ("virtio-blk-pci,drive=root", "serial")
)
SWTPM_SAYS = "echo 'TPM emulator version 0.7.1, Copyright'"


def order_in(path: Path, *devices: str, initrd: bool = True, disk: bool = True) -> DirectBoot:
    vmm = replace(VMM, devices=devices or VMM.devices)
    return DirectBoot(
        shape=MachineShape(vmm, 1, GIB, "202502"),
        firmware=path / "OVMF.fd",
        kernel=path / "vmlinuz",
        initrd=path / "initrd.img" if initrd else None,
        disk=path / "rootfs.img" if disk else None,
        command_line="console=ttyS0 a=b,c",
        until=None,
        limit=5,
        serial_log=path / "serial.log",
    )


def arguments_of(order: DirectBoot) -> list[str]:
    with guest_memory(order.shape.memory) as memory:
        attached = attachment_of(order, memory, monitor=11, serial=12)
        assert set(attached.descriptors) == {memory.descriptor, 11, 12}
        return [
            word.replace(f"/fd/{memory.descriptor},", "/fd/N,") for word in machine_arguments(order.shape, attached)
        ]


def values_of(option: str, arguments: list[str]) -> list[str]:
    return [value for each, value in pairwise(arguments) if each == option]


def test_the_machine_boots_the_files_with_the_command_line_as_it_is(tmp_path: Path) -> None:
    arguments = arguments_of(order_in(tmp_path))
    assert values_of("-append", arguments) == ["console=ttyS0 a=b,c"]
    assert values_of("-bios", arguments) == ["/tmp/boot/firmware"]
    assert values_of("-kernel", arguments) == ["/tmp/boot/kernel"]
    assert values_of("-initrd", arguments) == ["/tmp/boot/initrd"]


def test_it_is_not_reset_or_powered_off_but_stops(tmp_path: Path) -> None:
    assert values_of("-action", arguments_of(order_in(tmp_path))) == ["reboot=shutdown,shutdown=pause"]
    assert "-S" in arguments_of(order_in(tmp_path))


def test_its_memory_is_a_file_of_ours_and_nothing_else_about_the_machine_changes(tmp_path: Path) -> None:
    order = order_in(tmp_path, "serial", disk=False)
    booted, read = arguments_of(order), list(machine_arguments(order.shape))
    assert values_of("-object", booted) == ["memory-backend-file,id=ram,size=1G,mem-path=/proc/self/fd/N,share=on"]
    for option in ("-accel", "-machine", "-cpu", "-smp", "-m", "-global", "-device"):
        assert values_of(option, booted) == values_of(option, read)


def test_the_first_virtio_disk_holds_the_image_read_only_and_others_have_stand_ins(tmp_path: Path) -> None:
    devices = ("virtio-net-pci", "virtio-blk-pci,addr=0x5", "virtio-blk-pci,drive=data", "serial")
    arguments = arguments_of(order_in(tmp_path, *devices))
    assert values_of("-device", arguments) == [
        "virtio-net-pci",
        "virtio-blk-pci,addr=0x5,drive=disk0",
        "virtio-rng-pci",
    ]
    assert values_of("-drive", arguments) == ["file=/tmp/boot/disk,if=none,id=disk0,format=raw,readonly=on"]
    assert values_of("-serial", arguments) == ["chardev:serial"]


def test_without_an_image_every_disk_has_a_stand_in(tmp_path: Path) -> None:
    arguments = arguments_of(order_in(tmp_path, disk=False))
    assert values_of("-device", arguments) == ["virtio-rng-pci"]
    assert values_of("-drive", arguments) == []


def test_a_machine_without_initrd_and_serial_port_gets_none(tmp_path: Path) -> None:
    arguments = arguments_of(order_in(tmp_path, "virtio-rng-pci", initrd=False))
    assert values_of("-initrd", arguments) == values_of("-serial", arguments) == []


def test_of_the_host_only_the_boot_files_are_there_and_read_only(tmp_path: Path) -> None:
    with guest_memory(GIB) as memory:
        mounts = attachment_of(order_in(tmp_path), memory, monitor=11, serial=12).mounts
    assert mounts[::3] == ("--ro-bind",) * 4
    assert set(mounts[1::3]) == {str(tmp_path / name) for name in ("OVMF.fd", "vmlinuz", "initrd.img", "rootfs.img")}


def booter(
    directory: Path, *, swtpm: str = SWTPM_SAYS, tpm: str = "sleep 1000", machine: str = "exit 1"
) -> QemuTpmBoot:
    """Emulators whose bwrap is a shell script: `swtpm` answers --version, `tpm` and `machine` are the running ones."""
    for name in ("qemu-system-x86_64", "swtpm"):
        program = directory / "root/usr/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch()
    bwrap = directory / "bwrap"
    qemu = "echo 'QEMU emulator version 10.0.2 (Debian)'"
    bwrap.write_text(
        f'#!/bin/sh\ncase "$*" in\n*swtpm\\ --version)\n{swtpm}\n;;\n*--version)\n{qemu}\n;;\n'
        f"*--tpmstate*)\n{tpm}\n;;\n*)\n{machine}\n;;\nesac\n"
    )
    bwrap.chmod(0o755)
    return QemuTpmBoot(directory / "root", bwrap=str(bwrap))


def test_the_emulators_say_their_versions(tmp_path: Path) -> None:
    assert booter(tmp_path).programs() == {"qemu": "10.0.2", "swtpm": "0.7.1"}


@pytest.mark.parametrize("says", ["true", "echo swtpm 1", "echo 'TPM emulator version 7'"])
def test_a_program_that_does_not_say_its_version_is_not_swtpm(tmp_path: Path, says: str) -> None:
    with pytest.raises(MissingError, match=r"wanted swtpm's x\.y\.z"):
        booter(tmp_path, swtpm=says).programs()


def test_a_root_without_swtpm_is_refused_and_the_package_named(tmp_path: Path) -> None:
    emulator = booter(tmp_path)
    (tmp_path / "root/usr/bin/swtpm").unlink()
    with pytest.raises(MissingError, match="has no /usr/bin/swtpm") as caught:
        emulator.programs()
    assert "swtpm" in str(caught.value.hint)
    with pytest.raises(MissingError, match="has no /usr/bin/swtpm"):
        emulator.boot(order_in(tmp_path))


def test_a_tpm_that_ends_is_told_in_its_own_words(tmp_path: Path) -> None:
    dies = "echo 'swtpm: no libtpms' >&2; exit 1"
    with pytest.raises(NotProvenError, match="ended while the machine needed its TPM(.|\n)*no libtpms"):
        booter(tmp_path, tpm=dies).boot(order_in(tmp_path))


def test_a_machine_that_qemu_refuses_is_an_error_in_its_own_words(tmp_path: Path) -> None:
    says = "echo 'qemu: -device nope: not a valid name' >&2; exit 1"
    with pytest.raises(DocumentError, match="QEMU refuses this machine: qemu: -device nope"):
        booter(tmp_path, machine=says).boot(order_in(tmp_path))


def interrupted_once_there(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)
    raise KeyboardInterrupt


def test_the_tpm_ends_with_the_block_whatever_happens_in_it(tmp_path: Path) -> None:
    booter(tmp_path, tpm=f"echo $$ >{tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 1000")
    tpm = Swtpm(tmp_path / "root", bwrap=str(tmp_path / "bwrap"))
    with pytest.raises(KeyboardInterrupt), tpm.machine_part():
        interrupted_once_there(tmp_path / "pid")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"until": "ready", "devices": ("virtio-rng-pci",)}, "has no serial port"),
        ({"until": ""}, "empty text"),
        ({"until": "ttyS0 a"}, "is in the command line"),
        ({"until": "console=ttyS0 a=b,c"}, "is in the command line"),
        ({"numa_nodes": 2}, "NUMA"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused_before_anything_runs(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    order = replace(order_in(tmp_path), until=change.pop("until", None))  # type: ignore[arg-type]
    order = replace(order, shape=replace(order.shape, vmm=replace(order.shape.vmm, **change)))  # type: ignore[arg-type]
    with pytest.raises(DocumentError, match=message):
        QemuTpmBoot(tmp_path / "no such root").boot(order)


def disk_alone(path: Path) -> DirectBoot:
    return replace(order_in(path, initrd=False), kernel=None, command_line="")


def test_without_a_kernel_the_machine_gets_its_disk_and_nothing_to_start(tmp_path: Path) -> None:
    arguments = arguments_of(disk_alone(tmp_path))
    assert not {"-kernel", "-append", "-initrd"} & set(arguments)
    assert values_of("-drive", arguments) == ["file=/tmp/boot/disk,if=none,id=root,format=raw,readonly=on"]


@pytest.mark.parametrize("change", [{"disk": None}, {"initrd": Path("initrd")}, {"command_line": "quiet"}])
def test_without_a_kernel_there_is_a_disk_alone(tmp_path: Path, change: dict[str, object]) -> None:
    order = replace(disk_alone(tmp_path), **change)  # type: ignore[arg-type]
    with pytest.raises(DocumentError, match="no kernel to boot"):
        QemuTpmBoot(tmp_path / "no such root").boot(order)


def test_tables_of_the_rehearsed_machine_are_those_of_a_firmware_that_looks_at_option_roms(tmp_path: Path) -> None:
    """It is no TD: a device with a ROM moves its BAR here, and not in the prediction."""
    machine = f"cd {Path(__file__).parents[3]}; exec {sys.executable} -m tests.fakes.qemu_process"
    shape = order_in(tmp_path, "virtio-net-pci", "serial").shape
    rehearsed = booter(tmp_path, machine=machine).tables(shape)
    predicted = QemuAcpiReader(tmp_path / "root", bwrap=str(tmp_path / "bwrap")).read(shape)
    bars = [int.from_bytes(each.tables[DSDT_BODY : DSDT_BODY + 4], "little") for each in (rehearsed, predicted)]
    assert bars == [0x80040000, 0x80000000]


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    emulator = booter(tmp_path)
    before = open_descriptors()
    for _ in range(3):
        with pytest.raises(DocumentError):
            emulator.boot(order_in(tmp_path))
    assert open_descriptors() == before


def test_the_control_channel_is_one_connected_socket(tmp_path: Path) -> None:
    booter(tmp_path)
    with Swtpm(tmp_path / "root", bwrap=str(tmp_path / "bwrap")).machine_part() as part:
        (descriptor,) = part.descriptors
        assert f"fd={descriptor}" in " ".join(part.arguments)
        with socket.socket(fileno=os.dup(descriptor)) as channel:
            assert channel.family == socket.AF_UNIX
