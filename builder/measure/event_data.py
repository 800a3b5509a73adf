"""What the data of a logged event says, and whether the event's digest vouches for it (`quotes.md` 3.4)."""

import hashlib

from builder.errors import DocumentError
from builder.measure.efi_variables import EfiVariable, parse_variable_data
from builder.model.event import (
    EV_EFI_ACTION,
    EV_EFI_GPT_EVENT,
    EV_EFI_HANDOFF_TABLES2,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_EFI_VARIABLE_AUTHORITY,
    EV_EFI_VARIABLE_BOOT,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_EVENT_TAG,
    EV_SEPARATOR,
    ParsedEvent,
)

_OVER_DATA = {
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_EFI_VARIABLE_AUTHORITY,
    EV_EFI_ACTION,
    EV_SEPARATOR,
    EV_EFI_GPT_EVENT,
}
_VARIABLES = {EV_EFI_VARIABLE_DRIVER_CONFIG, EV_EFI_VARIABLE_AUTHORITY, EV_EFI_VARIABLE_BOOT}
_NAMED = {EV_EFI_HANDOFF_TABLES2, EV_EFI_PLATFORM_FIRMWARE_BLOB2}  # u8 length, then a name
_LONGEST_NAME = 100


def data_matches_digest(event: ParsedEvent) -> bool | None:
    """Whether the digest covers the event data shown; None where by its type it covers something else.

    Only data for which this is True is worth more than the word of whoever delivered the log.
    """
    if event.event_type in _OVER_DATA:
        return hashlib.sha384(event.data).hexdigest() == event.digest
    if event.event_type == EV_EFI_VARIABLE_BOOT:
        variable = _variable(event.data)
        return variable is not None and hashlib.sha384(variable.data).hexdigest() == event.digest
    return None


def event_name(event_type: int, data: bytes) -> str:
    """What an event's data says it is about: printable ASCII, at most 100 characters, empty if it says nothing."""
    if event_type in _VARIABLES:
        variable = _variable(data)
        text = variable.name if variable else ""
    elif event_type == EV_SEPARATOR:
        text = "separator"
    elif event_type == EV_EVENT_TAG:
        text = data[8:].partition(b"\0")[0].decode("latin-1")  # u32 tag, u32 length, text
    elif event_type in _NAMED:
        text = data[1 : 1 + data[0]].rstrip(b"\0").decode("latin-1") if data else ""
    else:
        text = data.partition(b"\0")[0].decode("latin-1")
    return plain_text(text)


def plain_text(text: str) -> str:
    """`text` if it is printable ASCII of at most 100 characters, so that it can be shown; otherwise nothing."""
    return text if len(text) <= _LONGEST_NAME and text.isascii() and text.isprintable() else ""


def _variable(data: bytes) -> EfiVariable | None:
    try:
        return parse_variable_data(data)
    except DocumentError:
        return None
