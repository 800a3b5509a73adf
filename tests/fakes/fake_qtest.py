"""A stopped QEMU in memory, spoken to over the qtest protocol: a few PCI functions, guest memory and fw_cfg.

Like QEMU it builds the ACPI tables anew when they are selected, from what has been programmed by then.
"""

import mmap
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

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


Functions = dict[tuple[int, int], "FakeFunction"]


class FakeFunction:
    """Configuration space of one PCI function.

    `bars` are type bits and size of each base address register by its number; other registers hold what was written.
    `children` are what is behind a bridge, by device and function.
    """

    def __init__(
        self,
        identity: int,
        *,
        header_type: int = 0,
        bars: Mapping[int, tuple[int, int]] = MappingProxyType({}),
        children: Functions | None = None,
        rom_size: int = 0,
    ) -> None:
        self.space = bytearray(4096)
        self.children = children or {}
        self._masks: dict[int, tuple[int, int]] = {}  # register -> writable bits, fixed bits
        struct.pack_into("<I", self.space, 0, identity)
        self.space[0x0E] = header_type
        for number in range(6 if header_type & 0x7F == 0 else 2):
            self._masks[0x10 + 4 * number] = (0, 0)
        self._masks[0x38 if header_type & 0x7F else 0x30] = (-rom_size & 0xFFFFF800, 0)
        for number, (kind, size) in bars.items():
            register, writable = 0x10 + 4 * number, -size & (1 << 64) - 1
            self._masks[register] = (writable & 0xFFFFFFF0, kind)
            if kind & 0b111 == 0b100:
                self._masks[register + 4] = (writable >> 32, 0)
            struct.pack_into("<I", self.space, register, kind)

    def dword(self, register: int) -> int:
        """Four bytes at `register`."""
        value: int = struct.unpack_from("<I", self.space, register)[0]
        return value

    def write(self, register: int, data: bytes) -> None:
        """What a guest writes; whole dwords to base address registers."""
        self.space[register : register + len(data)] = data
        for start, (writable, fixed) in self._masks.items():
            struct.pack_into("<I", self.space, start, self.dword(start) & writable | fixed)


def virtio_device() -> FakeFunction:
    """A device as QEMU's virtio ones: BAR 1 is a 32-bit one, BAR 4 a 64-bit one."""
    return FakeFunction(VIRTIO_ID, bars={1: (0, 4096), 4: (0b1100, 16384)})


def root_port(*devices: FakeFunction) -> FakeFunction:
    """A pcie-root-port with `devices` behind it, into which more can be plugged."""
    children = {(number, 0): device for number, device in enumerate(devices)}
    port = FakeFunction(ROOT_PORT_ID, header_type=1, bars={0: (0, 4096)}, children=children)
    port.space[0x24] = port.space[0x26] = 1  # 64-bit addresses in the prefetchable window
    port.space[0x34] = 0x40
    struct.pack_into("<BBHI", port.space, 0x40, 0x10, 0, 0x0142, 0)  # PCI Express, root port with a slot
    struct.pack_into("<I", port.space, 0x54, 0x40)  # hotplug
    return port


class FakeQemu:
    """A Channel to such a machine. Tests change its attributes to make it fail."""

    def __init__(self, *, build: Callable[["FakeQemu"], dict[str, bytes]]) -> None:
        """`build` makes the fw_cfg files each time that one is selected."""
        self.functions: Functions = {
            (0, 0): FakeFunction(HOST_BRIDGE_ID),
            (1, 0): virtio_device(),
            (31, 0): FakeFunction(LPC_ID, header_type=0x80),
            (31, 2): FakeFunction(0x29228086, bars={4: (1, 32)}),
        }
        self.roots: dict[int, Functions] = {}  # other root buses, by number
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
            self._write(int(words[0], 16), bytes.fromhex(words[2][2:]))
            return "OK"
        numbers = [int(word, 16) for word in words]
        if name == "read":
            return f"OK 0x{self._read(*numbers).hex()}"
        if name.startswith("in"):
            return f"OK {self._read_port(numbers[0]):#06x}"
        self._write_port(*numbers, size={"b": 1, "w": 2, "l": 4}[name[3:]])
        return "OK"

    def _read(self, address: int, size: int) -> bytes:
        if self._mmconfig is None or address < self._mmconfig:
            return self.memory[address : address + size]
        function = self._function((address - self._mmconfig) >> 12)
        register = address & 0xFFF
        return b"\xff" * size if function is None else bytes(function.space[register : register + size])

    def _write(self, address: int, data: bytes) -> None:
        if self._mmconfig is None or address < self._mmconfig:
            self.memory[address : address + len(data)] = data
        elif (function := self._function((address - self._mmconfig) >> 12)) is not None:
            function.write(address & 0xFFF, data)

    @property
    def _mmconfig(self) -> int | None:
        register = self.functions[0, 0].dword(0x60)
        return register & ~1 if register & 1 else None

    def _function(self, number: int) -> FakeFunction | None:
        """The function with this bus, device and function, each below the other in a number."""
        bus = self._buses().get(number >> 8, {})
        return bus.get((number >> 3 & 31, number & 7))

    def _buses(self) -> dict[int, Functions]:
        found = {0: self.functions, **self.roots}
        waiting = list(found.values())
        while waiting:
            for function in waiting.pop().values():
                if function.space[0x0E] & 0x7F == 1 and function.space[0x19]:
                    found[function.space[0x19]] = function.children
                    waiting.append(function.children)
        return found

    def _read_port(self, port: int) -> int:
        if port != 0xCFC:
            return 0
        function = self._function(self._address >> 8 & 0xFFFF)
        return 0xFFFFFFFF if function is None else function.dword(self._address & 0xFC)

    def _write_port(self, port: int, value: int, *, size: int) -> None:
        if port == 0xCF8:
            self._address = value
        elif port == 0x518:
            self._transfer(int.from_bytes(value.to_bytes(4, "big"), "little"))
        elif 0xCFC <= port < 0xD00:
            function = self._function(self._address >> 8 & 0xFFFF)
            if function is not None:
                function.write((self._address & 0xFC) + port - 0xCFC, value.to_bytes(size, "little"))

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
