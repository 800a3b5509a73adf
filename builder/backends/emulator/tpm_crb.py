"""PCRs of a stopped machine's TPM, read through the registers of its CRB interface as the guest would read them.

The processors of the machine must be stopped: the interface has no other lock. TCG PC Client Platform TPM Profile 1.05,
6.5.3 (registers); TPM 2.0 Library, part 3, 22.4 (TPM2_PCR_Read).
"""

import struct
import time
from collections.abc import Mapping

from builder.backends.emulator.qtest import Qtest
from builder.errors import NotProvenError

_BASE = 0xFED40000
_LOC_CTRL = _BASE + 0x08
_CTRL_REQ = _BASE + 0x40
_CTRL_START = _BASE + 0x4C
_BUFFER = _BASE + 0x80
_REQUEST_ACCESS = _COMMAND_READY = _START = (1).to_bytes(4, "little")
_STOPPED = bytes(4)

_NO_SESSIONS = 0x8001
_RC_INITIALIZE = 0x100
_NOT_STARTED = "the firmware has not started the TPM: it had no time to, or is a build without a TPM driver"
_PCR_READ = 0x0000017E
_SHA384 = 0x000C
_SHA384_SIZE = 48
_COMMAND = struct.Struct(">HIIIHB3s")  # tag, size, code, number of selections, algorithm, bytes of bitmap, bitmap
_HEADER = struct.Struct(">HII")  # tag, size, response code
# what follows a response's header: update counter, number of selections, algorithm, bytes of bitmap, bitmap, digests
_ANSWER = struct.Struct(">IIHB3sI")
_MAX_RESPONSE = 4096
_PCRS = 24
_POLL_SECONDS = 0.005


def read_pcrs(qtest: Qtest, *, timeout: float = 10.0) -> Mapping[int, str]:
    """All 24 PCRs of the SHA-384 bank, in hex. NotProvenError if the TPM gives none, or no answer for `timeout` s."""
    _await_idle(qtest, timeout)  # the guest may have been stopped in the middle of a command
    qtest.write_memory(_LOC_CTRL, _REQUEST_ACCESS)
    qtest.write_memory(_CTRL_REQ, _COMMAND_READY)
    return {pcr: _read_pcr(qtest, pcr, timeout).hex() for pcr in range(_PCRS)}


def _read_pcr(qtest: Qtest, pcr: int, timeout: float) -> bytes:
    """One PCR a command: an answer has at most eight, and says which only in a bitmap."""
    selection = (1 << pcr).to_bytes(3, "little")
    command = _COMMAND.pack(_NO_SESSIONS, _COMMAND.size, _PCR_READ, 1, _SHA384, len(selection), selection)
    qtest.write_memory(_BUFFER, command)
    qtest.write_memory(_CTRL_START, _START)
    _await_idle(qtest, timeout)
    return _digest(_response(qtest, pcr), pcr, selection)


def _await_idle(qtest: Qtest, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while qtest.read_memory(_CTRL_START, 4) != _STOPPED:
        if time.monotonic() > deadline:
            raise NotProvenError(f"the TPM of the machine gave no answer within {timeout:g} s")
        time.sleep(_POLL_SECONDS)


def _response(qtest: Qtest, pcr: int) -> bytes:
    """What follows the header of a response."""
    tag, size, code = _HEADER.unpack(qtest.read_memory(_BUFFER, _HEADER.size))
    if (tag, code) != (_NO_SESSIONS, 0) or not _HEADER.size < size <= _MAX_RESPONSE - (_BUFFER - _BASE):
        raise NotProvenError(
            f"the TPM refuses to read PCR {pcr}: tag {tag:#x}, {size} bytes, response code {code:#x}",
            hint=_NOT_STARTED if code == _RC_INITIALIZE else None,
        )
    return qtest.read_memory(_BUFFER, size)[_HEADER.size :]


def _digest(answer: bytes, pcr: int, selection: bytes) -> bytes:
    wanted = (1, _SHA384, len(selection), selection, 1, _SHA384_SIZE)
    size = _ANSWER.size + 2 + _SHA384_SIZE
    if len(answer) == size:
        _, *found = _ANSWER.unpack_from(answer)
        if (*found, int.from_bytes(answer[_ANSWER.size : _ANSWER.size + 2], "big")) == wanted:
            return answer[-_SHA384_SIZE:]
    raise NotProvenError(
        f"the TPM gives no PCR {pcr} of its SHA-384 bank: {answer[:40].hex()}",
        hint="the firmware may have switched the bank off",
    )
