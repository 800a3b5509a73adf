"""A stopped QEMU in memory, spoken to over the qtest protocol: a few PCI functions, guest memory and fw_cfg.

Like QEMU it builds the ACPI tables anew when they are selected, from what has been programmed by then.
"""

import mmap
import struct
from collections.abc import Callable, Iterable

from builder.errors import NotProvenError

TABLES_SIZE = 131072
HOST_BRIDGE_ID = 0x29C08086
LPC_ID = 0x29188086
VIRTIO_ID = 0x10441AF4
ROOT_PORT_ID = 0x000C1B36
PXB_PCIE_ID = 0x000B1B36
PCI_BRIDGE_ID = 0x00011B36


def table(signature: bytes, body: bytes) -> bytes:
    """An ACPI table: the part of its header that anything here looks at, then `body`."""
    return struct.pack("<4sI28x", signature, 36 + len(body)) + body


def acpi_tables(vcpus: int, dsdt: bytes = b"") -> bytes:
    """A tables blob with this many processors, with `dsdt` as the body of its DSDT."""
    facs = b"FACS" + struct.pack("<I", 64) + bytes(56)
    processors = b"".join(struct.pack("<BBBBI", 0, 8, i, i, 1) for i in range(vcpus))
    parts = [facs, table(b"DSDT", dsdt), table(b"FACP", bytes(208)), table(b"APIC", bytes(8) + processors)]
    offsets = [sum(map(len, parts[:index])) for index in range(2, 4)]
    parts.append(table(b"RSDT", struct.pack("<2I", *offsets)))
    return b"".join(parts).ljust(TABLES_SIZE, b"\0")


class FakeFunction:
    """Configuration space of one PCI function: what was written is read back; `bars` hold their type bits at reset."""

    def __init__(self, identity: int, *, header_type: int = 0, bars: Iterable[int] = ()) -> None:
        self.space = bytearray(256)
        struct.pack_into("<I", self.space, 0, identity)
        self.space[0x0E] = header_type
        for index, bar in enumerate(bars):
            struct.pack_into("<I", self.space, 0x10 + 4 * index, bar)

    def dword(self, register: int) -> int:
        """Four bytes at `register`."""
        value: int = struct.unpack_from("<I", self.space, register)[0]
        return value


def virtio_device() -> FakeFunction:
    """A device as QEMU's virtio ones: BAR 1 is a 32-bit one, BAR 4 a 64-bit one."""
    return FakeFunction(VIRTIO_ID, bars=(0, 0, 0, 0, 0b1100, 0))


class FakeQemu:
    """A Channel to such a machine. Tests change its attributes to make it fail."""

    def __init__(self, *, build: Callable[["FakeQemu"], dict[str, bytes]]) -> None:
        """`build` makes the fw_cfg files each time that one is selected."""
        self.functions = {
            (0, 0): FakeFunction(HOST_BRIDGE_ID),
            (1, 0): virtio_device(),
            (31, 0): FakeFunction(LPC_ID, header_type=0x80),
            (31, 2): FakeFunction(0x29228086, bars=(0, 0, 0, 0, 1, 0)),
        }
        self.memory = mmap.mmap(-1, 64 << 20)  # takes no memory until it is written
        self.dma_status = 0
        self.answer: Callable[[str, str], str] = lambda _command, answer: answer
        self.commands: list[str] = []
        self._build = build
        self._address = 0
        self._output = bytearray()

    def send(self, data: bytes) -> None:
        """Run each command line and keep its answer."""
        for line in data.decode("ascii").splitlines():
            self.commands.append(line)
            self._output += self.answer(line, self._run(line) + "\n").encode()

    def receive(self) -> bytes:
        """What is there, in pieces that end anywhere; an error once nothing is left, as from a QEMU that is silent."""
        if not self._output:
            raise NotProvenError("the fake QEMU gave no answer")
        chunk = bytes(self._output[:1000])
        del self._output[:1000]
        return chunk

    def files(self) -> dict[str, bytes]:
        """The fw_cfg files as they are now."""
        return self._build(self)

    def _run(self, line: str) -> str:
        name, *words = line.split(" ")
        if name == "write":
            address, data = int(words[0], 16), bytes.fromhex(words[2][2:])
            self.memory[address : address + len(data)] = data
            return "OK"
        numbers = [int(word, 16) for word in words]
        if name == "read":
            return f"OK 0x{self.memory[numbers[0] : numbers[0] + numbers[1]].hex()}"
        if name.startswith("in"):
            return f"OK {self._read_port(numbers[0]):#06x}"
        self._write_port(*numbers, size={"b": 1, "w": 2, "l": 4}[name[3:]])
        return "OK"

    def _selected(self) -> tuple[FakeFunction | None, int]:
        place = (self._address >> 11 & 31, self._address >> 8 & 7)
        return self.functions.get(place), self._address & 0xFC

    def _read_port(self, port: int) -> int:
        if port != 0xCFC:
            return 0
        function, register = self._selected()
        return 0xFFFFFFFF if function is None else function.dword(register)

    def _write_port(self, port: int, value: int, *, size: int) -> None:
        if port == 0xCF8:
            self._address = value
        elif port == 0x518:
            self._transfer(int.from_bytes(value.to_bytes(4, "big"), "little"))
        elif 0xCFC <= port < 0xD00:
            function, register = self._selected()
            if function is not None:
                start = register + port - 0xCFC
                function.space[start : start + size] = value.to_bytes(size, "little")

    def _transfer(self, block: int) -> None:
        control, length, address = struct.unpack_from(">IIQ", self.memory, block)
        item = self._item(control >> 16)[:length].ljust(length, b"\0")
        self.memory[address : address + length] = item
        struct.pack_into(">I", self.memory, block, self.dma_status)

    def _item(self, selector: int) -> bytes:
        files = self.files()
        if selector != 0x19:
            return list(files.values())[selector - 0x20]
        entries = (
            struct.pack(">IHH56s", len(data), 0x20 + index, 0, name.encode())
            for index, (name, data) in enumerate(files.items())
        )
        return struct.pack(">I", len(files)) + b"".join(entries)
