"""Booting an unchanged image under QEMU's emulation with a software TPM, and reading its event log from outside.

How the log is taken, and why so:

- Nothing in the guest helps: no program, no other initrd, no kernel option. What would be measured stays what it is.
- The guest's memory is a file that we can read (`guest_memory`). The ACPI TPM2 table does not help to find the log:
  QEMU announces an area there (LASA, `etc/tpm/log`) that OVMF never writes. So the memory is searched for logs, after
  the processors have been stopped (`builder.measure.evidence.guest_log`).
- What was found is believed only if it replays to the PCRs of the TPM. Those are read over qtest from the registers of
  the TPM itself, with the processors stopped (`tpm_crb`): neither firmware nor kernel are asked.
- QEMU does not power the machine off or reset it, but stops (`-action`), so that memory and TPM stay as they were.

QEMU and swtpm run in bubblewrap, with the pinned root as their file system, no network, and of the host nothing but the
boot files, read-only. They end with the block that started them, on errors and on Ctrl-C as well.
"""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from builder.backends.emulator.boot_watch import SerialPort, Watch
from builder.backends.emulator.guest_memory import GuestMemory, guest_memory
from builder.backends.emulator.qemu import Attachment, QemuAcpiReader
from builder.backends.emulator.qmp import Qmp, QmpClosedError
from builder.backends.emulator.qtest import Qtest
from builder.backends.emulator.swtpm import Swtpm
from builder.backends.emulator.tpm_crb import read_pcrs
from builder.errors import DocumentError
from builder.measure.acpi.blobs import AcpiBlobs
from builder.measure.evidence.guest_log import candidate_logs
from builder.measure.rehearsal import BootObservation
from builder.ports import DirectBoot, MachineShape

_FILES = "/tmp/boot"  # noqa: S108 - inside the sandbox
_DISK_KINDS = ("virtio-blk-pci", "virtio-blk-pci-transitional", "virtio-blk-pci-non-transitional")
_DRIVE = "drive"
_SERIAL = "serial"
_ANSWER_SECONDS = 120.0
_STAYING_SECONDS = 15.0  # after it has left boot services: a guest that then still runs, runs
_SEARCH_SECONDS = 60.0  # in memory, once the guest is stopped; an ordinary one takes less than one
_UNUSED_PORT = 0x80


class QemuTpmBoot:
    """A BootEmulator of `builder.ports` for the QEMU and the swtpm in one pinned root."""

    def __init__(self, root: Path, *, bwrap: str = "bwrap", staying: float = _STAYING_SECONDS) -> None:
        """`root` holds /usr/bin/qemu-system-x86_64, /usr/bin/swtpm and all they need. Nothing is run yet.

        A guest that runs on for `staying` seconds after it was found to have left boot services is said to stay up.
        """
        self._staying = staying
        self._swtpm = Swtpm(root, bwrap=bwrap)
        self._qemu = QemuAcpiReader(root, bwrap=bwrap)

    def programs(self) -> Mapping[str, str]:
        """QEMU and swtpm with their versions. MissingError if the root lacks one, or bubblewrap cannot run it."""
        return {"qemu": self._qemu.version(), "swtpm": self._swtpm.version()}

    def boot(self, order: DirectBoot) -> BootObservation:
        """Boot, stop, and read log and PCRs; the ACPI tables come from a second machine, which runs nothing."""
        _check_shape(order)
        programs = self.programs()
        acpi = self.tables(order.shape)
        with guest_memory(order.shape.memory) as memory, self._machine(order, memory) as (qtest, watch):
            try:
                end = watch.run()
            except QmpClosedError:
                qtest.read_port(_UNUSED_PORT)  # says how QEMU ended, in its own words
                raise
            deadline = time.monotonic() + _SEARCH_SECONDS
            logs = candidate_logs(memory, expired=lambda: time.monotonic() > deadline)
            return BootObservation(logs, read_pcrs(qtest), acpi, end, programs)

    def tables(self, shape: MachineShape) -> AcpiBlobs:
        """The ACPI tables that the firmware of this machine measures here: with a TPM, and outside a TD."""
        with self._swtpm.machine_part() as tpm:
            return self._qemu.read(shape, tpm, option_roms=True)

    @contextmanager
    def _machine(self, order: DirectBoot, memory: GuestMemory) -> Iterator[tuple[Qtest, Watch]]:
        """The whole machine, stopped before its first instruction."""
        with ExitStack() as stack:
            tpm = stack.enter_context(self._swtpm.machine_part())
            monitor, monitor_end = _sockets(stack)
            serial, serial_end = _sockets(stack)
            own = attachment_of(order, memory, monitor=monitor_end.fileno(), serial=serial_end.fileno())
            attached = replace(
                own, arguments=(*own.arguments, *tpm.arguments), descriptors=(*own.descriptors, *tpm.descriptors)
            )
            qtest = stack.enter_context(self._qemu.stopped_machine(order.shape, attached))
            monitor_end.close()  # else the end of QEMU would not show
            serial_end.close()
            log = stack.enter_context(order.serial_log.open("wb"))
            qmp = Qmp(monitor, timeout=_ANSWER_SECONDS)
            yield qtest, Watch(order, qmp, SerialPort(serial, log), memory, staying=self._staying)


