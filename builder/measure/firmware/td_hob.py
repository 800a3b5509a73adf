"""The TD HOB list that QEMU writes, whose digest is the first event of RTMR[0] (`measurement.md` 4.1).

It depends on the memory size and on the firmware's section layout, and on nothing else. GCE and Cloud Hypervisor write
other lists (`gce_td_hob`, `td_shim_hob`).
"""

from itertools import pairwise

from builder.errors import DocumentError
from builder.measure.firmware.hob import (
    END_OF_LIST,
    MEMORY_UNACCEPTED,
    SYSTEM_MEMORY,
    ResourceHob,
    encode_hob_list,
    memory_hob,
)
from builder.measure.firmware.tdvf import PAGE_SIZE, SectionType, TdvfMetadata, TdvfSection

LOW_MEMORY_LIMIT = 0xB0000000  # q35: less RAM stays in one piece ...
LOW_MEMORY_SPLIT = 0x80000000  # ... more is split here and continues at 4 GiB
HIGH_MEMORY_START = 0x100000000
_MEMORY_BOUND = 1 << 52


def td_hob_list(metadata: TdvfMetadata, memory: int) -> bytes:
    """The bytes QEMU's list has for a guest with `memory` bytes, without the end-of-list HOB: what is measured.

    DocumentError for memory that is not whole pages, does not reach above the firmware's own sections, or is beyond
    52 bits of address, for sections where such a guest has no memory, and for a list that does not fit its section.
    """
    section = metadata.td_hob
    hobs = _split_high(_ranges(_accepted(metadata), memory), memory)
    encoded = encode_hob_list(hobs, address=section.address, counts_end=True)
    check_room(section, len(encoded))
    return encoded


def check_room(section: TdvfSection, size: int) -> None:
    """DocumentError if the TD_HOB section is too small for a list of `size` bytes and its end-of-list HOB."""
    if size + len(END_OF_LIST) > section.memory_size:
        raise DocumentError(
            f"firmware: HOB list of {size + len(END_OF_LIST)} bytes exceeds its section of {section.memory_size}",
            hint="the VMM could not start this machine either",
        )


def low_memory(memory: int) -> int:
    """The part of `memory` that q35 places below 4 GiB, both in bytes."""
    return memory if memory < LOW_MEMORY_LIMIT else LOW_MEMORY_SPLIT


def _accepted(metadata: TdvfMetadata) -> list[tuple[int, int]]:
    """Start and end of the sections that the VMM adds for the firmware to work in, sorted."""
    sections = metadata.of_type(SectionType.TD_HOB, SectionType.TEMP_MEM)
    for section in sections:
        if section.memory_size == 0:
            raise DocumentError(f"firmware: its {section.type.name} section at {section.address:#x} is empty")
    return sorted((section.address, section.end) for section in sections)


def _ranges(accepted: list[tuple[int, int]], memory: int) -> list[ResourceHob]:
    """Rules 1 to 3: one range `[0, memory)`, with the sections cut out as accepted; adjacent ones are not merged."""
    _check_memory(memory, accepted[-1][1])
    gaps = pairwise([(0, 0), *accepted, (memory, memory)])
    free = [memory_hob(MEMORY_UNACCEPTED, before[1], after[0]) for before, after in gaps if before[1] < after[0]]
    taken = [memory_hob(SYSTEM_MEMORY, start, end) for start, end in accepted]
    return sorted([*free, *taken], key=lambda hob: hob.start)


def _check_memory(memory: int, sections_end: int) -> None:
    if memory % PAGE_SIZE or not sections_end < memory <= _MEMORY_BOUND:
        raise DocumentError(
            f"memory size {memory:#x} is outside the firmware's layout",
            hint=f"wanted whole pages, more than {sections_end:#x} and at most {_MEMORY_BOUND:#x} bytes",
        )
    if memory >= LOW_MEMORY_LIMIT and sections_end > LOW_MEMORY_SPLIT:
        raise DocumentError(
            f"firmware: a section ends at {sections_end:#x}, where a guest of {memory:#x} bytes has no memory",
            hint=f"from {LOW_MEMORY_LIMIT:#x} bytes on, memory below 4 GiB ends at {LOW_MEMORY_SPLIT:#x}",
        )


def _split_high(hobs: list[ResourceHob], memory: int) -> list[ResourceHob]:
    """Rule 4: the last range, in two pieces where q35 moves memory above 4 GiB."""
    if memory < LOW_MEMORY_LIMIT:
        return hobs
    start = hobs[-1].start
    low = [memory_hob(MEMORY_UNACCEPTED, start, LOW_MEMORY_SPLIT)] if start < LOW_MEMORY_SPLIT else []
    high = memory_hob(MEMORY_UNACCEPTED, HIGH_MEMORY_START, HIGH_MEMORY_START + memory - LOW_MEMORY_SPLIT)
    return [*hobs[:-1], *low, high]
