"""Event logs of a TD and of a TPM (`quotes.md` 3), made here record by record."""

import hashlib
from collections.abc import Callable

import pytest

from builder.errors import DocumentError
from builder.measure import parse_ccel, parse_tpm_log, replay
from builder.measure.evidence.event_log import read_ccel, read_tpm_log
from builder.measure.rtmr import extend
from builder.model.event import EV_NO_ACTION, EV_SEPARATOR
from tests.fakes.boot_files import log_header, log_record

SHA1, SHA256, SHA384, SHA512, SM3 = (4, 20), (0xB, 32), (0xC, 48), (0xD, 64), (0x12, 32)
DIGEST = hashlib.sha384(bytes(4)).digest()
HEADER = log_header([SHA384])
SEPARATOR = log_record(1, EV_SEPARATOR, [(0xC, DIGEST)], bytes(4))
TPM_HEADER = log_header([SHA1, SHA256, SHA384], index=0)


def tpm_record(pcr: int, event_type: int = EV_SEPARATOR) -> bytes:
    return log_record(pcr, event_type, [(4, bytes(20)), (0xB, bytes(32)), (0xC, DIGEST)], bytes(4))


def test_a_record_is_read_field_by_field() -> None:
    (event,) = parse_ccel(HEADER + SEPARATOR)
    assert (event.position, event.index, event.register) == (0, 1, "rtmr0")
    assert (event.type_name, event.digest, event.data, event.name) == (
        "EV_SEPARATOR",
        DIGEST.hex(),
        bytes(4),
        "separator",
    )


@pytest.mark.parametrize("end", [b"", b"\xff" * 4, b"\xff" * 999, bytes(8), bytes(4096)], ids=len)
def test_each_way_to_end_is_an_end(end: bytes) -> None:
    assert len(parse_ccel(HEADER + SEPARATOR + SEPARATOR + end)) == 2
    assert parse_ccel(HEADER + end) == ()


@pytest.mark.parametrize(
    "end",
    [b"", b"\xff", b"\xff" * 3, b"\xff" * 4, b"\xff" * 9999, b"\0", bytes(7), bytes(8), bytes(9999)],
    ids=["unpadded", "1 ff", "3 ff", "4 ff", "edk2", "1 zero", "7 zeros", "8 zeros", "td-shim"],
)
def test_fill_is_the_end_and_nothing_to_note(end: bytes) -> None:
    log = read_ccel(HEADER + SEPARATOR + end)
    assert (len(log.events), log.end, log.notes) == (1, len(HEADER + SEPARATOR), ())


@pytest.mark.parametrize(
    "end",
    [b"\xff" * 8 + SEPARATOR, bytes(8) + SEPARATOR, b"\xff" * 4 + bytes(4), bytes(8) + b"\xff", bytes(100) + b"x"],
    ids=["records behind 0xff", "records behind zeros", "zeros behind 0xff", "0xff behind zeros", "a byte"],
)
def test_bytes_behind_the_end_are_never_events_and_are_noted(end: bytes) -> None:
    log = read_ccel(HEADER + SEPARATOR + end)
    assert len(log.events) == 1
    (note,) = log.notes
    assert f"behind the end of the log at {len(HEADER + SEPARATOR):#x}" in note
    assert "not read as events" in note


@pytest.mark.parametrize("end", [b"\xff\xfe", b"\xff\xff\0", b"\1", bytes(7) + b"\1", bytes(4) + b"\3"], ids=bytes.hex)
def test_a_tail_that_is_neither_fill_nor_a_record_is_refused(end: bytes) -> None:
    with pytest.raises(DocumentError, match="record 1 starts at|beyond the end"):
        read_ccel(HEADER + SEPARATOR + end)


def test_a_truncated_record_is_named() -> None:
    with pytest.raises(DocumentError, match=f"beyond the end.*; record 1 starts at {len(HEADER + SEPARATOR):#x}"):
        read_ccel(HEADER + SEPARATOR + SEPARATOR[:-1])


def test_a_ccel_reaches_rtmr3() -> None:
    (event,) = parse_ccel(HEADER + b"\4" + SEPARATOR[1:])
    assert event.register == "rtmr3"


