"""Event logs of a TD and of a TPM (`quotes.md` 3), made here record by record."""

import hashlib

import pytest

from builder.errors import DocumentError
from builder.measure import data_matches_digest, parse_ccel, parse_tpm_log, replay
from builder.measure.efi_variables import EFI_GLOBAL_VARIABLE, EfiVariable, encode_variable_data
from builder.measure.event_data import event_name
from builder.measure.rtmr import extend
from builder.model.event import EV_EFI_ACTION, EV_EFI_VARIABLE_BOOT, EV_EVENT_TAG, EV_NO_ACTION, EV_SEPARATOR
from tests.fakes.boot_files import log_header, log_record

SHA1, SHA256, SHA384, SM3 = (4, 20), (0xB, 32), (0xC, 48), (0x12, 32)
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
    ],
    ids=["zeros", "older format", "index 2", "a digest", "another version"],
)
def test_what_does_not_start_like_a_log_is_refused(header: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_ccel(header + SEPARATOR)


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


def test_a_tpm_log_needs_sha384_and_known_pcrs() -> None:
    with pytest.raises(DocumentError, match="wanted SHA-384"):
        parse_tpm_log(log_header([SHA1, SHA256], index=0))
    with pytest.raises(DocumentError, match="PCR 24"):
        parse_tpm_log(TPM_HEADER + tpm_record(24))


def test_a_tpm_log_is_no_ccel() -> None:
    with pytest.raises(DocumentError, match="0x0004, 0x000b, 0x000c"):
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


def event_of(event_type: int, data: bytes, digest: bytes) -> str:
    (event,) = parse_ccel(HEADER + log_record(1, event_type, [(0xC, digest)], data))
    return str(data_matches_digest(event))


def test_data_is_believed_only_if_the_digest_covers_it() -> None:
    variable = encode_variable_data(EfiVariable(EFI_GLOBAL_VARIABLE, "BootOrder", b"\0\0"))
    assert event_of(EV_EFI_ACTION, b"text", hashlib.sha384(b"text").digest()) == "True"
    assert event_of(EV_EFI_ACTION, b"other", hashlib.sha384(b"text").digest()) == "False"
    assert event_of(EV_EFI_VARIABLE_BOOT, variable, hashlib.sha384(b"\0\0").digest()) == "True"
    assert event_of(EV_EFI_VARIABLE_BOOT, variable, hashlib.sha384(variable).digest()) == "False"
    assert event_of(EV_EFI_VARIABLE_BOOT, b"short", hashlib.sha384(b"short").digest()) == "False"
    assert event_of(EV_EVENT_TAG, b"anything", DIGEST) == "None"


@pytest.mark.parametrize(
    "data",
    [b"\x1b[31mred", b"\xff\xfe", b"x" * 101, "\u202e".encode(), b"a\nb"],
    ids=["escape", "bytes", "long", "bidi", "line"],
)
def test_a_name_from_a_log_is_harmless_to_show(data: bytes) -> None:
    assert event_name(EV_EFI_ACTION, data) == ""
