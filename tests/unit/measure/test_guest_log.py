"""Finding a TCG log in a guest's memory: copies, remains, the final-events table, and hostile bytes."""

import struct
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import NotProvenError
from builder.measure.evidence.guest_log import Log, candidate_logs, left_boot_services, proven_log, replay_pcrs
from builder.measure.rtmr import ZERO, extend
from builder.model.event import EV_NO_ACTION
from tests.fakes.emulated_boot import (
    LOG_HEADER,
    acpi_with_tpm,
    encoded_records,
    event,
    pcrs_after,
    predicted,
    tpm_log,
)

SIZE = 1 << 20
TABLE_GUID = uuid.UUID("1e2ed096-30e2-4254-bd89-863bbef82325").bytes_le
LOG = tpm_log(predicted(), acpi_with_tpm())
DIGESTS = [(each.index, each.digest) for each in LOG]
LAST = 2  # events after boot services were asked to end, which a kernel's own copy of the log lacks


class FlatMemory:
    """A guest's memory in which places are physical addresses."""

    def __init__(self, parts: dict[int, bytes], size: int = SIZE) -> None:
        self.data = bytearray(size)
        for place, part in parts.items():
            self.data[place : place + len(part)] = part

    def find(self, pattern: bytes) -> Iterator[int]:
        place = self.data.find(pattern)
        while place >= 0:
            yield place
            place = self.data.find(pattern, place + 1)

    def read(self, place: int, size: int) -> bytes:
        return bytes(self.data[place : place + size]) if place >= 0 else b""

    read_physical = read


def firmware_area(log: Log) -> bytes:
    return (LOG_HEADER + encoded_records(log)).ljust(1 << 16, b"\xff")


def linux_copy(log: Log, *, size: int | None = None) -> bytes:
    """As the EFI stub keeps it: size, size of final events before, version, and no end after the last record."""
    data = LOG_HEADER + encoded_records(log)
    return struct.pack("<IIB", len(data) if size is None else size, 0, 2) + data + b"remains of something else" * 9


def final_events(log: Log, *, version: int = 1, count: int | None = None) -> bytes:
    header = struct.pack("<QQ", version, len(log) if count is None else count)
    return (header + encoded_records(log)).ljust(1 << 16, b"\xff")


def configuration_table(address: int) -> bytes:
    return b"another table" + TABLE_GUID + struct.pack("<Q", address)


def found(memory: FlatMemory) -> list[tuple[int, str]]:
    return [(each.index, each.digest) for each in proven_log(candidate_logs(memory), pcrs_after(LOG))]


def test_the_log_of_the_firmware_is_found_where_it_lies() -> None:
    assert found(FlatMemory({0x12345: firmware_area(LOG)})) == DIGESTS


def test_a_copy_of_the_kernel_is_completed_by_the_final_events() -> None:
    memory = {
        0x1001: linux_copy(LOG[:-LAST]),
        0x40000: final_events(LOG[-LAST:]),
        0x90000: configuration_table(0x40000),
    }
    assert found(FlatMemory(memory)) == DIGESTS
    without_table = {place: part for place, part in memory.items() if place != 0x40000}
    with pytest.raises(NotProvenError, match="replays to the PCRs"):
        found(FlatMemory(without_table))


@pytest.mark.parametrize("asked", [2, 5, 10])
def test_final_events_that_the_copy_has_already_are_not_taken_twice(asked: int) -> None:
    """The table has what came after the log was first asked for, which a boot loader may do before the kernel."""
    memory = {
        0x1001: linux_copy(LOG[:-LAST]),
        0x40000: final_events(LOG[-asked:]),
        0x90000: configuration_table(0x40000),
    }
    assert found(FlatMemory(memory)) == DIGESTS


def test_an_area_that_was_written_over_does_not_hide_the_copy() -> None:
    memory = {
        0x80000: firmware_area(LOG)[:3000] + b"\x55" * 5000,
        0x1001: linux_copy(LOG[:-LAST]),
        0x40000: final_events(LOG[-LAST:]),
        0x90000: configuration_table(0x40000),
        0xA0000: configuration_table(0x777777777777),
        0xB0000: configuration_table(0x50000),
    }
    assert found(FlatMemory(memory)) == DIGESTS


def test_the_signature_in_program_code_is_no_log() -> None:
    memory = {0x500: b"Spec ID Event02\0Spec ID Event03\0StartupLocality\0", 0: b"Spec ID Event03\0"}
    assert candidate_logs(FlatMemory(memory)) == []


@pytest.mark.parametrize("size", [0, 1, 50, 1 << 31, 0xFFFFFFFF])
def test_a_copy_with_another_size_than_its_own_is_not_believed(size: int) -> None:
    with pytest.raises(NotProvenError):
        found(FlatMemory({0x1001: linux_copy(LOG, size=size)}))


@pytest.mark.parametrize(("version", "count"), [(0, 2), (2, 2), (1, 0), (1, 1 << 40)])
def test_a_table_that_is_no_final_events_table_adds_nothing(version: int, count: int) -> None:
    memory = {
        0x1001: linux_copy(LOG[:-LAST]),
        0x40000: final_events(LOG[-LAST:], version=version, count=count),
        0x90000: configuration_table(0x40000),
    }
    assert {len(log) for log in candidate_logs(FlatMemory(memory))} == {len(LOG) - LAST}


def test_a_log_of_another_boot_is_never_proven() -> None:
    other = tuple(event(each.index, each.event_type, "a" * 96) for each in LOG)
    with pytest.raises(NotProvenError, match="none of 1 candidates"):
        found(FlatMemory({0x1000: firmware_area(other)}))


def test_many_copies_and_tables_do_not_take_for_ever() -> None:
    short = LOG[:1]
    parts = {place: linux_copy(short) for place in range(0, SIZE, 1024)}
    tables = {place + 700: configuration_table(0x40000) for place in range(0, SIZE, 1024)}
    memory = FlatMemory({**parts, **tables, 0x40000: final_events(tuple(LOG[:1] * 400))})
    assert len(candidate_logs(memory)) <= 10000


@given(st.binary(max_size=400), st.binary(max_size=400), st.integers(0, 5000))
def test_hostile_memory_gives_candidates_or_none_and_never_an_error(before: bytes, after: bytes, cut: int) -> None:
    area = firmware_area(LOG)[:cut]
    memory = FlatMemory(
        {64: before + linux_copy(LOG)[:cut] + after, 20000: area + after + TABLE_GUID + before}, 1 << 16
    )
    for log in candidate_logs(memory):
        assert replay_pcrs(log)


def test_a_replay_is_that_of_each_pcr_on_its_own() -> None:
    digest = "ab" * 48
    log = (event(0, 4, digest), event(7, 4, digest), event(7, 4, digest), event(3, EV_NO_ACTION, digest))
    once = extend(ZERO, bytes.fromhex(digest))
    assert replay_pcrs(log) == {0: once.hex(), 7: extend(once, bytes.fromhex(digest)).hex()}


def test_a_pcr_above_9_counts_if_the_log_extends_it() -> None:
    log = (*LOG, event(12, 0xD, "ab" * 48))
    assert proven_log([log], pcrs_after(log)) == log
    with pytest.raises(NotProvenError):
        proven_log([log], pcrs_after(LOG))
    assert proven_log([LOG], pcrs_after(log)) == LOG, "an operating system may extend its own PCRs later"


def test_boot_services_were_left_only_with_the_event_that_says_so() -> None:
    assert left_boot_services(LOG)
    assert not left_boot_services(LOG[:-1])
    assert not left_boot_services(())
