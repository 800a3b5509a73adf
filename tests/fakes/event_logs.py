"""Event logs made of events: the CCEL of a TD that measured what was predicted."""

from collections.abc import Iterable

from builder.model.event import ParsedEvent, PredictedEvent
from tests.fakes.boot_files import log_header, log_record

MR_INDEX = {"rtmr0": 1, "rtmr1": 2, "rtmr2": 3, "rtmr3": 4}
SHA384 = (0xC, 48)


def ccel_of(events: Iterable[PredictedEvent | ParsedEvent]) -> bytes:
    """A padded CCEL with these digests; the data of a predicted event is its name, which no digest covers."""
    return log_header([SHA384]) + b"".join(map(record_of, events)) + b"\xff" * 64


def record_of(event: PredictedEvent | ParsedEvent) -> bytes:
    """One record."""
    data = event.data if isinstance(event, ParsedEvent) else event.name.encode("ascii")
    return log_record(
        MR_INDEX[event.register or "rtmr0"], event.event_type, [(SHA384[0], bytes.fromhex(event.digest))], data
    )
