"""TCG crypto-agile event logs: the CCEL of a TD, and the log of a TPM (`quotes.md` 3)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.measure.evidence.event_data import event_name
from builder.measure.rtmr import register_of_mr_index, register_of_pcr
from builder.model.event import EV_NO_ACTION, ParsedEvent

_SHA384 = 0x000C
_DIGEST_SIZES: Mapping[int, int] = {0x0004: 20, 0x000B: 32, _SHA384: 48, 0x000D: 64}
_ALGORITHM_NAMES: Mapping[int, str] = {
    0x0004: "SHA-1",
    0x000B: "SHA-256",
    _SHA384: "SHA-384",
    0x000D: "SHA-512",
    0x0012: "SM3-256",
    0x0027: "SHA3-256",
    0x0028: "SHA3-384",
    0x0029: "SHA3-512",
}
_ALGORITHMS_OF_A_CCEL = frozenset({_SHA384})
_SPEC_ID = b"Spec ID Event03\0"
_VERSION = bytes((0, 2))  # minor, major; the errata differ: edk2 writes 0, td-shim 105
_UINTN_SIZES = (1, 2)  # in u32s
_END_INDEX = 0xFFFFFFFF
_RECORD_START = 8  # index and type, which tell a record from the end
_NO_LOG = "wanted the crypto-agile format of the TCG; the older one has SHA-1 digests alone"
_LAST_PCR = 23
_LAST_MR_INDEX = 4


@dataclass(frozen=True)
class _Record:
    index: int
    event_type: int
    digests: Mapping[int, bytes]
    data: bytes
    end: int


@dataclass(frozen=True)
class EventLog:
    """A parsed log: its events without the header, the offset at which they end, and what is odd about the rest.

    `notes` are sentences for people. None of them makes the log wrong: a replay that reaches the quote's registers
    shows that no event is missing, whatever stands behind the last one.
    """

    events: tuple[ParsedEvent, ...]
    end: int
    notes: tuple[str, ...] = ()


def read_ccel(data: bytes) -> EventLog:
    """A CCEL data area: the whole area with its fill, or cut behind the last record.

    The log ends at index 0xffffffff (edk2 fills with 0xff), at index 0 with type 0 (td-shim fills with zeros), or with
    the file. Bytes behind the end that are no such fill are not read as records, and noted: no reader of this format
    goes on there, so that refusing them would protect nothing a replay does not.
    DocumentError for truncated records, any algorithm but SHA-384 alone, and MR indexes that are never extended.
    Not checked: that digests fit the data (`data_matches_digest`), that the log is the quote's (`replay`), and that it
    has the events of a boot (`structure_findings`).
    """
    return _parse(data, "CCEL", accepts=_ALGORITHMS_OF_A_CCEL.__eq__, register_of=_ccel_register)


def read_tpm_log(data: bytes) -> EventLog:
    """A TPM's binary log, with the SHA-384 digest of each record; `register` is where TDX extends the same.

    DocumentError as for `read_ccel`, but the log may hold SHA-1, SHA-256 and SHA-512 besides SHA-384. The separators of
    PCR 0 to 6 are one each; a TD measures one instead of them all (`measurement.md` 10.2). A CCEL of edk2 is refused,
    whose header names MR index 1: its MR indexes are no PCRs.
    """
    log = _parse(data, "TPM event log", accepts=_ALGORITHMS_OF_A_CCEL.issubset, register_of=_pcr_register)
    if ByteReader(data, "TPM event log").u32(0, name="index") == 1:
        raise DocumentError(
            "TPM event log: its header record has index 1, as in the CCEL of a TD; a TPM's has 0",
            hint="read it as a CCEL; a record that is wrong there is wrong",
        )
    return log


def parse_ccel(data: bytes) -> tuple[ParsedEvent, ...]:
    """The events of `read_ccel`."""
    return read_ccel(data).events


def parse_tpm_log(data: bytes) -> tuple[ParsedEvent, ...]:
    """The events of `read_tpm_log`."""
    return read_tpm_log(data).events


def _parse(
    data: bytes,
    what: str,
    *,
    accepts: Callable[[frozenset[int]], bool],
    register_of: Callable[[_Record], str | None],
) -> EventLog:
    reader = ByteReader(data, what)
    algorithms, start = _parse_header(reader)
    if not accepts(frozenset(algorithms)):
        raise DocumentError(
            f"{what}: algorithms {', '.join(map(_algorithm_name, algorithms))}; wanted SHA-384 (0x000c)",
            hint="a CCEL has SHA-384 alone; a TPM has it if its SHA-384 bank is on",
        )
    events: list[ParsedEvent] = []
    end = start
    for position, record in enumerate(_records(reader, start, algorithms)):
        events.append(_event(record, position, register_of(record)))
        end = record.end
    return EventLog(tuple(events), end, tuple(_tail_notes(data[end:], end)))


def _event(record: _Record, position: int, register: str | None) -> ParsedEvent:
    return ParsedEvent(
        position=position,
        index=record.index,
        register=register,
        event_type=record.event_type,
        digest=record.digests[_SHA384].hex(),
        data=record.data,
        name=event_name(record.event_type, record.data),
    )


def _parse_header(reader: ByteReader) -> tuple[tuple[int, ...], int]:
    """The algorithms of the first record (`quotes.md` 3.2), and where the next one starts."""
    _check_first_record(reader)
    size = reader.u32(28, name="size of the header")
    header = ByteReader(reader.slice(32, size, name="header"), f"{reader.what} header")
    if (
        header.slice(0, 16, name="signature") != _SPEC_ID
        or header.slice(20, 2, name="version") != _VERSION
        or header.u8(23, name="size of a UINTN") not in _UINTN_SIZES
    ):
        raise DocumentError(f"{reader.what}: header is not Spec ID Event03, version 2.0", hint=_NO_LOG)
    count = header.u32(24, name="number of algorithms")
    if not 1 <= count <= len(_ALGORITHM_NAMES):
        raise DocumentError(f"{reader.what}: {count} algorithms, wanted 1 to {len(_ALGORITHM_NAMES)}")
    algorithms = tuple(_parse_algorithm(header, 28 + 4 * position) for position in range(count))
    if len(set(algorithms)) != count:
        raise DocumentError(f"{reader.what}: names an algorithm twice: {', '.join(map(_algorithm_name, algorithms))}")
    vendor = 28 + 4 * count
    header.slice(vendor + 1, header.u8(vendor, name="size of the vendor data"), name="vendor data")
    return algorithms, 32 + size


def _check_first_record(reader: ByteReader) -> None:
    if reader.slice(0, 4, name="index") == b"CCEL":
        raise DocumentError(
            f"{reader.what}: this is the ACPI table that says where the log is",
            hint="give the log itself: in the guest, /sys/firmware/acpi/tables/data/CCEL",
        )
    if (
        reader.u32(0, name="index") > 1
        or reader.u32(4, name="type") != EV_NO_ACTION
        or reader.slice(8, 20, name="digest").strip(b"\0")
    ):
        raise DocumentError(f"{reader.what}: does not start with a TCG header record", hint=_NO_LOG)


def _parse_algorithm(header: ByteReader, offset: int) -> int:
    algorithm = header.u16(offset, name="algorithm")
    size = header.u16(offset + 2, name="digest size")
    if algorithm in _ALGORITHM_NAMES and algorithm not in _DIGEST_SIZES:
        raise DocumentError(
            f"{header.what}: algorithm {_algorithm_name(algorithm)}, which no TDX register is extended with",
            hint="SM3 is what a Hygon CSV guest measures with; only TDs and TPMs with SHA-384 are read here",
        )
    if _DIGEST_SIZES.get(algorithm) != size:
        raise DocumentError(
            f"{header.what}: unknown algorithm {_algorithm_name(algorithm)} with digests of {size} bytes"
        )
    return algorithm


def _algorithm_name(algorithm: int) -> str:
    name = _ALGORITHM_NAMES.get(algorithm)
    return f"{name} ({algorithm:#06x})" if name else f"{algorithm:#06x}"


def _records(reader: ByteReader, start: int, algorithms: tuple[int, ...]) -> Iterator[_Record]:
    offset, number = start, 0
    while not _is_end(reader, offset):
        try:
            record = _parse_record(reader, offset, algorithms)
        except DocumentError as error:
            raise DocumentError(f"{error.message}; record {number} starts at {offset:#x}", hint=error.hint) from error
        yield record
        offset, number = record.end, number + 1


def _is_end(reader: ByteReader, offset: int) -> bool:
    """Whether no record starts here (`quotes.md` 3.2). Less than a record's start is the end if it is all fill."""
    start = reader.slice(offset, min(_RECORD_START, len(reader) - offset), name="record")
    if start.startswith(_END_INDEX.to_bytes(4, "little")):
        return True
    return not start.strip(b"\0") or (len(start) < 4 and not start.strip(b"\xff"))


def _tail_notes(tail: bytes, end: int) -> Iterator[str]:
    """What stands behind the end besides the fill: 0xff or 0x00 throughout, by its first byte."""
    rest = tail.lstrip(tail[:1])
    if rest:
        yield (
            f"behind the end of the log at {end:#x}, {len(rest)} bytes from {end + len(tail) - len(rest):#x} on are "
            f"not the fill {tail[0]:#04x}; they were not read as events"
        )


def _parse_record(reader: ByteReader, offset: int, algorithms: tuple[int, ...]) -> _Record:
    count = reader.u32(offset + 8, name="number of digests")
    if count != len(algorithms):
        raise DocumentError(f"{reader.what}: {count} digests, wanted {len(algorithms)}")
    position = offset + 12
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = reader.u16(position, name="algorithm")
        if algorithm not in algorithms or algorithm in digests:
            raise DocumentError(f"{reader.what}: a digest of algorithm {_algorithm_name(algorithm)}, not in the header")
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
