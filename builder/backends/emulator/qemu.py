"""The ACPI tables of a machine shape, read from a stopped, unmodified QEMU of a pinned root (`acpi.md` 2).

QEMU runs in bubblewrap with the pinned root as its whole file system: no program, library or ROM of the host is used.
No guest code runs; KVM and TDX are not needed. A VM generation ID has files that a shape does not say, and is refused.
"""

import re
import select
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from builder.backends import process
from builder.backends.emulator.qemu_firmware import (
    MINIMUM_MEMORY,
    program_machine,
    program_without_bridges,
    read_acpi_files,
)
from builder.backends.emulator.qtest import Qtest
from builder.backends.leg_arguments import ISOLATION, PROC
from builder.backends.leg_environment import require_in_root
from builder.errors import BuilderError, DocumentError, MissingError, NotProvenError
from builder.measure.acpi.blobs import AcpiBlobs, check_acpi
from builder.measure.acpi.pci_resources import PHYSICAL_BITS
from builder.model.recipe import VmmSpec
from builder.model.size import format_size
from builder.ports import MachineShape

_QEMU = "/usr/bin/qemu-system-x86_64"
_VERSION = re.compile(rb"QEMU emulator version ([0-9]+\.[0-9]+\.[0-9]+)\b")
_VERSION_SECONDS = 60.0
_CHUNK = 1 << 16
_UNUSED_PORT = 0x80  # POST codes: reading has no effect

# what only a launch with TDX needs (`acpi.md` 2.2), and what a stopped QEMU without it would choose otherwise (2.7)
_LAUNCH_ONLY = ("accel", "confidential-guest-support")
_MUST_BE_STATED = ("pic", "smm")
_BACKEND = "memory-backend"

# Kinds that need a disk, a socket or a directory of the host. Tables show occupied slots only (`acpi.md` 2.7), so that
# a device without needs stands in; of its properties, those that choose a slot stay.
_NEEDS_THE_HOST = frozenset(
    name + suffix
    for name in ("virtio-blk-pci", "virtio-9p-pci", "vhost-vsock-pci", "vhost-user-fs-pci")
    for suffix in ("", "-transitional", "-non-transitional")
)
_STAND_IN = "virtio-rng-pci"
_HOST_DEVICES = ("vfio-pci", "vfio-pci-nohotplug")
_SLOT_PROPERTIES = ("id", "bus", "addr", "multifunction")
_SERIAL = "serial"


@dataclass(frozen=True)
class Attachment:
    """What a machine gets besides its shape, which need not show in its tables.

    `arguments` follow those of the shape, `mounts` are of its sandbox, `descriptors` are inherited; `devices` are words
    for places in `VmmSpec.devices` that then get no stand-in; `memory` is the kind of its backend, with options.
    """

    arguments: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()
    devices: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    memory: str = "memory-backend-ram,reserve=off"  # takes no memory of the host


_NOTHING = Attachment()


