"""Finding a TCG log in a guest's memory: copies, remains, the final-events table, and hostile bytes."""

import struct
import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import NotProvenError
from builder.measure.evidence.guest_log import (
    Log,
    candidate_logs,
    left_boot_services,
    proven_log,
    replay_pcrs,
    shows_boot_services_left,
)
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
from tests.fakes.flat_memory import SIZE, FlatMemory, firmware_area, with_actions

TABLE_GUID = uuid.UUID("1e2ed096-30e2-4254-bd89-863bbef82325").bytes_le
LOG = tpm_log(predicted(), acpi_with_tpm())
DIGESTS = [(each.index, each.digest) for each in LOG]
LAST = 2  # events after boot services were asked to end, which a kernel's own copy of the log lacks


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


def crowded(log: Log, *, spacing: int = 1024, size: int = 32 << 20) -> dict[int, bytes]:
    """Every KiB of a memory a small log."""
    return dict.fromkeys(range(0, size, spacing), linux_copy(log))


def test_thousands_of_small_logs_are_not_all_parsed_and_do_not_hide_the_long_one() -> None:
    memory = FlatMemory({**crowded(LOG[:1]), 0x12345: linux_copy(LOG)}, 32 << 20)
    assert found(memory) == DIGESTS
    memory.reads.clear()
    assert not shows_boot_services_left(FlatMemory(crowded(LOG[:1]), 32 << 20))
    candidate_logs(memory)
    assert len([size for size in memory.reads if size > 100]) <= 2 * 64


def test_thousands_of_small_logs_do_not_hide_the_area_of_the_firmware() -> None:
    assert found(FlatMemory({**crowded(LOG[:1], spacing=4000), 0x40000: firmware_area(LOG)}, 32 << 20)) == DIGESTS


def test_what_is_too_much_to_look_at_is_not_proven() -> None:
    memory = FlatMemory({**crowded((*LOG, *LOG), spacing=8192), 0x12345: linux_copy(LOG)}, 32 << 20)
    with pytest.raises(NotProvenError, match="replays to the PCRs"):
        found(memory)


def test_final_events_tables_are_not_all_parsed() -> None:
    tables = {0x40000 + 0x4000 * place: final_events(LOG[-LAST:])[:0x3000] for place in range(40)}
    pointers = {0x100 + 0x40 * place: configuration_table(address) for place, address in enumerate(tables)}
    memory = FlatMemory({0x2001: linux_copy(LOG[:-LAST]), **tables, **pointers})
    assert found(memory) == DIGESTS
    memory.reads.clear()
    candidate_logs(memory)
    assert memory.reads.count(1 << 16) <= 1 + 16


def test_many_long_candidates_do_not_take_for_ever() -> None:
    """Each of ten tables alone would add 300 candidates of 450 events."""
    logs = [tuple(replace(LOG[0], digest=f"{n:094x}{table:02x}") for n in range(300)) for table in range(10)]
    tables = {0x20000 + 0x10000 * place: final_events(log) for place, log in enumerate(logs)}
    pointers = {0x100 + 0x40 * place: configuration_table(address) for place, address in enumerate(tables)}
    candidates = candidate_logs(FlatMemory({0x2001: linux_copy(logs[0]), **tables, **pointers}))
    assert 900_000 < sum(map(len, candidates)) <= 1_000_000


def test_a_search_that_is_ended_finds_no_more() -> None:
    memory = FlatMemory({0x12345: firmware_area(LOG)})
    assert candidate_logs(memory, expired=lambda: True) == []
    assert not shows_boot_services_left(memory, expired=lambda: True)
    assert memory.reads == []


@pytest.mark.parametrize("looks", [1, 10, 100, 1000])
def test_a_search_can_be_ended_anywhere(looks: int) -> None:
    memory = FlatMemory({**crowded(LOG[:1], size=1 << 19), 0x90000: configuration_table(0x40000)})
    left = iter(range(looks))
    candidate_logs(memory, expired=lambda: next(left, None) is None)
    assert len(memory.reads) <= 3 * looks


def test_leaving_boot_services_shows_in_a_log_and_in_final_events() -> None:
    log = with_actions(LOG)
    table = {0x40000: final_events(log[-LAST:]), 0x90000: configuration_table(0x40000)}
    assert shows_boot_services_left(FlatMemory({0x12345: firmware_area(log)}))
    assert shows_boot_services_left(FlatMemory({0x1001: linux_copy(log[:-LAST]), **table}))
    assert not shows_boot_services_left(FlatMemory({0x1001: linux_copy(log[:-LAST])}))
    assert not shows_boot_services_left(FlatMemory(table)), "without a log nobody knows the form of its records"
