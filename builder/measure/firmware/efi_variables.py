"""EFI variables as the firmware measures them: secure boot (`measurement.md` 5.4) and boot options (5.9)."""

import hashlib
import struct
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.model.launch_profile import BootOptions, SecureBootVariable

EFI_GLOBAL_VARIABLE = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
EFI_IMAGE_SECURITY_DATABASE = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
EFI_SECURE_BOOT_ENABLE = uuid.UUID("f0a30bc7-af08-4556-99c4-001009c93a44")

_HEADER = struct.Struct("<16sQQ")
_FIRMWARE_VOLUME = uuid.UUID("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1")
_UI_APP = uuid.UUID("462caa21-7614-4503-836e-8ab6f4662331")
_BOOT_MANAGER_MENU_APP = uuid.UUID("eec25bdc-67f2-4d95-b1d5-f81b2039d11d")
_ACTIVE = 0x001
_APPLICATION = 0x100
_HIDDEN_APPLICATION = _APPLICATION | 0x008
_END_OF_PATH = b"\x7f\xff\x04\x00"


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


@dataclass(frozen=True)
class SecureBootKeys:
    """The key variables as EFI signature lists, empty where there is none; `dbt` is measured only if it is there."""

    pk: bytes = b""
    kek: bytes = b""
    db: bytes = b""
    dbx: bytes = b""
    dbt: bytes | None = None


NO_KEYS = SecureBootKeys()


def secure_boot_keys(variables: Iterable[EfiVariable]) -> SecureBootKeys:
    """The keys among the variables of a store."""
    found = {(variable.vendor, variable.name): variable.data for variable in variables}
    return SecureBootKeys(
        pk=found.get((EFI_GLOBAL_VARIABLE, "PK"), b""),
        kek=found.get((EFI_GLOBAL_VARIABLE, "KEK"), b""),
        db=found.get((EFI_IMAGE_SECURITY_DATABASE, "db"), b""),
        dbx=found.get((EFI_IMAGE_SECURITY_DATABASE, "dbx"), b""),
        dbt=found.get((EFI_IMAGE_SECURITY_DATABASE, "dbt")),
    )


def secure_boot_setting(variables: Iterable[EfiVariable]) -> SecureBootVariable:
    """What a build with secure boot makes of its variables: on with a PK, unless SecureBootEnable says otherwise.

    The rule is that of edk2's `AuthVariableLibInitialize`.
    """
    found = {(variable.vendor, variable.name): variable.data for variable in variables}
    enable = found.get((EFI_SECURE_BOOT_ENABLE, "SecureBootEnable"), b"\x01")
    enforced = (EFI_GLOBAL_VARIABLE, "PK") in found and enable[:1] == b"\x01"
    return SecureBootVariable.ENABLED if enforced else SecureBootVariable.DISABLED


def secure_boot_variables(secure_boot: SecureBootVariable, keys: SecureBootKeys = NO_KEYS) -> tuple[EfiVariable, ...]:
    """The variables that the firmware measures, in the order of measuring."""
    data = b"" if secure_boot is SecureBootVariable.ABSENT else bytes.fromhex(secure_boot)
    return (
        EfiVariable(EFI_GLOBAL_VARIABLE, "SecureBoot", data),
        EfiVariable(EFI_GLOBAL_VARIABLE, "PK", keys.pk),
        EfiVariable(EFI_GLOBAL_VARIABLE, "KEK", keys.kek),
        EfiVariable(EFI_IMAGE_SECURITY_DATABASE, "db", keys.db),
        EfiVariable(EFI_IMAGE_SECURITY_DATABASE, "dbx", keys.dbx),
        *(() if keys.dbt is None else (EfiVariable(EFI_IMAGE_SECURITY_DATABASE, "dbt", keys.dbt),)),
    )


def boot_variables(boot_options: BootOptions) -> tuple[EfiVariable, ...]:
    """BootOrder and the Boot#### of direct kernel boot, in the order of measuring; only their data is measured.

    Disks and network cards add nothing: the firmware starts the kernel before it looks for boot devices. Boots from a
    disk are in `builder.measure.firmware.boot_options`.
    """
    options = dict(enumerate(own_options(boot_options)))
    return numbered_options(options, order=tuple(options))


def own_options(boot_options: BootOptions) -> tuple[bytes, ...]:
    """The load options that the firmware registers for its own programs, before it looks for boot devices."""
    if boot_options is BootOptions.UI_APP:
        return (firmware_option("UiApp", _UI_APP, attributes=_ACTIVE | _HIDDEN_APPLICATION),)
    return (
        firmware_option("BootManagerMenuApp", _BOOT_MANAGER_MENU_APP, attributes=_ACTIVE | _HIDDEN_APPLICATION),
        firmware_option("EFI Firmware Setup", _UI_APP, attributes=_ACTIVE | _APPLICATION),
    )


def numbered_options(options: Mapping[int, bytes], *, order: tuple[int, ...]) -> tuple[EfiVariable, ...]:
    """BootOrder, then the Boot#### that it lists, as they are measured."""
    encoded = b"".join(number.to_bytes(2, "little") for number in order)
    return (
        EfiVariable(EFI_GLOBAL_VARIABLE, "BootOrder", encoded),
        *(EfiVariable(EFI_GLOBAL_VARIABLE, f"Boot{number:04X}", options[number]) for number in order),
    )


def firmware_option(description: str, file: uuid.UUID, *, attributes: int) -> bytes:
    """EFI_LOAD_OPTION of a program in the firmware volume: media FV node, media FvFile node, end node."""
    path = b"\x04\x07\x14\x00" + _FIRMWARE_VOLUME.bytes_le + b"\x04\x06\x14\x00" + file.bytes_le
    return load_option(description, path, attributes=attributes)


def load_option(description: str, path: bytes, *, attributes: int = _ACTIVE, data: bytes = b"") -> bytes:
    """EFI_LOAD_OPTION of a device path, given without its end node; `data` is optional data."""
    whole = path + _END_OF_PATH
    return struct.pack("<IH", attributes, len(whole)) + (description + "\0").encode("utf-16-le") + whole + data


def variable_digest(variable: EfiVariable) -> bytes:
    """SHA-384 over UEFI_VARIABLE_DATA: secure-boot variables."""
    return hashlib.sha384(encode_variable_data(variable)).digest()


def boot_variable_digest(variable: EfiVariable) -> bytes:
    """SHA-384 over the variable's data alone: BootOrder and Boot####."""
    return hashlib.sha384(variable.data).digest()