class QemuAcpiReader:
    """An AcpiReader of `builder.ports` for the QEMU in one pinned root. Every read starts a QEMU of its own."""

    def __init__(self, root: Path, *, bwrap: str = "bwrap", timeout: float = 120.0) -> None:
        """`root` holds /usr/bin/qemu-system-x86_64 and all it needs; `timeout` is for each of QEMU's answers, seconds.

        Start-up counts as one answer and takes longer than linear in vCPUs: 1 s for 300, 15 s for 1024.
        """
        self._root = root
        self._bwrap = shutil.which(bwrap) or bwrap  # QEMU gets no environment, and so no PATH to look in
        self._timeout = timeout
        self._version: str | None = None
        self._mutex = threading.Lock()

    def version(self) -> str:
        """What the pinned QEMU says it is. MissingError if there is none, or bubblewrap cannot run it."""
        with self._mutex:
            if self._version is None:
                self._version = self._read_version()
            return self._version

    def read(self, shape: MachineShape, attached: Attachment = _NOTHING, *, option_roms: bool = False) -> AcpiBlobs:
        """The three blobs as OVMF finds them, checked for form and number of processors. Errors as in the port.

        `option_roms` is for a machine that is no TD: there OVMF looks at them, which moves windows of bridges.
        """
        with self.stopped_machine(shape, attached) as qtest:
            program_machine(qtest, edk2=shape.edk2, memory=shape.memory, option_roms=option_roms)
            blobs = read_acpi_files(qtest)
        check_acpi(blobs, shape.vcpus)
        return blobs

    def read_with_unprogrammed_bridges(self, shape: MachineShape) -> AcpiBlobs:
        """Blobs that no firmware finds where there are bridges: for comparing with digests that others publish."""
        with self.stopped_machine(shape) as qtest:
            program_without_bridges(qtest, edk2=shape.edk2, memory=shape.memory)
            return read_acpi_files(qtest)

    @contextmanager
    def stopped_machine(self, shape: MachineShape, attached: Attachment = _NOTHING) -> Iterator[Qtest]:
        """A machine of this shape as it is after reset, until the end of the block. Errors as in `read`."""
        command = self._command(*machine_arguments(shape, attached), mounts=attached.mounts)
        self._check_version(shape)
        started = False
        try:
            with process.start(command, environment={}, interactive=True, pass_fds=attached.descriptors) as program:
                qtest = Qtest(ProgramChannel(program, self._timeout))
                qtest.read_port(_UNUSED_PORT)
                started = True
                yield qtest
        except _QemuEndedError as ended:  # only now is all of its output there
            raise _end_error(program, ended.exit_status, refused=not started) from None

    def _check_version(self, shape: MachineShape) -> None:
        found = self.version()
        if found != shape.vmm.version:
            raise DocumentError(
                f"the QEMU in the pinned root {self._root} is version {found}, the profile says {shape.vmm.version}",
                hint="pin the VMM's own version in `roots.vmm`: tables differ from version to version",
            )

    def _read_version(self) -> str:
        require_in_root(self._root, _QEMU, package="qemu-system-x86")
        command = self._command("--version")
        done = process.run(command, environment={}, timeout=_VERSION_SECONDS, failure=MissingError)
        match = _VERSION.match(done.stdout)
        if match is None:
            raise MissingError(f"{self._root}{_QEMU}: says {done.stdout[:60]!r} for its version, wanted QEMU's x.y.z")
        return match[1].decode("ascii")

    def _command(self, *arguments: str, mounts: Sequence[str] = ()) -> Sequence[str]:
        own = ("--ro-bind", str(self._root), "/", "--dev", "/dev", *PROC, "--tmpfs", "/tmp")  # noqa: S108
        return (self._bwrap, *ISOLATION, *own, *mounts, "--", _QEMU, *arguments)


def machine_arguments(shape: MachineShape, attached: Attachment = _NOTHING) -> tuple[str, ...]:
    """QEMU's arguments for a shape, from `-accel` to `-qtest`. DocumentError for a shape that cannot be read out so."""
    _check_memory(shape.memory)
    _check_physical_bits(shape.vmm.cpu)
    machine, backend = _machine(shape.vmm)
    return (
        *("-accel", "tcg,thread=single", "-S", "-display", "none", "-vga", "none"),
        *("-nodefaults", "-no-user-config"),
        *("-machine", machine, "-cpu", shape.vmm.cpu, "-smp", str(shape.vcpus)),
        *("-m", format_size(shape.memory), *_memory(shape, backend, attached.memory)),
        *_globals(shape),
        *_devices(shape.vmm.devices, attached.devices),
        *attached.arguments,
        *("-qtest", "stdio", "-qtest-log", "/dev/null"),
    )


def _check_memory(memory: int) -> None:
    if memory < MINIMUM_MEMORY:
        raise DocumentError(f"memory of {memory} bytes, wanted {format_size(MINIMUM_MEMORY)} or more")


def _check_physical_bits(cpu: str) -> None:
    """The firmware's 64-bit PCI window follows from them, and is known for one value only (`acpi.md` 2.5)."""
    wanted = f"phys-bits={PHYSICAL_BITS}"
    if wanted not in cpu.split(",")[1:]:
        raise DocumentError(
            f"CPU {cpu!r} is not said to have {PHYSICAL_BITS} physical address bits, as TDX hosts do",
            hint=f"write for example `Skylake-Server,{wanted}`; another PCI window is not predicted",
        )


def _machine(vmm: VmmSpec) -> tuple[str, str]:
    """The value of -machine, and the id of the memory backend that it names unless there are NUMA nodes."""
    kind, *rest = vmm.machine.split(",")
    values = dict(option.partition("=")[::2] for option in rest)
    if kind != "q35":
        raise DocumentError(f"machine {vmm.machine!r} is not a q35")
    for name in _MUST_BE_STATED:
        if name not in values:
            raise DocumentError(
                f"machine {vmm.machine!r} leaves {name} to QEMU, which decides otherwise in a TD than without one",
                hint=f"write `{name}=off` or `{name}=on`, as the VMM has it: the ACPI tables show it",
            )
    kept = {name: value for name, value in values.items() if name not in _LAUNCH_ONLY}
    backend = kept.setdefault(_BACKEND, "ram")
    if vmm.numa_nodes:
        del kept[_BACKEND]  # nodes bring their own
    return ",".join((kind, *(f"{name}={value}" for name, value in kept.items()))), backend


