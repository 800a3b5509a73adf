"""dstack's HOB witness: a firmware's accepted ranges as LEB128 numbers, without the firmware (`measurement.md` 4.6)."""

from collections.abc import Iterator
from itertools import pairwise

from builder.errors import DocumentError
from builder.measure.firmware.tdvf import MAX_SECTIONS, PAGE_SIZE, SectionType, TdvfMetadata, TdvfSection

_PAGE_LIMIT = (1 << 52) // PAGE_SIZE
_MAX_NUMBER_BITS = 63
_MAX_SIZE = (3 + 2 * MAX_SECTIONS) * (_MAX_NUMBER_BITS // 7)


def encode_td_hob_witness(metadata: TdvfMetadata) -> bytes:
    """Base page; HOB page less base; number of ranges; per range its page less base, and its number of pages."""
    sections = sorted(metadata.of_type(SectionType.TD_HOB, SectionType.TEMP_MEM), key=lambda section: section.address)
    base = sections[0].address // PAGE_SIZE
    numbers = [base, metadata.td_hob.address // PAGE_SIZE - base, len(sections)]
    for section in sections:
        numbers += [section.address // PAGE_SIZE - base, section.memory_size // PAGE_SIZE]
    return b"".join(_encode_number(number) for number in numbers)


def parse_td_hob_witness(witness: bytes, *, what: str = "TD HOB witness") -> TdvfMetadata:
    """The sections that `td_hob_list` needs, and no others: nothing of MRTD follows from them.

    DocumentError for a witness that is truncated or longer than its ranges, numbers in a longer form than they need,
    ranges that are empty, unsorted, overlapping or beyond 52 bits of address, and a HOB page at which none starts.
    """
    if len(witness) > _MAX_SIZE:
        raise DocumentError(f"{what}: {len(witness)} bytes, wanted at most {_MAX_SIZE}")
    numbers = list(_numbers(witness, what))
    if len(numbers) < 3 or len(numbers) != 3 + 2 * numbers[2]:
        raise DocumentError(f"{what}: {len(numbers)} numbers, wanted 3 and two for every range")
    base, hob = numbers[0], numbers[0] + numbers[1]
    ranges = [(base + start, base + start + count) for start, count in zip(numbers[3::2], numbers[4::2], strict=True)]
    _check_ranges(ranges, base=base, hob=hob, what=what)
    return TdvfMetadata(tuple(_section(start, end, is_hob=start == hob) for start, end in ranges))


def _check_ranges(ranges: list[tuple[int, int]], *, base: int, hob: int, what: str) -> None:
    if not 1 <= len(ranges) <= MAX_SECTIONS or ranges[0][0] != base:
        raise DocumentError(f"{what}: {len(ranges)} ranges, wanted 1 to {MAX_SECTIONS}, the first at the base page")
    if any(start >= end or end > _PAGE_LIMIT for start, end in ranges):
        raise DocumentError(f"{what}: a range is empty or beyond 52 bits of address")
    if any(before[1] > after[0] for before, after in pairwise(ranges)):
        raise DocumentError(f"{what}: ranges overlap, or are not sorted")
    if hob not in [start for start, _ in ranges]:
        raise DocumentError(f"{what}: no range starts at the HOB's page {hob:#x}")


def _section(start: int, end: int, *, is_hob: bool) -> TdvfSection:
    kind = SectionType.TD_HOB if is_hob else SectionType.TEMP_MEM
    return TdvfSection(kind, 0, 0, start * PAGE_SIZE, (end - start) * PAGE_SIZE, extends=False, augments=False)


def _numbers(data: bytes, what: str) -> Iterator[int]:
    value, shift = 0, 0
    for position, byte in enumerate(data):
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > _MAX_NUMBER_BITS or (byte == 0 and shift > 7):
            raise DocumentError(f"{what}: the number that ends at {position} is too large or in too long a form")
        if not byte & 0x80:
            yield value
            value, shift = 0, 0
    if shift:
        raise DocumentError(f"{what}: ends within a number")


def _encode_number(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
