"""The TD HOB list that QEMU writes, whose digest is the first event of RTMR[0] (`measurement.md` 4.1).

It depends on the memory size and on the firmware's section layout, and on nothing else. GCE and Cloud Hypervisor write
other lists (`measurement.md` 4.4, 4.5).
"""

import struct
from itertools import pairwise

from builder.errors import DocumentError
from builder.measure.tdvf import PAGE_SIZE, SectionType, TdvfMetadata, TdvfSection

LOW_MEMORY_LIMIT = 0xB0000000  # q35: less RAM stays in one piece ...
LOW_MEMORY_SPLIT = 0x80000000  # ... more is split here and continues at 4 GiB
HIGH_MEMORY_START = 0x100000000
_MEMORY_BOUND = 1 << 52

_PHIT_SIZE = 56
_RESOURCE_SIZE = 48
_END_SIZE = 8
_PHIT = struct.Struct("<HHIII4QQ")  # type, length, 0, version, boot mode, four addresses, end of the list
_RESOURCE = struct.Struct("<HHI16xIIQQ")  # type, length, 0, owner, resource type, attribute, start, length
_ACCEPTED = 0
_UNACCEPTED = 7
_ATTRIBUTE = 7

_Range = tuple[int, int, int]  # resource type, start, end


def td_hob_list(metadata: TdvfMetadata, memory: int) -> bytes:
    """The bytes QEMU's list has for a guest with `memory` bytes, without the end-of-list HOB: what is measured.

    DocumentError for memory that is not whole pages, does not reach above the firmware's own sections, or is beyond
    52 bits of address, and for a list that does not fit the TD_HOB section.
    """
    section = metadata.td_hob
    ranges = _split_high(_ranges(metadata.of_type(SectionType.TD_HOB, SectionType.TEMP_MEM), memory), memory)
    size = _PHIT_SIZE + _RESOURCE_SIZE * len(ranges)
    if size + _END_SIZE > section.memory_size:
        raise DocumentError(f"firmware: HOB list of {size + _END_SIZE} bytes exceeds its {section.memory_size}")
    phit = _PHIT.pack(1, _PHIT_SIZE, 0, 9, 0, 0, 0, 0, 0, section.address + size + _END_SIZE)
    return phit + b"".join(
        _RESOURCE.pack(3, _RESOURCE_SIZE, 0, kind, _ATTRIBUTE, start, end - start) for kind, start, end in ranges
    )


def low_memory(memory: int) -> int:
    """The part of `memory` that q35 places below 4 GiB, both in bytes."""
    return memory if memory < LOW_MEMORY_LIMIT else LOW_MEMORY_SPLIT


def _ranges(sections: tuple[TdvfSection, ...], memory: int) -> list[_Range]:
    """Rules 1 to 3: one range `[0, memory)`, with the sections cut out as accepted; adjacent ones are not merged."""
    accepted = sorted((section.address, section.end) for section in sections)
    _check_memory(memory, accepted[-1][1])
    gaps = pairwise([(0, 0), *accepted, (memory, memory)])
    unaccepted = [(_UNACCEPTED, before[1], after[0]) for before, after in gaps if before[1] < after[0]]
    return sorted([*unaccepted, *((_ACCEPTED, start, end) for start, end in accepted)], key=lambda each: each[1])


def _check_memory(memory: int, sections_end: int) -> None:
    if memory % PAGE_SIZE or not sections_end < memory <= _MEMORY_BOUND:
        raise DocumentError(
            f"memory size {memory:#x} is outside the firmware's layout",
            hint=f"wanted whole pages, more than {sections_end:#x} and at most {_MEMORY_BOUND:#x} bytes",
        )


def _split_high(ranges: list[_Range], memory: int) -> list[_Range]:
    """Rule 4: the last range, in two pieces where q35 moves memory above 4 GiB."""
    kind, start, end = ranges[-1]
    if memory < LOW_MEMORY_LIMIT:
        return ranges
    low = [(kind, start, LOW_MEMORY_SPLIT)] if start < LOW_MEMORY_SPLIT else []
    return [*ranges[:-1], *low, (kind, HIGH_MEMORY_START, HIGH_MEMORY_START + end - LOW_MEMORY_SPLIT)]
