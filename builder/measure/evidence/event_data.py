"""What the data of a logged event says, and whether the event's digest vouches for it (`quotes.md` 3.4)."""

import hashlib
from collections.abc import Callable, Mapping

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.measure.firmware.efi_variables import EfiVariable, parse_variable_data
from builder.model.event import (
    EV_EFI_ACTION,
    EV_EFI_GPT_EVENT,
    EV_EFI_HANDOFF_TABLES2,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_EFI_VARIABLE_AUTHORITY,
    EV_EFI_VARIABLE_BOOT,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_EVENT_TAG,
    EV_IPL,
    EV_PLATFORM_CONFIG_FLAGS,
    EV_S_CRTM_VERSION,
    EV_SEPARATOR,
    ParsedEvent,
)

VARIABLE_EVENTS = {EV_EFI_VARIABLE_DRIVER_CONFIG, EV_EFI_VARIABLE_AUTHORITY, EV_EFI_VARIABLE_BOOT}
_NAMED = {EV_EFI_HANDOFF_TABLES2, EV_EFI_PLATFORM_FIRMWARE_BLOB2}  # u8 length, then a name
_LONGEST_NAME = 100
_ALIBABA_TAG = 0x4141454C
_MOST_PADDING = 8
_TD_SHIM_HEADER = 20  # 16 bytes of name, u32 length
# GRUB puts one of these before the text that it measures; Alibaba's has no colon, and measures the NUL of commands too
_GRUB_PREFIXES = (b"grub_cmd: ", b"grub_cmd ", b"kernel_cmdline: ", b"grub_kernel_cmdline ", b"module_cmdline: ")

Covered = tuple[bytes, ...] | None


def data_matches_digest(event: ParsedEvent) -> bool | None:
    """Whether the digest covers the event data shown; None where by its type it covers something else.

    Only data for which this is True is worth more than the word of whoever delivered the log. False means that the
    data was changed after it was measured, or was never what its type says.
    """
    rule = _RULES.get(event.event_type)
    covered = rule(event.data) if rule else None
    if covered is None:
        return None
    return any(hashlib.sha384(each).hexdigest() == event.digest for each in covered)


def _whole(data: bytes) -> Covered:
    return (data,)


def _authority(data: bytes) -> Covered:
    """The whole structure. Old versions of shim log padding behind it, the last byte of which they do not measure."""
    return (data,) if _structure_size(data) >= len(data) else (data, data[:-1])


def _boot_variable(data: bytes) -> Covered:
    """The variable's data alone (`measurement.md` 5.9)."""
    variable = _variable(data)
    return (variable.data,) if variable else ()


def _tagged(data: bytes) -> Covered:
    """Alibaba's AAEL events are measured whole; the EFI stub's events cover load options and initrd, not shown here."""
    return (data,) if int.from_bytes(data[:4], "little") == _ALIBABA_TAG else None


def _loader_text(data: bytes) -> Covered:
    """GRUB's commands and command lines (`measurement.md` 7.5); other EV_IPL data only names what was measured."""
    for prefix in _GRUB_PREFIXES:
        if data.startswith(prefix):
            text = data.removeprefix(prefix).partition(b"\0")[0]  # Alibaba's logs one byte more, of whatever follows
            return text, text + b"\0"
    return None


def _platform_config(data: bytes) -> Covered:
    """td-shim logs what it measures behind a name and a length (`measurement.md` 4.5); edk2 logs a name alone."""
    return None if td_shim_name(data) is None else (data[_TD_SHIM_HEADER:],)


def td_shim_name(data: bytes) -> str | None:
    """The name of a TD_SHIM_PLATFORM_CONFIG_INFO, whose length covers the rest of `data`; None for any other data."""
    if len(data) < _TD_SHIM_HEADER:
        return None
    reader = ByteReader(data, "event data")
    name, _, padding = reader.slice(0, 16, name="name").partition(b"\0")
    length = reader.u32(16, name="length")
    if not name or padding.strip(b"\0") or length != len(data) - _TD_SHIM_HEADER:
        return None
    return plain_text(name.decode("latin-1")) or None


_RULES: Mapping[int, Callable[[bytes], Covered]] = {
    EV_EFI_VARIABLE_DRIVER_CONFIG: _whole,
    EV_EFI_VARIABLE_AUTHORITY: _authority,
    EV_EFI_VARIABLE_BOOT: _boot_variable,
    EV_EFI_ACTION: _whole,
    EV_EFI_GPT_EVENT: _whole,
    EV_SEPARATOR: _whole,
    EV_S_CRTM_VERSION: _whole,
    EV_EVENT_TAG: _tagged,
    EV_IPL: _loader_text,
    EV_PLATFORM_CONFIG_FLAGS: _platform_config,
}


def event_name(event_type: int, data: bytes) -> str:
    """What an event's data says it is about: printable ASCII, at most 100 characters, empty if it says nothing."""
    if event_type in VARIABLE_EVENTS:
        variable = logged_variable(data)
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


def logged_variable(data: bytes) -> EfiVariable | None:
    """The variable of an event, without padding that old versions of shim put behind it; None if it is none."""
    size = _structure_size(data)
    padding = len(data) - size
    return _variable(data[:size] if 0 <= padding <= _MOST_PADDING else data)


def _structure_size(data: bytes) -> int:
    """How long a UEFI_VARIABLE_DATA says it is: 16 bytes of GUID, two u64 lengths, UTF-16 name, data."""
    characters, size = (int.from_bytes(data[offset : offset + 8], "little") for offset in (16, 24))
    return 32 + 2 * characters + size


def _variable(data: bytes) -> EfiVariable | None:
    try:
        return parse_variable_data(data)
    except DocumentError:
        return None
