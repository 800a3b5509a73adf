"""The data of logged events in short words, for people. Whether it is to be believed: `data_matches_digest`."""

import struct
import uuid
from collections.abc import Callable, Iterator, Mapping

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.measure.evidence.device_path_text import device_path_text
from builder.measure.evidence.event_data import VARIABLE_EVENTS, logged_variable, td_shim_name
from builder.measure.firmware.efi_variables import EfiVariable
from builder.model.event import (
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_GPT_EVENT,
    EV_EFI_HANDOFF_TABLES2,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_EVENT_TAG,
    EV_PLATFORM_CONFIG_FLAGS,
    EV_SEPARATOR,
    ParsedEvent,
)

_LONGEST = 200
_LONGEST_DESCRIPTION = 4096
_GPT_HEADER = 92
_GPT_ENTRY = 128
_MOST_PARTITIONS = 128
_FLAGS = {"SecureBoot", "SetupMode", "AuditMode", "DeployedMode"}
_FW_CFG = b"QEMU FW CFG\0"


def event_text(event: ParsedEvent) -> str:
    """What the data of `event` says: printable ASCII, at most 200 characters, empty if it says nothing that is known.

    Data that is not what its type asks for is shown as what is wrong with it.
    """
    if not event.data:
        return ""
    try:
        return _cut(_TEXTS.get(event.event_type, _plain)(event.data))
    except DocumentError as error:
        return _cut(f"malformed: {error.message}")