def test_index_zero_with_a_type_is_a_record_and_no_end() -> None:
    no_action = log_record(0, EV_NO_ACTION, [(0xC, bytes(48))], b"note")
    assert [event.register for event in parse_ccel(HEADER + no_action + SEPARATOR)] == [None, "rtmr0"]


@pytest.mark.parametrize("end", range(1, len(SEPARATOR)))
def test_a_truncated_record_is_refused(end: int) -> None:
    with pytest.raises(DocumentError):
        parse_ccel(HEADER + SEPARATOR[:end])


@pytest.mark.parametrize("end", range(len(HEADER)))
def test_a_truncated_header_is_refused(end: int) -> None:
    with pytest.raises(DocumentError):
        parse_ccel(HEADER[:end])


@pytest.mark.parametrize(
    "algorithms", [[], [SHA256], [SM3], [SHA384, SM3], [(0xC, 32)], [SHA384, SHA384], [SHA256, SHA384]], ids=str
)
def test_a_ccel_has_sha384_and_nothing_else(algorithms: list[tuple[int, int]]) -> None:
    with pytest.raises(DocumentError):
        parse_ccel(log_header(algorithms) + SEPARATOR)


@pytest.mark.parametrize("parse", [parse_ccel, parse_tpm_log])
@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (SM3, r"SM3-256 \(0x0012\), which no TDX register"),
        ((0x28, 48), r"SHA3-384 \(0x0028\)"),
        ((0x27, 32), r"SHA3-256 \(0x0027\)"),
        ((0x1234, 32), "unknown algorithm 0x1234 with digests of 32 bytes"),
        ((0xD, 48), r"unknown algorithm SHA-512 \(0x000d\) with digests of 48 bytes"),
    ],
    ids=["SM3", "SHA3-384", "SHA3-256", "unknown", "SHA-512 of 48 bytes"],
)
def test_other_algorithms_are_refused_by_name(
    parse: Callable[[bytes], object], algorithm: tuple[int, int], message: str
) -> None:
    with pytest.raises(DocumentError, match=message):
        parse(log_header([SHA384, algorithm]))


def test_an_algorithm_twice_is_refused() -> None:
    with pytest.raises(DocumentError, match="an algorithm twice: SHA-384"):
        parse_tpm_log(log_header([SHA384, SHA384]))


BAD_RECORDS = {
    "no digest": log_record(1, 4, [], b""),
    "two digests": log_record(1, 4, [(0xC, DIGEST), (0xC, DIGEST)], b""),
    "another algorithm": log_record(1, 4, [(0xB, DIGEST[:32])], b""),
    "an unknown algorithm": log_record(1, 4, [(0x12, DIGEST)], b""),
    "MRTD extended": log_record(0, 4, [(0xC, DIGEST)], b""),
    "register 5": log_record(5, 4, [(0xC, DIGEST)], b""),
    "note for register 5": log_record(5, EV_NO_ACTION, [(0xC, DIGEST)], b""),
    "data of 4 GiB": SEPARATOR[:-8] + b"\xff" * 8,
    "four billion digests": SEPARATOR[:8] + b"\xff" * 4 + SEPARATOR[12:],
}


