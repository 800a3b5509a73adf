"""A QEMU to start as a process: its machine has a device with an option ROM, and tables that show where its BAR is."""

import sys

from builder.measure.acpi.blobs import LOADER_FILE, RSDP_FILE, TABLES_FILE
from builder.measure.acpi.loader import blobs_for
from tests.fakes.fake_qtest import FakeFunction, FakeQemu, acpi_tables

PLACE = (1, 0)
DSDT_BODY = 64 + 36  # in the tables, behind FACS and its own header


def files_of(qemu: FakeQemu) -> dict[str, bytes]:
    """The fw_cfg files, with the BAR in the place of a DSDT."""
    blobs = blobs_for(acpi_tables(1, qemu.functions[PLACE].space[0x10:0x14]))
    return {LOADER_FILE: blobs.loader, RSDP_FILE: blobs.rsdp, TABLES_FILE: blobs.tables}


def main() -> None:
    """Answer qtest on standard input until it ends."""
    qemu = FakeQemu(build=files_of)
    qemu.functions[PLACE] = FakeFunction(0x10411AF4, bars={0: (0, 4096)}, rom_size=1 << 18)
    for line in sys.stdin.buffer:
        size = len(qemu.commands)
        qemu.send(line)
        answered = 0
        while answered < len(qemu.commands) - size:
            chunk = qemu.receive()
            answered += chunk.count(b"\n")
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