def _cut(text: str) -> str:
    text = "".join(each if each.isascii() and each.isprintable() else "." for each in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _plain(data: bytes) -> str:
    """ASCII or UTF-16 text up to its NUL; the size of anything else."""
    if len(data) % 2 == 0 and data[1:2] == b"\0":
        text = data.decode("utf-16-le", "replace").partition("\0")[0]
    else:
        text = data.partition(b"\0")[0].decode("latin-1")
    return text if text and text.isascii() else f"{len(data)} bytes"


def _variable(data: bytes) -> str:
    variable = logged_variable(data)
    if variable is None:
        raise DocumentError("not a UEFI_VARIABLE_DATA")
    return f"{variable.name}: {_variable_value(variable)}"


def _variable_value(variable: EfiVariable) -> str:
    data = variable.data
    if not data:
        return "absent"
    if variable.name in _FLAGS and len(data) == 1:
        return {0: "00 (off)", 1: "01 (on)"}.get(data[0], data.hex())
    if variable.name == "BootOrder" and len(data) % 2 == 0:
        return ", ".join(f"{number:04X}" for (number,) in struct.iter_unpack("<H", data))
    if _is_boot_option(variable.name):
        return load_option_text(data)
    return f"{len(data)} bytes"


def _is_boot_option(name: str) -> bool:
    return len(name) == 8 and name.startswith("Boot") and all(digit in "0123456789ABCDEF" for digit in name[4:])


def load_option_text(data: bytes) -> str:
    """Description and device path of an EFI_LOAD_OPTION (UEFI 2.10, 3.1.3). DocumentError if it is none."""
    reader = ByteReader(data, "EFI_LOAD_OPTION")
    attributes, path_size = reader.u32(0, name="attributes"), reader.u16(4, name="length of the path")
    last = min(len(data) - 1, _LONGEST_DESCRIPTION)
    end = next((offset for offset in range(6, last, 2) if data[offset : offset + 2] == b"\0\0"), None)
    if end is None:
        raise DocumentError(f"EFI_LOAD_OPTION: a description without end in its first {_LONGEST_DESCRIPTION} bytes")
    description = data[6:end].decode("utf-16-le", "replace")
    path = device_path_text(reader.slice(end + 2, path_size, name="device path"))
    return f'"{description}" {path}{"" if attributes & 1 else " (inactive)"}'


def _image(data: bytes) -> str:
    """UEFI_IMAGE_LOAD_EVENT: u64 location, u64 length, u64 link-time address, u64 path length, path."""
    reader = ByteReader(data, "UEFI_IMAGE_LOAD_EVENT")
    size, path_size = reader.u64(8, name="length"), reader.u64(24, name="length of the path")
    path = device_path_text(reader.slice(32, path_size, name="device path"))
    return f"{path or 'no device path'}, {size} bytes"


def _gpt(data: bytes) -> str:
    """The 92-byte header, u64 count, then the used entries (`measurement.md` 6.5)."""
    reader = ByteReader(data, "UEFI_GPT_DATA")
    disk = reader.guid(56, name="disk GUID")
    count = reader.u64(_GPT_HEADER, name="number of partitions")
    if count > _MOST_PARTITIONS:
        raise DocumentError(f"UEFI_GPT_DATA: {count} partitions, wanted at most {_MOST_PARTITIONS}")
    names = [
        _partition_name(reader.slice(_GPT_HEADER + 8 + index * _GPT_ENTRY, _GPT_ENTRY, name="entry"))
        for index in range(count)
    ]
    return f"disk {disk}, {count} partitions: {', '.join(names)}"


def _partition_name(entry: bytes) -> str:
    return entry[56:].decode("utf-16-le", "replace").partition("\0")[0] or str(uuid.UUID(bytes_le=entry[:16]))


def _tagged(data: bytes) -> str:
    """TCG_PCClientTaggedEvent; early kernels log the text without the header (`measurement.md` 7.1)."""
    reader = ByteReader(data, "TCG_PCClientTaggedEvent")
    if len(data) >= 8 and reader.u32(4, name="length") == len(data) - 8:
        return f"{_plain(data[8:])} (tag {reader.u32(0, name='tag'):#010x})"
    return _plain(data)


def _blob(data: bytes) -> str:
    reader = ByteReader(data, "EFI_PLATFORM_FIRMWARE_BLOB2")
    end = 1 + reader.u8(0, name="length of the name")
    base, size = reader.u64(end, name="base"), reader.u64(end + 8, name="length")
    return f"{_plain(reader.slice(1, end - 1, name='name'))}: {size:#x} bytes at {base:#x}"


def _old_blob(data: bytes) -> str:
    reader = ByteReader(data, "EFI_PLATFORM_FIRMWARE_BLOB")
    return f"{reader.u64(8, name='length'):#x} bytes at {reader.u64(0, name='base'):#x}"


def _handoff(data: bytes) -> str:
    reader = ByteReader(data, "EFI_HANDOFF_TABLE_POINTERS2")
    end = 1 + reader.u8(0, name="length of the name")
    name = _plain(reader.slice(1, end - 1, name="name"))
    return f"{name}: {', '.join(_tables(reader, end))}"


def _old_handoff(data: bytes) -> str:
    return ", ".join(_tables(ByteReader(data, "EFI_HANDOFF_TABLE_POINTERS"), 0))


def _tables(reader: ByteReader, offset: int) -> Iterator[str]:
    count = reader.u64(offset, name="number of tables")
    for index in range(min(count, _MOST_PARTITIONS)):
        entry = offset + 8 + 24 * index
        yield f"{reader.guid(entry, name='table GUID')} at {reader.u64(entry + 16, name='table address'):#x}"


def _platform_config(data: bytes) -> str:
    name = td_shim_name(data)
    if name is not None:
        return f"{name}: {len(data) - 20} bytes"
    return f"fw_cfg {_plain(data.removeprefix(_FW_CFG))}" if data.startswith(_FW_CFG) else _plain(data)


def _separator(data: bytes) -> str:
    return {bytes(4): "the end of the firmware's configuration", b"\1\0\0\0": "an error"}.get(data, data.hex())


_TEXTS: Mapping[int, Callable[[bytes], str]] = {
    **dict.fromkeys(VARIABLE_EVENTS, _variable),
    EV_SEPARATOR: _separator,
    EV_EVENT_TAG: _tagged,
    EV_PLATFORM_CONFIG_FLAGS: _platform_config,
    EV_EFI_BOOT_SERVICES_APPLICATION: _image,
    0x80000004: _image,  # drivers are measured like applications
    0x80000005: _image,
    EV_EFI_GPT_EVENT: _gpt,
    0x80000008: _old_blob,
    0x80000009: _old_handoff,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2: _blob,
    EV_EFI_HANDOFF_TABLES2: _handoff,
}
