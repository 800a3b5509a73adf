"""Finding the firmware's TCG log in the memory of a stopped guest, and proving with the TPM's PCRs that it is whole.

The firmware keeps its log in memory that an operating system may use again after boot services have ended. What
stays is a copy that Linux's EFI stub made before it ended them, and the final-events table, which has what the firmware
measured after the log was first asked for (TCG EFI Protocol 1.3, 7). Memory also holds remains and the bare signature
in program code. So whatever parses is a candidate, and only a replay to the PCRs of the TPM makes it the log: another
way of finding candidates could find none or more, but never another log.

A guest can fill its memory with logs. So no more is parsed than what is most likely the firmware's and a few more, and
whoever asks can end the search (`expired`): then candidates are fewer, and no log is proven.
"""

import struct
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import nlargest
from itertools import islice, takewhile
from typing import Protocol

from builder.errors import DocumentError, NotProvenError
from builder.measure.evidence.event_log import parse_tpm_log
from builder.measure.rtmr import ZERO, extend
from builder.model.event import EV_NO_ACTION, MeasuredEvent, ParsedEvent

Log = tuple[ParsedEvent, ...]

FIRMWARE_PCRS = range(10)

_SIGNATURE = b"Spec ID Event03\0"
_SIGNATURE_OFFSET = 32  # in the first record
_FIRST_RECORD = bytes((0, 0, 0, 0, 3, 0, 0, 0)) + bytes(20)  # PCR 0, EV_NO_ACTION, no digest
_AREA = 1 << 16  # PcdTcgLogAreaMinLen of OVMF
_LINUX_HEADER = struct.Struct("<IIB")  # struct linux_efi_tpm_eventlog: size, size of final events before, version
_FINAL_EVENTS_TABLE = uuid.UUID("1e2ed096-30e2-4254-bd89-863bbef82325").bytes_le
_FINAL_EVENTS_HEADER = struct.Struct("<QQ")  # version 1, number of events
_MAX_FINAL_EVENTS = 1000
_PAGE = 4096
_MAX_PLACES = 100_000  # that are looked at
_MAX_COPIES = 64  # that are parsed; a boot leaves two or three
_MAX_TABLES = 16
_MAX_CANDIDATES = 10_000
_MAX_EVENTS = 1_000_000  # of all candidates together

Expired = Callable[[], bool]


class Memory(Protocol):
    """Memory of a guest, by place in it: what is not there reads as nothing."""

    def find(self, pattern: bytes) -> Iterator[int]:
        """Every place of the pattern."""

    def read(self, place: int, size: int) -> bytes:
        """At most `size` bytes at a place."""

    def read_physical(self, address: int, size: int) -> bytes:
        """At most `size` bytes at a physical address of the guest."""


def never() -> bool:
    """A search that nothing ends early."""
    return False


def candidate_logs(memory: Memory, *, expired: Expired = never) -> list[Log]:
    """What may be the log, longest first: each copy alone, and with the last 1, 2, ... of the final events.

    At most 64 copies are tried, those first that lie and state their size as the firmware's and Linux's do, and fewer
    than 10,000 candidates come of them. Once `expired` says so, what was found is all.
    """
    found: dict[Log, None] = {}
    room = _MAX_EVENTS
    for log in takewhile(lambda _: not expired(), islice(_candidates(memory, expired), _MAX_CANDIDATES)):
        if (room := room - len(log)) < 0:
            break
        found[log] = None
    return sorted(found, key=len, reverse=True)


def proven_log(candidates: Iterable[Log], pcrs: Mapping[int, str]) -> Log:
    """The candidate whose replay gives PCR 0 to 9 of the TPM, and any other PCR that it extends (hex, SHA-384 bank).

    NotProvenError if there is none. Not proven: types and data, which no PCR covers, and the order between PCRs.
    """
    tried = 0
    for log in candidates:
        tried += 1
        if not _disagreeing(log, pcrs):
            return log
    raise NotProvenError(
        f"none of {tried} candidates for the firmware's log replays to the PCRs that the TPM holds",
        hint="the firmware may have no TPM driver, or the guest has written over its log or extended PCR 0 to 9 itself",
    )


def replay_pcrs(events: Iterable[ParsedEvent]) -> dict[int, str]:
    """Hex values of the SHA-384 bank after these events, by PCR; those without events are not in it."""
    values: dict[int, bytes] = {}
    for event in events:
        if event.event_type != EV_NO_ACTION:
            values[event.index] = extend(values.get(event.index, ZERO), bytes.fromhex(event.digest))
    return {pcr: value.hex() for pcr, value in values.items()}