@pytest.mark.parametrize("record", BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_bad_records_are_refused(record: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_ccel(HEADER + record)


@pytest.mark.parametrize(
    "header",
    [
        bytes(len(HEADER)),
        HEADER.replace(b"Spec ID Event03", b"Spec ID Event02"),
        b"\2" + HEADER[1:],
        HEADER[:8] + b"\1" + HEADER[9:],
        HEADER[: 32 + 21] + b"\1" + HEADER[32 + 22 :],
        HEADER[: 32 + 20] + b"\1" + HEADER[32 + 21 :],
        HEADER[: 32 + 23] + b"\0" + HEADER[32 + 24 :],
        HEADER[: 32 + 23] + b"\3" + HEADER[32 + 24 :],
    ],
    ids=["zeros", "older format", "index 2", "a digest", "another version", "minor 1", "no UINTN", "UINTN of 96 bits"],
)
def test_what_does_not_start_like_a_log_is_refused(header: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_ccel(header + SEPARATOR)


def test_the_acpi_table_in_place_of_the_log_is_recognised() -> None:
    with pytest.raises(DocumentError, match="ACPI table that says where the log is"):
        parse_ccel(b"CCEL" + bytes(52))


@pytest.mark.parametrize(("errata", "uintn"), [(0, 1), (0, 2), (105, 2), (255, 1)])
def test_errata_and_the_size_of_a_uintn_may_be_any_that_firmware_writes(errata: int, uintn: int) -> None:
    """td-shim writes errata 105, edk2 0."""
    header = HEADER[: 32 + 22] + bytes((errata, uintn)) + HEADER[32 + 24 :]
    assert len(parse_ccel(header + SEPARATOR)) == 1


def test_vendor_data_is_skipped() -> None:
    assert len(parse_ccel(log_header([SHA384], vendor=b"vendor") + SEPARATOR)) == 1


def test_a_tpm_log_gives_the_sha384_digest_and_the_register_of_a_td() -> None:
    events = parse_tpm_log(TPM_HEADER + b"".join(tpm_record(pcr) for pcr in range(1, 24)))
    assert {event.digest for event in events} == {DIGEST.hex()}
    registers = {event.index: event.register for event in events}
    assert [pcr for pcr, register in registers.items() if register == "rtmr0"] == [1, 7]
    assert [pcr for pcr, register in registers.items() if register == "rtmr1"] == [2, 3, 4, 5, 6]
    assert [pcr for pcr, register in registers.items() if register == "rtmr2"] == list(range(8, 16))
    assert [pcr for pcr, register in registers.items() if register is None] == list(range(16, 24))


def test_a_ccel_is_no_tpm_log() -> None:
    """Its MR indexes would be taken for PCRs, and the registers for others."""
    with pytest.raises(DocumentError, match="as in the CCEL of a TD"):
        parse_tpm_log(HEADER + SEPARATOR)
    assert len(parse_tpm_log(log_header([SHA384], index=0) + SEPARATOR)) == 1


def test_a_tpm_log_needs_sha384_and_known_pcrs() -> None:
    with pytest.raises(DocumentError, match="wanted SHA-384"):
        parse_tpm_log(log_header([SHA1, SHA256], index=0))
    with pytest.raises(DocumentError, match="PCR 24"):
        parse_tpm_log(TPM_HEADER + tpm_record(24))


def test_a_tpm_with_a_sha512_bank_has_the_same_sha384_digests() -> None:
    digests = [(0xD, bytes(64)), (4, bytes(20)), (0xC, DIGEST)]  # the order of a record's digests is free
    log = read_tpm_log(log_header([SHA1, SHA384, SHA512], index=0) + log_record(7, 4, digests, bytes(4)) + bytes(99))
    assert [event.digest for event in log.events] == [DIGEST.hex()]
    assert log.notes == ()


def test_a_sha512_digest_in_a_ccel_is_refused() -> None:
    with pytest.raises(DocumentError, match="a CCEL has SHA-384 alone|wanted SHA-384"):
        parse_ccel(log_header([SHA384, SHA512]))


def test_a_tpm_log_is_no_ccel() -> None:
    with pytest.raises(DocumentError, match=r"SHA-1 \(0x0004\), SHA-256 \(0x000b\), SHA-384 \(0x000c\); wanted"):
        parse_ccel(TPM_HEADER + tpm_record(1))


def test_replay_extends_in_order_and_leaves_notes_out() -> None:
    first, second = hashlib.sha384(b"1").digest(), hashlib.sha384(b"2").digest()
    log = HEADER + b"".join(
        log_record(index, event_type, [(0xC, digest)], b"")
        for index, event_type, digest in (
            (1, 4, first),
            (2, 4, second),
            (1, EV_NO_ACTION, first),
            (1, 4, second),
        )
    )
    registers = replay(parse_ccel(log))
    assert registers["rtmr0"] == extend(extend(bytes(48), first), second).hex()
    assert registers["rtmr1"] == extend(bytes(48), second).hex()
    assert registers["rtmr2"] == registers["rtmr3"] == "00" * 48


@pytest.mark.parametrize(("register", "digest"), [(bytes(47), DIGEST), (bytes(48), b""), (bytes(48), DIGEST + b"x")])
def test_extending_takes_48_bytes_each(register: bytes, digest: bytes) -> None:
    with pytest.raises(ValueError, match="48 bytes each"):
        extend(register, digest)
