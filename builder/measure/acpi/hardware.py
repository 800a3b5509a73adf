"""A machine as its ACPI tables show it (`acpi.md` 5 to 9): what the generator needs, and nothing else."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from builder.errors import DocumentError
from builder.measure.acpi.blobs import MAX_VCPUS

MIB, GIB = 1 << 20, 1 << 30
READ_HINT = "read the tables over qtest from a QEMU of this version, or take them from a rehearsal"
WINDOW_BASE = 0x380000000000  # where OVMF begins its 64-bit PCI window with 46 physical address bits (`acpi.md` 2.5)
DEFAULT_HOLE64 = 32 * GIB
PORT_WINDOW = 32 * GIB  # what OVMF reserves for a root port: 1/256 of its own window (`acpi.md` 2.6)
MMCONFIG, MMCONFIG_BEFORE_202305 = 0xE0000000, 0xB0000000  # edk2 commit 82c1aa87f9 (`acpi.md` 2.4)
_LOW_MEMORY_LIMIT, _LOW_MEMORY_SPLIT = 0xB0000000, 0x80000000
MAX_ROOT_DEVICES = 26
_PHYSICAL_BITS = 46  # of the CPU, the only number that is known here (`acpi.md` 2.5)
_CHIPSET = frozenset((0x00, 0xF8, 0xFA, 0xFB))  # host bridge, LPC, SATA, SMBus


class AcpiProfile(StrEnum):
    """A generation of QEMU's ACPI tables (`acpi.md` 8), oldest first."""

    P8 = "P8"
    P92 = "P92"
    P10 = "P10"
    P110 = "P110"
    P111 = "P111"


_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})\.[0-9]{1,3}", re.ASCII)
_PROFILES = (  # newest first: since which release
    ((11, 1), AcpiProfile.P111),
    ((11, 0), AcpiProfile.P110),
    ((10, 0), AcpiProfile.P10),
    ((9, 2), AcpiProfile.P92),
)


@dataclass(frozen=True)
class PciFunction:
    """A cold-plugged function of a PCI bus. `children`: of a root port, the functions behind it; None: no bridge."""

    devfn: int
    children: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Expander:
    """A `pxb-pcie` on pcie.0: its place there, the number of its root bus, its NUMA node, what the firmware gave it.

    `last_bus` and `windows` (first and last addresses, rising) are of its own bus and all behind it; None where the
    firmware is taken to leave it alone, which stock OVMF does not (`acpi.md` 2.6). `ports` are the root ports behind
    it, `older_ports` those of pcie.0 that QEMU made before it.
    """

    devfn: int
    bus: int
    node: int | None = None
    last_bus: int | None = None
    windows: tuple[tuple[int, int], ...] | None = None
    ports: int = 0
    older_ports: int = 0