def _memory(shape: MachineShape, backend: str, kind: str) -> Iterator[str]:
    """The memory backend of the machine, or one of each NUMA node with its share of the vCPUs."""
    name, _, options = kind.partition(",")
    nodes = shape.vmm.numa_nodes
    if not nodes:
        yield from ("-object", f"{name},id={backend},size={format_size(shape.memory)},{options}")
        return
    _check_nodes(shape)
    share, size = shape.vcpus // nodes, format_size(shape.memory // nodes)
    for node in range(nodes):
        yield from ("-object", f"{name},id={backend}{node},size={size},{options}")
        cpus = f"cpus={node * share}-{(node + 1) * share - 1}"
        yield from ("-numa", f"node,nodeid={node},memdev={backend}{node},{cpus}")


def _check_nodes(shape: MachineShape) -> None:
    nodes = shape.vmm.numa_nodes
    if nodes < 0 or shape.vcpus % nodes or shape.memory % nodes:
        raise DocumentError(
            f"{shape.vcpus} vCPUs and {shape.memory} bytes of memory cannot be shared evenly by {nodes} NUMA nodes",
            hint="write numbers that can be divided, or 0 nodes for a machine without NUMA",
        )


def _globals(shape: MachineShape) -> Iterator[str]:
    if shape.vmm.pci_hole64 is not None:
        yield from ("-global", f"q35-pcihost.pci-hole64-size={shape.vmm.pci_hole64}")
    if not shape.vmm.bridge_hotplug:
        yield from ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")


def _devices(devices: Sequence[str], attached: Mapping[int, tuple[str, str]]) -> Iterator[str]:
    for place, device in enumerate(devices):
        yield from attached.get(place) or _device(device)


def _device(device: str) -> tuple[str, str]:
    if device == _SERIAL:
        return ("-serial", "null")
    kind, *properties = device.split(",")
    if kind in _HOST_DEVICES:
        raise DocumentError(
            f"device {device!r} is one of the host's, whose BARs nobody knows here",
            hint="write a device with a BAR as large in its place, such as `pci-testdev,membar=128G`",
        )
    if kind in _NEEDS_THE_HOST:
        kept = (each for each in properties if each.partition("=")[0] in _SLOT_PROPERTIES)
        device = ",".join((_STAND_IN, *kept))
    return ("-device", device)


class _QemuEndedError(Exception):
    """QEMU ended while it was spoken to; raised again as a BuilderError once its output is complete."""

    def __init__(self, exit_status: int | None) -> None:
        super().__init__(exit_status)
        self.exit_status = exit_status


class ProgramChannel:
    """A Channel over the pipes of a running QEMU."""

    def __init__(self, program: process.Program, timeout: float) -> None:
        """`program` is interactive; `timeout` is for each answer, seconds."""
        self._program = program
        self._timeout = timeout
        self._poll = select.poll()
        self._poll.register(program.stdout.fileno(), select.POLLIN)

    def send(self, data: bytes) -> None:
        """All of it, however often a signal comes in between."""
        try:
            process.write_all(self._program.stdin, data)
        except BrokenPipeError:
            raise self._ended() from None

    def receive(self) -> bytes:
        """What QEMU has said. NotProvenError after the timeout."""
        if not self._poll.poll(self._timeout * 1000):
            raise self._program.error(NotProvenError, f"(QEMU) gave no answer within {self._timeout:g} s")
        data = self._program.stdout.read(_CHUNK)
        if not data:
            raise self._ended()
        return data

    def _ended(self) -> _QemuEndedError:
        return _QemuEndedError(self._program.wait(self._timeout))


def _end_error(program: process.Program, status: int | None, *, refused: bool) -> BuilderError:
    """DocumentError if QEMU refused its arguments (exit status 1 before the first answer), else NotProvenError."""
    if not (refused and status == 1):
        return program.error(NotProvenError, f"(QEMU) ended with status {status} while its tables were being read")
    lines = [line for line in program.end_of_output().splitlines() if line and "warning:" not in line]
    complaints = [line for line in lines if line.startswith("qemu")] or lines  # the first line may be half a warning
    return DocumentError(
        f"QEMU refuses this machine: {'; '.join(complaints) or 'it does not say why'}",
        hint="correct `measure.vmm` of the recipe; devices must not name drives, netdevs or other things of a host",
    )
