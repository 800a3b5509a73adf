"""Finding the firmware's TCG log in the memory of a stopped guest, and proving with the TPM's PCRs that it is whole.

The firmware keeps its log in memory that an operating system may use again after boot services have ended. What
stays is a copy that Linux's EFI stub made before it ended them, and the final-events table, which has what the firmware
measured after the log was first asked for (TCG EFI Protocol 1.3, 7). Memory also holds remains and the bare signature
in program code. So whatever parses is a candidate, and only a replay to the PCRs of the TPM makes it the log: another
way of finding candidates could find none or more, but never another log.
"""

import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
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
_MAX_CANDIDATES = 10000


class Memory(Protocol):
    """Memory of a guest, by place in it: what is not there reads as nothing."""

    def find(self, pattern: bytes) -> Iterator[int]:
        """Every place of the pattern."""

    def read(self, place: int, size: int) -> bytes:
        """At most `size` bytes at a place."""

    def read_physical(self, address: int, size: int) -> bytes:
        """At most `size` bytes at a physical address of the guest."""


def candidate_logs(memory: Memory) -> list[Log]:
    """All that may be the log, longest first: each copy alone, and with the last 1, 2, ... of the final events."""
    return sorted(dict.fromkeys(islice(_candidates(memory), _MAX_CANDIDATES)), key=len, reverse=True)


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


def _candidates(memory: Memory) -> Iterator[Log]:
    for header, log in dict.fromkeys(_copies(memory)):
        for final in _finals(memory, header):
            for start in range(len(final) + 1):
                yield (*log, *final[start:])


def _copies(memory: Memory) -> Iterator[tuple[bytes, Log]]:
    """Every log that is there, with its first record."""
    for place in memory.find(_SIGNATURE):
        start = place - _SIGNATURE_OFFSET
        if start < _LINUX_HEADER.size or memory.read(start, len(_FIRST_RECORD)) != _FIRST_RECORD:
            continue
        size, _, _ = _LINUX_HEADER.unpack(memory.read(start - _LINUX_HEADER.size, _LINUX_HEADER.size))
        for length in (_AREA, size):
            data = memory.read(start, min(length, _AREA))
            if log := _parsed(data):
                header = _SIGNATURE_OFFSET + int.from_bytes(data[28:32], "little")
                yield data[:header], log


def _finals(memory: Memory, header: bytes) -> Iterator[Log]:
    """Every final-events table that a configuration table points to, and none."""
    yield ()
    for place in memory.find(_FINAL_EVENTS_TABLE):
        address = int.from_bytes(memory.read(place + len(_FINAL_EVENTS_TABLE), 8), "little")
        table = memory.read_physical(address, _AREA)
        if len(table) < _FINAL_EVENTS_HEADER.size:
            continue
        version, count = _FINAL_EVENTS_HEADER.unpack_from(table)
        if version == 1 and 0 < count <= _MAX_FINAL_EVENTS:
            yield _parsed(header + table[_FINAL_EVENTS_HEADER.size :])[:count]


def _parsed(data: bytes) -> Log:
    """The events, or none if it is no log."""
    try:
        return parse_tpm_log(data)
    except DocumentError:
        return ()
