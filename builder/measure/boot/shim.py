"""What shim measures: its lists of keys, which follow from the shim itself while nobody has enrolled others.

shim mirrors each list into a variable and extends PCR 14, hence RTMR[2], with its content. The vendor's certificate
and the vendor's revoked hashes are in the section `.vendor_cert`. (`measurement.md` 5.10, 7.5.)
"""

import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.measure.boot.disk import image_event
from builder.measure.firmware.efi_variables import EfiVariable, variable_digest
from builder.measure.images.pe_image import parse_pe_image
from builder.model.digest import sha384_hex
from builder.model.event import (
    EV_EFI_VARIABLE_AUTHORITY,
    EV_IPL,
    ExpectedEvent,
    PredictedEvent,
    UnpredictedEvent,
)

SHIM_LOCK = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")

_CERT_X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_CERT_SHA256 = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")
_SECTION = ".vendor_cert"
_DER_SEQUENCE = 0x30
_LIST = struct.Struct("<16sIII16s")  # type, size of the list, size of its header, size of a signature, owner
_TRUSTED = b"\x01"


@dataclass(frozen=True)
class ShimLists:
    """The content of MokList, MokListX and MokListTrusted: EFI signature lists, and one byte."""

    mok_list: bytes
    mok_list_x: bytes
    mok_list_trusted: bytes


def default_shim_lists(shim: bytes) -> ShimLists:
    """The lists of a shim in whose variable store nobody has enrolled anything.

    DocumentError if it is no PE image or has no table of the vendor's keys. Not covered: a guest that keeps variables.
    """
    table = _vendor_table(shim)
    sizes = table.u32(0, name="size of the vendor's keys"), table.u32(4, name="size of the revoked hashes")
    offsets = table.u32(8, name="offset of the vendor's keys"), table.u32(12, name="offset of the revoked hashes")
    keys, revoked = (
        table.slice(offset, size, name="vendor's list") for offset, size in zip(offsets, sizes, strict=True)
    )
    nothing = _signature_list(_CERT_SHA256, bytes(32))
    if keys and keys[0] == _DER_SEQUENCE:
        keys = _signature_list(_CERT_X509, keys)
    return ShimLists(keys or nothing, revoked or nothing, _TRUSTED)


def is_shim(image: bytes) -> bool:
    """Whether an EFI program has the section of a shim. DocumentError if it is no PE image."""
    return any(section.name == _SECTION for section in parse_pe_image(image).sections)


def shim_events(
    shim: bytes, *, lists: ShimLists | None = None, authorities: Sequence[EfiVariable] | None = None
) -> tuple[ExpectedEvent, ...]:
    """shim's image and what it measures before it loads the next image, in the order of each register.

    `lists` are the default ones unless given. `authorities` are the variables that shim measures into RTMR[0], in their
    order: SbatLevel always, MokListTrusted and MokListRT by version, secure boot and what vouched for the next image.
    Without them RTMR[0] cannot be predicted. DocumentError as for the lists.
    """
    lists = lists or default_shim_lists(shim)
    return (
        image_event("shim", shim),
        _list_event("MokList", lists.mok_list),
        _list_event("MokListX", lists.mok_list_x),
        _list_event("MokListTrusted", lists.mok_list_trusted),
        *_authority_events(authorities),
    )


def _vendor_table(shim: bytes) -> ByteReader:
    for section in parse_pe_image(shim).sections:
        if section.name == _SECTION:
            size = min(section.raw_size, section.virtual_size)
            return ByteReader(shim[section.start : section.start + size], f"shim's {_SECTION}")
    raise DocumentError(f"shim: no section {_SECTION}", hint="give shimx64.efi as it is on the disk")


def _signature_list(kind: uuid.UUID, data: bytes) -> bytes:
    """EFI_SIGNATURE_LIST of one signature, owned by shim."""
    signature = 16 + len(data)
    return _LIST.pack(kind.bytes_le, 28 + signature, 0, signature, SHIM_LOCK.bytes_le) + data


def _list_event(name: str, content: bytes) -> PredictedEvent:
    return PredictedEvent("rtmr2", EV_IPL, name, sha384_hex(content), "shim")


def _authority_events(authorities: Sequence[EfiVariable] | None) -> tuple[ExpectedEvent, ...]:
    if authorities is None:
        reason = "SbatLevel and others follow from shim's version, what is stored, and secure boot; they are not given"
        return (UnpredictedEvent("rtmr0", EV_EFI_VARIABLE_AUTHORITY, "SbatLevel", reason, repeats=True),)
    return tuple(
        PredictedEvent("rtmr0", EV_EFI_VARIABLE_AUTHORITY, each.name, variable_digest(each).hex(), "shim, authorities")
        for each in authorities
    )
