"""Variable stores and signature lists as edk2 and its tools write them."""

import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from builder.measure.firmware.efi_variables import EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE, EfiVariable
from builder.measure.firmware.variable_store import NV_DATA

AUTHENTICATED = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792")
OWNER = uuid.UUID("11111111-2222-3333-4444-555555555555")
ADDED, HEADER_ONLY, DELETED, IN_TRANSITION, GONE = 0x3F, 0x7F, 0x3D, 0x3E, 0x3C


@dataclass(frozen=True)
class Store:
    """A variable store in parts, so that a test can break one of them; `live` is the size of its variable area."""

    variables: Sequence[tuple[EfiVariable, int]] = ()
    size: int = 0x2000
    live: int = 0x1000
    signature: uuid.UUID = AUTHENTICATED
    state: int = 0xFE
    tail: bytes = b""

    def encode(self) -> bytes:
        body = b"".join(encode_stored(variable, state) for variable, state in self.variables) + self.tail
        store = struct.pack("<16sIBBHI", self.signature.bytes_le, self.live - 72, 0x5A, self.state, 0, 0)
        return (volume_header(self.size) + store + body).ljust(self.size, b"\xff")


def store_of(*variables: EfiVariable) -> bytes:
    """A store in which all of these are valid."""
    return Store([(variable, ADDED) for variable in variables]).encode()


def encode_stored(variable: EfiVariable, state: int = ADDED) -> bytes:
    """A variable with its header, padded to 4 bytes."""
    name = (variable.name + "\0").encode("utf-16-le")
    header = struct.pack("<HBBIQ16sI", 0x55AA, state, 0, 7, 0, bytes(16), 0)
    header += struct.pack("<II16s", len(name), len(variable.data), variable.vendor.bytes_le)
    encoded = header + name + variable.data
    return encoded.ljust(-(-len(encoded) // 4) * 4, b"\xff")


def volume_header(size: int) -> bytes:
    """The header of a volume of variables, 72 bytes, with its checksum."""
    header = bytearray(
        struct.pack("<16s16sQ4sIHHHBB", bytes(16), NV_DATA.bytes_le, size, b"_FVH", 0x4FEFF, 72, 0, 0, 0, 2)
    )
    header += struct.pack("<IIII", size // 4096, 4096, 0, 0)
    header[50:52] = struct.pack("<H", -sum(struct.unpack("<36H", header)) & 0xFFFF)
    return bytes(header)


def signature_list(kind: uuid.UUID, *signatures: bytes, header: bytes = b"") -> bytes:
    """An EFI_SIGNATURE_LIST of signatures of one size."""
    size = 16 + len(signatures[0])
    body = header + b"".join(OWNER.bytes_le + signature for signature in signatures)
    return kind.bytes_le + struct.pack("<III", 28 + len(body), len(header), size) + body


def key_variables(*, pk: bytes = b"", kek: bytes = b"", db: bytes = b"", dbx: bytes = b"") -> tuple[EfiVariable, ...]:
    """The key variables that are not empty."""
    every = (
        EfiVariable(EFI_GLOBAL_VARIABLE, "PK", pk),
        EfiVariable(EFI_GLOBAL_VARIABLE, "KEK", kek),
        EfiVariable(EFI_IMAGE_SECURITY_DATABASE, "db", db),
        EfiVariable(EFI_IMAGE_SECURITY_DATABASE, "dbx", dbx),
    )
    return tuple(variable for variable in every if variable.data)
