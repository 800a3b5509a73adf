"""Extending and replaying RTMRs (`measurement.md` 1.2, 1.3)."""

import hashlib
from collections.abc import Iterable

from builder.model.event import EV_NO_ACTION, REGISTERS, ExpectedEvent, MeasuredEvent, PredictedEvent
from builder.model.reference_values import Registers

ZERO = bytes(48)


def extend(register: bytes, digest: bytes) -> bytes:
    """The register's next value: SHA-384 over its 48 bytes and the digest's 48 bytes."""
    if len(register) != 48 or len(digest) != 48:
        raise ValueError(f"a register and a digest are 48 bytes each, not {len(register)} and {len(digest)}")
    return hashlib.sha384(register + digest).digest()


def replay(events: Iterable[MeasuredEvent]) -> dict[str, str]:
    """Hex values of all four RTMRs after these events; a register without events is zero.

    EV_NO_ACTION and events of no register extend nothing (`quotes.md` 3.3). A replay proves digests, not the data an
    event log shows beside them.
    """
    registers = dict.fromkeys(REGISTERS, ZERO)
    for event in events:
        if event.register is not None and event.event_type != EV_NO_ACTION:
            registers[event.register] = extend(registers[event.register], bytes.fromhex(event.digest))
    return {register: value.hex() for register, value in registers.items()}


def registers_of(mrtd: str, events: Iterable[ExpectedEvent]) -> Registers:
    """The registers that predicted events lead to; None for one with an event that could not be predicted."""
    expected = tuple(events)
    replayed: dict[str, str | None] = dict(replay(event for event in expected if isinstance(event, PredictedEvent)))
    for event in expected:
        if not isinstance(event, PredictedEvent):
            replayed[event.register] = None
    return Registers(mrtd, replayed["rtmr0"], replayed["rtmr1"], replayed["rtmr2"])


def register_of_mr_index(index: int) -> str | None:
    """The register of a CCEL's MR index; None for MRTD (0), which is never extended, and for what does not exist."""
    return {1: "rtmr0", 2: "rtmr1", 3: "rtmr2", 4: "rtmr3"}.get(index)


def register_of_pcr(pcr: int) -> str | None:
    """The register that gets on TDX what a TPM's PCR gets elsewhere; None for PCR 0 and those above 15."""
    if pcr in (1, 7):
        return "rtmr0"
    if 2 <= pcr <= 6:
        return "rtmr1"
    return "rtmr2" if 8 <= pcr <= 15 else None
