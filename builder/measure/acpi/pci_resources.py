"""Where OVMF puts BARs and bridge windows: the resource allocation of edk2's PCI bus driver (`acpi.md` 2.6).

Written from the rules of MdeModulePkg/Bus/Pci/PciBusDxe (PciResourceSupport.c), MdeModulePkg/Bus/Pci/PciHostBridgeDxe,
OvmfPkg/PciHotPlugInitDxe and OvmfPkg/Library/PlatformInitLib; compared with what the firmware leaves in real boots.
Every bus is a list of requests in the order of falling alignment, the youngest first among equals. A bridge is one
request of its parent, as long as what is behind it or, if devices can be plugged in there, as the padding. Not here:
bus numbers, SR-IOV, CardBus bridges, resizable BARs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from builder.errors import DocumentError

PHYSICAL_BITS = 46
_MIB = 1 << 20
_PAGE = 4096

# edk2 releases: MMCONFIG went below the 32-bit window (82c1aa87f9), ports lost their I/O padding (27727338b2), root
# ports got a prefetchable one (9e6b552b4c); one release alone moved 64-bit BARs behind bridges (f6489621b8, defbd14d63)
_MMCONFIG_ABOVE_RAM_UNTIL, _NO_IO_PADDING_SINCE, _KNOWN_SINCE = "202305", "202308", "202211"
_OTHER_DEGRADATION = "202602"


class Kind(Enum):
    """What is asked for. Windows of bridges have the kinds too: IO, MEM32, and MEM64 or PMEM64 beside it."""

    IO = "io"
    MEM32 = "mem32"
    PMEM32 = "pmem32"
    MEM64 = "mem64"
    PMEM64 = "pmem64"


@dataclass(frozen=True)
class PciAddress:
    """A place on a PCI bus; the root bus is 0."""

    device: int
    function: int
    bus: int = 0

    def __str__(self) -> str:
        return f"{self.bus:02x}:{self.device:02x}.{self.function}"


@dataclass(frozen=True)
class Bar:
    """A base address register, by its offset in configuration space; `size` in bytes."""

    register: int
    kind: Kind
    size: int


@dataclass(frozen=True)
class PciDevice:
    """A function and what it asks for; `rom_size` in bytes, 0 without an option ROM.

    A bridge has `children`, perhaps none; `wide` says that its prefetchable window can have 64-bit addresses, `hotplug`
    that devices can be plugged in behind it.
    """

    place: PciAddress
    bars: tuple[Bar, ...]
    rom_size: int = 0
    children: tuple["PciDevice", ...] | None = None
    wide: bool = False
    hotplug: bool = False


@dataclass(frozen=True)
class Placement:
    """Where the firmware puts a BAR of `place`, or its window of this kind where `register` is None."""

    place: PciAddress
    register: int | None
    kind: Kind
    base: int
    size: int


@dataclass(frozen=True)
class Apertures:
    """First and last address of what the firmware gives out, and what it keeps free behind a bridge for hotplug."""

    io: tuple[int, int]
    mem32: tuple[int, int]
    mem64: tuple[int, int]
    padding: Mapping[Kind, int]


def apertures_for(edk2: str, memory: int) -> Apertures:
    """The apertures of a firmware release (`202502`) with `memory` bytes of RAM and 46 physical address bits.

    DocumentError for a release older than 202211, whose rules are others.
    """
    if edk2 < _KNOWN_SINCE:
        raise DocumentError(
            f"edk2 {edk2}: what it programs into PCI bridges is not known here, wanted {_KNOWN_SINCE} or newer",
            hint="take the tables from a rehearsal of this machine",
        )
    wide = 1 << PHYSICAL_BITS - 3
    padding = {Kind.MEM32: 2 * _MIB, Kind.PMEM64: wide >> 8}
    if edk2 < _NO_IO_PADDING_SINCE:
        padding[Kind.IO] = 512
    mem64 = ((1 << PHYSICAL_BITS) - wide, (1 << PHYSICAL_BITS) - 1)
    return Apertures((0x6000, 0xFFFF), _mem32(edk2, memory), mem64, padding)


def _mem32(edk2: str, memory: int) -> tuple[int, int]:
    if edk2 < _MMCONFIG_ABOVE_RAM_UNTIL:
        return 0xC0000000, 0xFBFFFFFF
    low = memory if memory < 0xB0000000 else 0x80000000
    uncached = 1 << ((1 << 32) - low).bit_length() - 1  # the largest power of two in it: one MTRR covers it
    return (1 << 32) - min(uncached, 1 << 31), 0xDFFFFFFF


def place_resources(buses: Sequence[Sequence[PciDevice]], apertures: Apertures, edk2: str) -> tuple[Placement, ...]:
    """Where everything on the root buses goes, given in the order of their numbers.

    DocumentError if it does not fit, where the firmware would turn devices off, and for requests whose place this
    release of edk2 decides by a rule that is not known here.
    """
    trees = [_root_lists(devices, apertures, edk2) for devices in buses]
    ranges = {Kind.IO: apertures.io, Kind.MEM32: apertures.mem32, Kind.MEM64: apertures.mem64}
    return tuple(
        placement
        for kind, aperture in ranges.items()
        for request, base in _given_out([tree[kind] for tree in trees], aperture)
        for placement in _placements(request, base)
    )


@dataclass
class _Request:
    """A node of edk2's resource tree; `alignment` is the mask of low bits that are zero."""

    kind: Kind
    alignment: int
    length: int = 0
    place: PciAddress | None = None
    register: int | None = None
    padding: bool = False
    offset: int = 0
    children: list["_Request"] = field(default_factory=list)

    def insert(self, request: "_Request") -> None:
        """InsertResourceNode: behind what has a larger alignment, and what ends less aligned at the same."""
        place = 0
        for other in self.children:
            if request.alignment > other.alignment:
                break
            if request.alignment == other.alignment:
                rest, other_rest = request.length & request.alignment, other.length & other.alignment
                if rest == 0 or rest >= other_rest:
                    break
            place += 1
        self.children.insert(place, request)

    def take(self, other: "_Request") -> None:
        """MergeResourceTree: all requests of `other`, one after the other."""
        for request in other.children:
            self.insert(request)
        other.children = []

    def measure(self) -> None:
        """CalculateResourceAperture: offsets of the requests, and by them the own length and alignment."""
        ends = {False: 0, True: 0}
        for request in self.children:
            request.offset = _aligned(ends[request.padding], request.alignment)
            ends[request.padding] = request.offset + request.length
        if self.kind is not Kind.IO:  # CalculateApertureIo16 takes the padding as it is
            ends[True] = _aligned(ends[True], self.alignment)
        self.length = max(_aligned(ends[False], self.alignment), ends[True])
        if self.children:
            self.alignment = max(self.alignment, self.children[0].alignment)


