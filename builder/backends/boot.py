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

import select
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from builder.backends.guest_memory import GuestMemory, guest_memory
from builder.backends.qemu import Attachment, QemuAcpiReader
from builder.backends.qmp import Qmp, QmpClosedError
from builder.backends.qtest import Qtest
from builder.backends.swtpm import Swtpm
from builder.backends.tpm_crb import read_pcrs
from builder.errors import DocumentError
from builder.measure.evidence.guest_log import candidate_logs, left_boot_services
from builder.measure.rehearsal import BootObservation
from builder.model.rehearsal import BootEnd
from builder.ports import DirectBoot, MachineShape

_FILES = "/tmp/boot"  # noqa: S108 - inside the sandbox
_DISK_KINDS = ("virtio-blk-pci", "virtio-blk-pci-transitional", "virtio-blk-pci-non-transitional")
_DRIVE = "drive"
_SERIAL = "serial"
_MAX_SERIAL = 16 << 20  # what is kept of a guest that does not stop talking
_CHUNK = 1 << 16
_MOST_CHUNKS = 256
_ANSWER_SECONDS = 120.0
_POLL_MILLISECONDS = 500
_LOOK_SECONDS = 2.0  # between looks at whether a guest has left boot services
_STAYING_SECONDS = 15.0  # after it has: a guest that then still runs, runs
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
        with self._swtpm.machine_part() as tpm:
            acpi = self._qemu.read(order.shape, tpm)
        with guest_memory(order.shape.memory) as memory, self._machine(order, memory) as (qtest, watch):
            try:
                end = watch.run()
            except QmpClosedError:
                qtest.read_port(_UNUSED_PORT)  # says how QEMU ended, in its own words
                raise
            return BootObservation(candidate_logs(memory), read_pcrs(qtest), acpi, end, programs)

    @contextmanager
    def _machine(self, order: DirectBoot, memory: GuestMemory) -> Iterator[tuple[Qtest, "_Watch"]]:
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
            yield qtest, _Watch(order, qmp, _Serial(serial, log), memory, staying=self._staying)


class _Serial:
    """What the serial port says: kept in a file, and its end in memory."""

    def __init__(self, connection: socket.socket, log: BinaryIO) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._log = log
        self._kept = 0
        self._end = b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self, wanted: bytes | None) -> bool:
        """Take what is there; gives whether `wanted` has come."""
        seen = False
        for _ in range(_MOST_CHUNKS):  # else a guest that never stops talking would never be stopped
            if not (data := self._receive()):
                break
            if self._kept < _MAX_SERIAL:
                self._log.write(data)
                self._log.flush()
                self._kept += len(data)
            text = self._end + data
            seen = seen or (wanted is not None and wanted in text)
            self._end = text[-len(wanted or b"") :] if wanted else b""
        return seen

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_CHUNK)
        except OSError:  # nothing is there yet, or QEMU has ended, which the monitor tells
            return b""


class _Watch:
    """Lets the guest run until there is a reason to stop it."""

    def __init__(self, order: DirectBoot, qmp: Qmp, serial: _Serial, memory: GuestMemory, *, staying: float) -> None:
        self._order = order
        self._qmp = qmp
        self._serial = serial
        self._memory = memory
        self._wanted = order.until.encode("utf-8") if order.until else None
        self._staying = staying
        self._left_at: float | None = None

    def run(self) -> BootEnd:
        """Start the processors; they are stopped when this returns."""
        self._qmp.execute("cont")
        end = self._wait()
        self._qmp.execute("stop")
        self._serial.read(None)
        return end

    def _wait(self) -> BootEnd:
        start = looked = time.monotonic()
        poll = select.poll()
        poll.register(self._qmp, select.POLLIN)
        poll.register(self._serial, select.POLLIN)
        while (now := time.monotonic()) - start < self._order.limit:
            if now - looked > _LOOK_SECONDS:
                looked = now
                if self._stays_up(now):
                    return BootEnd.STAYED_UP
            ready = {descriptor for descriptor, _ in poll.poll(_POLL_MILLISECONDS)}
            if self._serial.read(self._wanted):
                return BootEnd.TEXT_SEEN
            if self._qmp.fileno() in ready and (end := self._end_told()):
                return end
        return BootEnd.TIME_LIMIT

    def _end_told(self) -> BootEnd | None:
        for event in self._qmp.events():
            if event["event"] == "SHUTDOWN":
                reason = event.get("data", {}).get("reason")
                return BootEnd.RESET if reason == "guest-reset" else BootEnd.POWERED_OFF
        return None

    def _stays_up(self, now: float) -> bool:
        """Whether nobody waits for a text, and the guest left boot services long enough ago.

        Looked for in memory while the guest runs, so that this is a reason to stop it and nothing more.
        """
        if self._wanted is not None:
            return False
        if self._left_at is None and any(left_boot_services(log) for log in candidate_logs(self._memory)):
            self._left_at = now
        return self._left_at is not None and now - self._left_at >= self._staying


def _check_shape(order: DirectBoot) -> None:
    if order.shape.vmm.numa_nodes:
        raise DocumentError("a machine with NUMA nodes cannot be rehearsed: its memory is in several parts")
    if order.until is not None and _SERIAL not in order.shape.vmm.devices:
        raise DocumentError(
            f"the text {order.until!r} can never come: the machine has no serial port",
            hint="add `serial` to its devices, which changes RTMR0, or do not wait for a text",
        )
    if order.until == "":
        raise DocumentError("an empty text is there before anything has happened", hint="name a line of the guest")


def _sockets(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    return stack.enter_context(ours), stack.enter_context(theirs)


def attachment_of(order: DirectBoot, memory: GuestMemory, *, monitor: int, serial: int) -> Attachment:
    """Boot files, memory, monitor and serial port; the machine has nothing of it that a TD would not have."""
    files = {"firmware": order.firmware, "kernel": order.kernel, "initrd": order.initrd, "disk": order.disk}
    given = {name: path for name, path in files.items() if path is not None}
    devices = dict(_devices(order.shape, order.disk is not None))
    arguments = [
        *("-bios", f"{_FILES}/firmware", "-kernel", f"{_FILES}/kernel", "-append", order.command_line),
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