@dataclass(frozen=True)
class AcpiMachine:
    """A q35 machine after OVMF programmed it. Sizes and addresses in bytes.

    `functions` are those on pcie.0 besides the chipset's own (00.0, 1f.0, 1f.2, 1f.3) and the expanders, in the order
    in which QEMU makes them: it numbers root ports by that, not by place. `window_base` and `window_size` are the
    64-bit PCI window. vCPUs and memory are shared evenly by the NUMA nodes, in order; 0 nodes: no NUMA.
    `bridges_programmed` is False for tables as they would be if the firmware left root ports and expanders alone:
    others publish such values, but they are not what stock OVMF leaves (`acpi.md` 2.6), and no TD will have them.
    DocumentError for a machine that the generator does not cover.
    """

    profile: AcpiProfile
    vcpus: int
    memory: int
    functions: tuple[PciFunction, ...]
    window_base: int = WINDOW_BASE
    window_size: int = DEFAULT_HOLE64
    expanders: tuple[Expander, ...] = ()
    numa_nodes: int = 0
    hotplug: bool = True
    pic: bool = False
    smm: bool = False
    hpet: bool = False
    serial: bool = False
    mmconfig: int = MMCONFIG
    bridges_programmed: bool = True

    def __post_init__(self) -> None:
        for reason in self._refusals():
            raise DocumentError(reason, hint=READ_HINT)

    @property
    def low_memory(self) -> int:
        """Memory below 4 GiB."""
        return low_memory(self.memory)

    @property
    def root_ports(self) -> tuple[PciFunction, ...]:
        """The root ports of pcie.0, oldest first."""
        return tuple(function for function in self.functions if function.children is not None)

    @property
    def numbered_ports(self) -> tuple[tuple[int, PciFunction], ...]:
        """The root ports of pcie.0 with their numbers for hotplug (BSEL), newest first.

        QEMU goes through what is on pcie.0 from the newest to the oldest; ports behind an expander take numbers too,
        which the tables do not show (`acpi.md` 9.12, where the expander is older than all ports).
        """
        ports = self.root_ports
        numbers = (
            len(ports) - 1 - age + sum(each.ports for each in self.expanders if each.older_ports > age)
            for age in range(len(ports))
        )
        return tuple(reversed(tuple(zip(numbers, ports, strict=True))))

    def vcpu_node(self, number: int) -> int | None:
        """The NUMA node of a vCPU, None without NUMA."""
        return number * self.numa_nodes // self.vcpus if self.numa_nodes else None

    def _refusals(self) -> Iterator[str]:
        if not 1 <= self.vcpus <= MAX_VCPUS:
            yield f"{self.vcpus} vCPUs, wanted 1 to {MAX_VCPUS}"
        if self.memory < 1 or not 4 * GIB <= self.window_base < self.window_base + self.window_size < 1 << 64:
            window = f"64-bit PCI window of {self.window_size} bytes at {self.window_base:#x}"
            yield f"memory of {self.memory} bytes with a {window}"
        if 4 * GIB + self.memory - self.low_memory > self.window_base:
            yield f"memory of {self.memory >> 30} GiB would reach into the 64-bit PCI window at {self.window_base:#x}"
        if _aligned(4 * GIB + self.memory - self.low_memory) + self.window_size > 1 << _PHYSICAL_BITS:
            yield (
                f"a 64-bit PCI window of {self.window_size >> 30} GiB behind {self.memory >> 30} GiB of memory, which "
                f"does not fit into {_PHYSICAL_BITS} address bits"
            )
        if self.mmconfig not in (MMCONFIG, MMCONFIG_BEFORE_202305):
            yield f"MMCONFIG at {self.mmconfig:#x}, which is no place where OVMF puts it"
        if self.low_memory >= self.mmconfig:
            yield f"low memory up to {self.low_memory:#x} does not end below MMCONFIG at {self.mmconfig:#x}"
        yield from self._node_refusals()
        yield from self._bus_refusals()

    def _node_refusals(self) -> Iterator[str]:
        nodes = self.numa_nodes
        if nodes < 0 or (nodes and (self.vcpus % nodes or self.memory % nodes)):
            yield f"{self.vcpus} vCPUs and {self.memory} bytes of memory cannot be shared evenly by {nodes} NUMA nodes"
        if nodes > 1 and self.memory // nodes < MIB:
            yield f"{nodes} NUMA nodes with less than 1 MiB of memory each"
        if any(each.node is not None and each.node not in range(nodes) for each in self.expanders):
            yield f"a PCI expander in a NUMA node that the machine, which has {nodes}, does not have"

    def _bus_refusals(self) -> Iterator[str]:
        places = [each.devfn for each in self.functions] + [each.devfn for each in self.expanders]
        if len({place >> 3 for place in places}) > MAX_ROOT_DEVICES:
            yield f"more than {MAX_ROOT_DEVICES} devices on pcie.0"
        if _wrong_places(places, 256) or _CHIPSET.intersection(places):
            yield "functions of pcie.0 at the same place, or at one that it does not have"
        if any(_wrong_places(port.children or (), 8) for port in self.functions):
            yield "functions behind a root port at the same place, or at one that it does not have"
        if any((each.windows is None or each.last_bus is None) is self.bridges_programmed for each in self.expanders):
            yield "a PCI expander whose bus numbers and windows are not known, or are though no firmware gave it any"
        yield from self._window_refusals()
        if _wrong_places([each.bus - 1 for each in self.expanders], 255):
            yield "PCI expanders with the same bus number, or one outside 1 to 255"
        if any(each.last_bus is not None and not each.bus <= each.last_bus <= 255 for each in self.expanders):
            yield "a PCI expander whose buses end before its own bus number, or after 255"

    def _window_refusals(self) -> Iterator[str]:
        wanted = len(self.root_ports) * PORT_WINDOW
        if self.bridges_programmed and self.window_size < wanted:
            yield (
                f"{len(self.root_ports)} root ports with a 64-bit PCI window of {self.window_size >> 30} GiB: those of"
                f" the ports take {wanted >> 30} GiB"
            )


def _aligned(address: int) -> int:
    """Where QEMU begins to look for the 64-bit hole: RAM's end, rounded up to a GiB."""
    return -(-address // GIB) * GIB


def _wrong_places(places: Sequence[int], limit: int) -> bool:
    return len(set(places)) != len(places) or not all(0 <= place < limit for place in places)


def low_memory(memory: int) -> int:
    """What q35 puts below 4 GiB of `memory` bytes (`acpi.md` 5.5)."""
    return memory if memory < _LOW_MEMORY_LIMIT else _LOW_MEMORY_SPLIT


def acpi_profile(version: str) -> AcpiProfile:
    """The profile of a QEMU release `x.y.z`; below 9.2 that of the TDX forks. DocumentError outside 8.0 to 11.x."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise DocumentError(f"QEMU version {version[:40]!r}, wanted three numbers", hint="write for example 10.0.2")
    release = (int(match[1]), int(match[2]))
    if not (8, 0) <= release < (12, 0):
        raise DocumentError(f"QEMU {version}: no rule here says what ACPI tables it builds", hint=READ_HINT)
    return next((profile for since, profile in _PROFILES if release >= since), AcpiProfile.P8)