def _check_shape(order: DirectBoot) -> None:
    if order.shape.vmm.numa_nodes:
        raise DocumentError("a machine with NUMA nodes cannot be rehearsed: its memory is in several parts")
    if order.kernel is None and (order.disk is None or order.initrd is not None or order.command_line):
        raise DocumentError(
            "no kernel to boot: a machine without one boots from a disk, and gets no initrd or command line",
            hint="give a kernel, or a disk alone",
        )
    _check_text(order)


def _check_text(order: DirectBoot) -> None:
    if order.until is None:
        return
    if _SERIAL not in order.shape.vmm.devices:
        raise DocumentError(
            f"the text {order.until!r} can never come: the machine has no serial port",
            hint="add `serial` to its devices, which changes RTMR0, or do not wait for a text",
        )
    if order.until == "":
        raise DocumentError("an empty text is there before anything has happened", hint="name a line of the guest")
    if order.until in order.command_line:
        raise DocumentError(
            f"the text {order.until!r} is in the command line, which Linux says on its console by itself",
            hint="wait for a text that only the working guest says",
        )


def _sockets(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    return stack.enter_context(ours), stack.enter_context(theirs)


def attachment_of(order: DirectBoot, memory: GuestMemory, *, monitor: int, serial: int) -> Attachment:
    """Boot files, memory, monitor and serial port; the machine has nothing of it that a TD would not have."""
    files = {"firmware": order.firmware, "kernel": order.kernel, "initrd": order.initrd, "disk": order.disk}
    given = {name: path for name, path in files.items() if path is not None}
    devices = dict(_devices(order.shape, order.disk is not None))
    arguments = [
        *("-bios", f"{_FILES}/firmware"),
        *(("-kernel", f"{_FILES}/kernel", "-append", order.command_line) if order.kernel else ()),
        *(("-initrd", f"{_FILES}/initrd") if order.initrd else ()),
        *("-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control"),
        *("-chardev", f"socket,id=serial,fd={serial}"),
        *("-action", "reboot=shutdown,shutdown=pause"),
    ]
    for _, value in devices.values():
        if (drive := _drive_of(value)) is not None:
            arguments += ["-drive", f"file={_FILES}/disk,if=none,id={drive},format=raw,readonly=on"]
    mounts = [word for name, path in given.items() for word in ("--ro-bind", str(path.absolute()), f"{_FILES}/{name}")]
    return Attachment(
        arguments=tuple(arguments),
        mounts=tuple(mounts),
        descriptors=(memory.descriptor, monitor, serial),
        devices=devices,
        memory=memory.backend,
    )


def _devices(shape: MachineShape, disk: bool) -> Iterator[tuple[int, tuple[str, str]]]:
    """Devices that are there for real instead of a stand-in: the serial port, and the first virtio disk."""
    for place, device in enumerate(shape.vmm.devices):
        if device == _SERIAL:
            yield place, ("-serial", "chardev:serial")
    kinds = [device.partition(",")[0] for device in shape.vmm.devices]
    places = [place for place, kind in enumerate(kinds) if kind in _DISK_KINDS]
    if disk and places:
        device = shape.vmm.devices[places[0]]
        yield places[0], ("-device", device if _drive_of(device) else f"{device},{_DRIVE}=disk0")


def _drive_of(device: str) -> str | None:
    return dict(each.partition("=")[::2] for each in device.split(",")).get(_DRIVE)
