"""EFI variables as the firmware measures them: secure boot (`measurement.md` 5.4) and boot options (5.9)."""

import hashlib
import struct
import uuid
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.model.launch_profile import BootOptions, SecureBootVariable

EFI_GLOBAL_VARIABLE = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
EFI_IMAGE_SECURITY_DATABASE = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")

_HEADER = struct.Struct("<16sQQ")
_FIRMWARE_VOLUME = uuid.UUID("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1")
_UI_APP = uuid.UUID("462caa21-7614-4503-836e-8ab6f4662331")
_BOOT_MANAGER_MENU_APP = uuid.UUID("eec25bdc-67f2-4d95-b1d5-f81b2039d11d")
_ACTIVE = 0x001
_HIDDEN_APPLICATION = 0x108  # hidden, category application


@dataclass(frozen=True)
class EfiVariable:
    """A variable by vendor GUID and name. An absent variable is measured like one with empty `data`."""

    vendor: uuid.UUID
    name: str
    data: bytes = b""


def encode_variable_data(variable: EfiVariable) -> bytes:
    """UEFI_VARIABLE_DATA, over which secure-boot variables and authorities are measured."""
    name = variable.name.encode("utf-16-le")
    return _HEADER.pack(variable.vendor.bytes_le, len(name) // 2, len(variable.data)) + name + variable.data


def parse_variable_data(data: bytes) -> EfiVariable:
    """The reverse; DocumentError if lengths do not add up to the data exactly, or the name is not UTF-16."""
    reader = ByteReader(data, "UEFI_VARIABLE_DATA")
    vendor = reader.guid(0, name="GUID")
    characters = reader.u64(16, name="length of the name")
    size = reader.u64(24, name="length of the data")
    if _HEADER.size + 2 * characters + size != len(data):
        raise DocumentError(f"UEFI_VARIABLE_DATA: {characters} characters and {size} bytes in {len(data)} bytes")
    encoded = reader.slice(_HEADER.size, 2 * characters, name="name")
    try:
        name = encoded.decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise DocumentError(f"UEFI_VARIABLE_DATA: name {encoded.hex()} is not UTF-16") from error
    return EfiVariable(vendor, name, data[_HEADER.size + 2 * characters :])


def secure_boot_variables(secure_boot: SecureBootVariable) -> tuple[EfiVariable, ...]:
    """The five variables of a firmware with no keys enrolled, in the order of measuring."""
    data = b"" if secure_boot is SecureBootVariable.ABSENT else b"\0"
    return (
        EfiVariable(EFI_GLOBAL_VARIABLE, "SecureBoot", data),
        EfiVariable(EFI_GLOBAL_VARIABLE, "PK"),
        EfiVariable(EFI_GLOBAL_VARIABLE, "KEK"),
        EfiVariable(EFI_IMAGE_SECURITY_DATABASE, "db"),
        EfiVariable(EFI_IMAGE_SECURITY_DATABASE, "dbx"),
    )


def boot_variables(boot_options: BootOptions) -> tuple[EfiVariable, ...]:
    """BootOrder and the Boot#### of direct kernel boot, in the order of measuring; only their data is measured.

    Not covered: boot disks, whose device paths depend on slot and disk.
    """
    if boot_options is BootOptions.UI_APP:
        options = [_firmware_option("UiApp", _ACTIVE | _HIDDEN_APPLICATION, _UI_APP)]
    else:
        options = [
            _firmware_option("BootManagerMenuApp", _ACTIVE | _HIDDEN_APPLICATION, _BOOT_MANAGER_MENU_APP),
            _firmware_option("EFI Firmware Setup", _ACTIVE | 0x100, _UI_APP),
        ]
    order = b"".join(number.to_bytes(2, "little") for number in range(len(options)))
    return (
        EfiVariable(EFI_GLOBAL_VARIABLE, "BootOrder", order),
        *(EfiVariable(EFI_GLOBAL_VARIABLE, f"Boot{number:04X}", data) for number, data in enumerate(options)),
    )


def variable_digest(variable: EfiVariable) -> bytes:
    """SHA-384 over UEFI_VARIABLE_DATA: secure-boot variables."""
    return hashlib.sha384(encode_variable_data(variable)).digest()


def boot_variable_digest(variable: EfiVariable) -> bytes:
    """SHA-384 over the variable's data alone: BootOrder and Boot####."""
    return hashlib.sha384(variable.data).digest()


def _firmware_option(description: str, attributes: int, file: uuid.UUID) -> bytes:
    """EFI_LOAD_OPTION of a program in the firmware volume: media FV node, media FvFile node, end node."""
    path = b"\x04\x07\x14\x00" + _FIRMWARE_VOLUME.bytes_le + b"\x04\x06\x14\x00" + file.bytes_le + b"\x7f\xff\x04\x00"
    return struct.pack("<IH", attributes, len(path)) + (description + "\0").encode("utf-16-le") + path
