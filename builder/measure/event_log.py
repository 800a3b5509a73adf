"""TCG crypto-agile event logs: the CCEL of a TD, and the log of a TPM (`quotes.md` 3)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.measure.event_data import event_name
from builder.measure.rtmr import register_of_mr_index, register_of_pcr
from builder.model.event import EV_NO_ACTION, ParsedEvent

_SHA384 = 0x000C
_DIGEST_SIZES: Mapping[int, int] = {0x0004: 20, 0x000B: 32, _SHA384: 48}
_ALGORITHMS_OF_A_CCEL = frozenset({_SHA384})
_SPEC_ID = b"Spec ID Event03\0"
_VERSION = bytes((0, 2, 0, 2))  # minor, major, errata, size of a UINTN
_END_INDEX = 0xFFFFFFFF
_LAST_PCR = 23
_LAST_MR_INDEX = 4


@dataclass(frozen=True)
class _Record:
    index: int
    event_type: int
    digests: Mapping[int, bytes]
    data: bytes
    end: int


def parse_ccel(data: bytes) -> tuple[ParsedEvent, ...]:
    """The records of a CCEL data area, without its header.

    The log ends at index 0xffffffff, at index 0 with type 0, or with the file; what follows the end is not looked at.
    DocumentError for truncated records, any algorithm but SHA-384 alone, and MR indexes that are never extended.
    Not checked: that digests fit the data (`data_matches_digest`), and that the log is the quote's (`replay`).
    """
    return _parse(data, "CCEL", accepts=_ALGORITHMS_OF_A_CCEL.__eq__, register_of=_ccel_register)


def parse_tpm_log(data: bytes) -> tuple[ParsedEvent, ...]:
    """The records of a TPM's binary log, with the SHA-384 digest of each; `register` is where TDX extends the same.

    DocumentError as for `parse_ccel`, but the log may hold SHA-1 and SHA-256 besides SHA-384. The separators of PCR 0
    to 6 are one each; a TD measures one instead of them all (`measurement.md` 10.2).
    """
    return _parse(data, "TPM event log", accepts=_ALGORITHMS_OF_A_CCEL.issubset, register_of=_pcr_register)


def _parse(
    data: bytes,
    what: str,
    *,
    accepts: Callable[[frozenset[int]], bool],
    register_of: Callable[[_Record], str | None],
) -> tuple[ParsedEvent, ...]:
    reader = ByteReader(data, what)
    algorithms, start = _parse_header(reader)
    if not accepts(frozenset(algorithms)):
        listed = ", ".join(f"{algorithm:#06x}" for algorithm in algorithms)
        raise DocumentError(f"{what}: algorithms {listed}; wanted SHA-384 (0x000c)", hint="it is no log of this kind")
    return tuple(
        ParsedEvent(
            position=position,
            index=record.index,
            register=register_of(record),
            event_type=record.event_type,
            digest=record.digests[_SHA384].hex(),
            data=record.data,
            name=event_name(record.event_type, record.data),
        )
        for position, record in enumerate(_records(reader, start, algorithms))
    )


def _parse_header(reader: ByteReader) -> tuple[tuple[int, ...], int]:
    """The algorithms of the first record (`quotes.md` 3.2), and where the next one starts."""
    size = reader.u32(28, name="size of the header")
    if (
        reader.u32(0, name="index") > 1
        or reader.u32(4, name="type") != EV_NO_ACTION
        or reader.slice(8, 20, name="digest").strip(b"\0")
    ):
        raise DocumentError(f"{reader.what}: does not start with a TCG header record", hint="it is no event log")
    header = ByteReader(reader.slice(32, size, name="header"), f"{reader.what} header")
    if header.slice(0, 16, name="signature") != _SPEC_ID or header.slice(20, 4, name="version") != _VERSION:
        raise DocumentError(f"{reader.what}: header is not Spec ID Event03, version 2.0", hint="it is no event log")
    count = header.u32(24, name="number of algorithms")
    if not 1 <= count <= len(_DIGEST_SIZES):
        raise DocumentError(f"{reader.what}: {count} algorithms, wanted 1 to {len(_DIGEST_SIZES)}")
    algorithms = tuple(_parse_algorithm(header, 28 + 4 * position) for position in range(count))
    vendor = 28 + 4 * count
    header.slice(vendor + 1, header.u8(vendor, name="size of the vendor data"), name="vendor data")
    return algorithms, 32 + size


def _parse_algorithm(header: ByteReader, offset: int) -> int:
    algorithm = header.u16(offset, name="algorithm")
    size = header.u16(offset + 2, name="digest size")
    if _DIGEST_SIZES.get(algorithm) != size:
        raise DocumentError(f"{header.what}: unknown algorithm {algorithm:#06x} with digests of {size} bytes")
    return algorithm


def _records(reader: ByteReader, start: int, algorithms: tuple[int, ...]) -> Iterator[_Record]:
    offset = start
    while offset < len(reader):
        index = reader.u32(offset, name="index")
        if index == _END_INDEX:
            return
        event_type = reader.u32(offset + 4, name="event type")
        if index == 0 and event_type == 0:
            return
        record = _parse_record(reader, offset, algorithms)
        yield record
        offset = record.end


def _parse_record(reader: ByteReader, offset: int, algorithms: tuple[int, ...]) -> _Record:
    count = reader.u32(offset + 8, name="number of digests")
    if count != len(algorithms):
        raise DocumentError(f"{reader.what}: record at {offset:#x} has {count} digests, wanted {len(algorithms)}")
    position = offset + 12
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = reader.u16(position, name="algorithm")
        if algorithm not in algorithms or algorithm in digests:
            raise DocumentError(f"{reader.what}: record at {offset:#x} has a digest of algorithm {algorithm:#06x}")
        digests[algorithm] = reader.slice(position + 2, _DIGEST_SIZES[algorithm], name="digest")
        position += 2 + _DIGEST_SIZES[algorithm]
    size = reader.u32(position, name="size of the event data")
    return _Record(
        index=reader.u32(offset, name="index"),
        event_type=reader.u32(offset + 4, name="event type"),
        digests=digests,
        data=reader.slice(position + 4, size, name="event data"),
        end=position + 4 + size,
    )


def _ccel_register(record: _Record) -> str | None:
    register = register_of_mr_index(record.index)
    if record.index > _LAST_MR_INDEX or (register is None and record.event_type != EV_NO_ACTION):
        raise DocumentError(f"CCEL: a record of type {record.event_type:#x} extends MR index {record.index}")
    return register


def _pcr_register(record: _Record) -> str | None:
    if record.index > _LAST_PCR:
        raise DocumentError(f"TPM event log: a record extends PCR {record.index}")
    return register_of_pcr(record.index)