def left_boot_services(events: Iterable[MeasuredEvent]) -> bool:
    """Whether the log has the event after which the firmware measures no more."""
    return any(event.name == "Exit Boot Services Returned with Success" for event in events)


def _disagreeing(log: Log, pcrs: Mapping[int, str]) -> list[int]:
    replayed = replay_pcrs(log)
    return [pcr for pcr in {*FIRMWARE_PCRS, *replayed} if replayed.get(pcr, ZERO.hex()) != pcrs.get(pcr)]


def shows_boot_services_left(memory: Memory, *, expired: Expired = never) -> bool:
    """Whether a log or final events somewhere in memory have that event: a sign of it, and no proof."""
    copies = _copies(memory, expired)
    if any(left_boot_services(log) for _, log in copies):
        return True
    tables = _tables(memory, expired)
    return any(left_boot_services(final) for header, _ in copies for final in _finals(tables, header, expired))


def _candidates(memory: Memory, expired: Expired) -> Iterator[Log]:
    copies = _copies(memory, expired)
    yield from (log for _, log in copies)
    tables = _tables(memory, expired)
    finals: dict[bytes, list[Log]] = {}
    for header, log in copies:
        if header not in finals:
            finals[header] = list(_finals(tables, header, expired))
        for final in finals[header]:
            for start in range(len(final)):
                yield (*log, *final[start:])


def _copies(memory: Memory, expired: Expired) -> list[tuple[bytes, Log]]:
    """The most likely logs that are there, each with its first record."""
    found: dict[tuple[bytes, Log], None] = {}
    likely = nlargest(_MAX_COPIES, _starts(memory, expired))  # of those alike the highest: so firmware allocates
    for _, start, size in takewhile(lambda _: not expired(), likely):
        for length in (_AREA, size):
            data = memory.read(start, min(length, _AREA))
            if log := _parsed(data):
                header = _SIGNATURE_OFFSET + int.from_bytes(data[28:32], "little")
                found[data[:header], log] = None
    return list(found)


def _starts(memory: Memory, expired: Expired) -> Iterator[tuple[int, int, int]]:
    """Every place of a first record, after how likely it is a log, and with the size that Linux's copy states there.

    OVMF's area starts a page, and Linux's copy is no larger than it.
    """
    places = takewhile(lambda _: not expired(), islice(memory.find(_SIGNATURE), _MAX_PLACES))
    for start in (place - _SIGNATURE_OFFSET for place in places):
        if start < _LINUX_HEADER.size or memory.read(start, len(_FIRST_RECORD)) != _FIRST_RECORD:
            continue
        size, _, _ = _LINUX_HEADER.unpack(memory.read(start - _LINUX_HEADER.size, _LINUX_HEADER.size))
        yield (_AREA if start % _PAGE == 0 else size if size <= _AREA else 0), start, size


def _tables(memory: Memory, expired: Expired) -> list[tuple[int, bytes]]:
    """Number of events and records of every final-events table that a configuration table points to."""
    found: dict[int, tuple[int, bytes]] = {}
    for place in takewhile(lambda _: not expired(), islice(memory.find(_FINAL_EVENTS_TABLE), _MAX_PLACES)):
        address = int.from_bytes(memory.read(place + len(_FINAL_EVENTS_TABLE), 8), "little")
        head = memory.read_physical(address, _FINAL_EVENTS_HEADER.size)
        if address in found or len(head) < _FINAL_EVENTS_HEADER.size:
            continue
        version, count = _FINAL_EVENTS_HEADER.unpack(head)
        if version == 1 and 0 < count <= _MAX_FINAL_EVENTS and len(found) < _MAX_TABLES:
            found[address] = count, memory.read_physical(address, _AREA)[_FINAL_EVENTS_HEADER.size :]
    return list(found.values())


def _finals(tables: Iterable[tuple[int, bytes]], header: bytes, expired: Expired) -> Iterator[Log]:
    for count, records in takewhile(lambda _: not expired(), tables):
        if final := _parsed(header + records)[:count]:
            yield final


def _parsed(data: bytes) -> Log:
    """The events, or none if it is no log."""
    try:
        return parse_tpm_log(data)
    except DocumentError:
        return ()
