"""Reading PCRs through the registers of a TPM, and every answer that proves nothing."""

import struct
from collections.abc import Callable

import pytest

from builder.backends.emulator.qtest import Qtest
from builder.backends.emulator.tpm_crb import read_pcrs
from builder.errors import NotProvenError
from tests.fakes.fake_crb import FakeCrb

PCRS = {pcr: bytes((pcr,)) * 48 for pcr in range(24)}


def test_all_pcrs_are_read() -> None:
    assert read_pcrs(Qtest(FakeCrb(PCRS))) == {pcr: value.hex() for pcr, value in PCRS.items()}


def test_a_tpm_that_is_busy_is_waited_for() -> None:
    tpm = FakeCrb(PCRS)
    tpm.busy = 5
    assert len(read_pcrs(Qtest(tpm))) == 24


def test_a_tpm_that_never_answers_is_not_proven_and_not_waited_for_for_ever() -> None:
    tpm = FakeCrb(PCRS)
    tpm.busy = 1 << 60
    with pytest.raises(NotProvenError, match="no answer within 0 s"):
        read_pcrs(Qtest(tpm), timeout=0)
    assert tpm.commands == [], "a command of the guest may still be in the buffer"


def test_a_bank_that_is_off_is_not_proven() -> None:
    with pytest.raises(NotProvenError, match="gives no PCR 0 of its SHA-384 bank"):
        read_pcrs(Qtest(FakeCrb({})))


def test_a_firmware_without_a_tpm_driver_is_told_as_the_reason() -> None:
    tpm = FakeCrb(PCRS)
    tpm.answer = lambda _: struct.pack(">HII", 0x8001, 10, 0x100)
    with pytest.raises(NotProvenError) as caught:
        read_pcrs(Qtest(tpm))
    assert "without a TPM driver" in str(caught.value.hint)


def patched(offset: int, data: bytes) -> Callable[[bytes], bytes]:
    return lambda honest: honest[:offset] + data + honest[offset + len(data) :]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(patched(0, b"\x80\x02"), id="tag with sessions"),
        pytest.param(patched(6, struct.pack(">I", 0x100)), id="TPM_RC_INITIALIZE"),
        pytest.param(patched(2, struct.pack(">I", 10)), id="header alone"),
        pytest.param(patched(2, struct.pack(">I", 0)), id="size 0"),
        pytest.param(patched(2, struct.pack(">I", 77)), id="one byte short"),
        pytest.param(patched(2, struct.pack(">I", 79)), id="one byte long"),
        pytest.param(patched(2, struct.pack(">I", 0xFFFFFFFF)), id="enormous"),
        pytest.param(patched(14, struct.pack(">I", 2)), id="two selections"),
        pytest.param(patched(18, b"\x00\x0b"), id="SHA-256"),
        pytest.param(patched(21, b"\x00\x00\x80"), id="another PCR"),
        pytest.param(patched(24, struct.pack(">I", 2)), id="two digests"),
        pytest.param(patched(28, b"\x00\x20"), id="digest of 32 bytes"),
        pytest.param(lambda _: b"", id="nothing"),
        pytest.param(lambda honest: b"\xff" * len(honest), id="ones"),
    ],
)
def test_an_answer_that_is_not_the_pcr_is_not_proven(answer: Callable[[bytes], bytes]) -> None:
    tpm = FakeCrb(PCRS)
    tpm.answer = answer
    with pytest.raises(NotProvenError):
        read_pcrs(Qtest(tpm), timeout=5)