_Lists = dict[Kind, _Request]


def _root_lists(devices: Sequence[PciDevice], apertures: Apertures, edk2: str) -> _Lists:
    lists = _empty_lists(None)
    rom = max((each.rom_size for each in _all(devices)), default=0)
    if rom:  # one place, in which all option ROMs are read one after the other
        lists[Kind.MEM32].insert(_Request(Kind.MEM32, rom - 1, rom))
    _fill(lists, devices, apertures, edk2)
    # COMBINE_MEM_PMEM of the root bridges
    lists[Kind.MEM32].take(lists[Kind.PMEM32])
    lists[Kind.MEM64].take(lists[Kind.PMEM64])
    for request in lists.values():
        request.measure()
    return lists


def _empty_lists(place: PciAddress | None) -> _Lists:
    return {kind: _Request(kind, (_PAGE if kind is Kind.IO else _MIB) - 1, place=place) for kind in Kind}


def _fill(lists: _Lists, devices: Sequence[PciDevice], apertures: Apertures, edk2: str) -> None:
    """CreateResourceMap: the requests of each device and, if it is a bridge, of what is behind it."""
    for device in devices:
        for bar in device.bars:
            # memory BARs begin on a page (PciParseBar)
            alignment = bar.size if bar.kind is Kind.IO else max(bar.size, _PAGE)
            lists[bar.kind].insert(_Request(bar.kind, alignment - 1, bar.size, device.place, bar.register))
        if device.children is not None:
            for request in _bridge_lists(device, apertures, edk2).values():
                if request.children or request.length:
                    lists[request.kind].insert(request)


def _bridge_lists(bridge: PciDevice, apertures: Apertures, edk2: str) -> _Lists:
    lists = _empty_lists(bridge.place)
    _fill(lists, bridge.children or (), apertures, edk2)
    for kind, size in apertures.padding.items() if bridge.hotplug else ():
        lists[kind].insert(_Request(kind, size - 1, size, bridge.place, padding=True))
    _degrade(lists, bridge, edk2)
    for request in lists.values():
        request.measure()
    return lists


def _degrade(lists: _Lists, bridge: PciDevice, edk2: str) -> None:
    """DegradeResource: what a bridge cannot pass on goes to the next best window."""
    if lists[Kind.MEM64].children and edk2[:6] == _OTHER_DEGRADATION:
        raise DocumentError(
            f"edk2 {edk2}: a 64-bit BAR that is not prefetchable behind the bridge {bridge.place}: this release alone"
            " moves it to the prefetchable window, which was never compared with a boot",
            hint="take the tables from a rehearsal of this machine",
        )
    lists[Kind.MEM32].take(lists[Kind.MEM64])
    if not bridge.wide:
        lists[Kind.PMEM32].take(lists[Kind.PMEM64])
    if lists[Kind.PMEM64].children or not bridge.wide:
        lists[Kind.MEM32].take(lists[Kind.PMEM32])


def _given_out(requests: Sequence[_Request], aperture: tuple[int, int]) -> Iterator[tuple[_Request, int]]:
    """PciHostBridgeDxe: each root bus in turn gets the first place that is free."""
    first, last = aperture
    taken: list[tuple[int, int]] = []
    for request in requests:
        if not request.length:
            continue
        base = _aligned(first, request.alignment)
        for start, end in sorted(taken):
            if start < base + request.length and base < end:
                base = _aligned(end, request.alignment)
        taken.append((base, base + request.length))
        if base + request.length > last + 1:
            raise _does_not_fit(request.kind, base + request.length - 1, last)
        yield request, base


def _placements(request: _Request, base: int) -> Iterator[Placement]:
    """ProgramResource: everything below `request`, which lies at `base`."""
    for child in request.children:
        if child.padding or child.place is None:
            continue
        start = base + child.offset
        yield from _placements(child, start)
        if child.length:
            yield Placement(child.place, child.register, child.kind, start, child.length)


def _all(devices: Sequence[PciDevice]) -> Iterator[PciDevice]:
    for device in devices:
        yield device
        yield from _all(device.children or ())


def _aligned(address: int, mask: int) -> int:
    return (address + mask) & ~mask


def _does_not_fit(kind: Kind, end: int, last: int) -> DocumentError:
    return DocumentError(
        f"PCI devices and bridges: their {kind.value} windows end at {end:#x}, the firmware's at {last:#x}, so that it"
        " would turn some of them off",
        hint="give the machine fewer or smaller devices, or take the tables from a rehearsal",
    )
