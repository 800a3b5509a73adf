"""EFI signature lists: what PK, KEK, db, dbx and dbt hold (UEFI specification, 32.4.1)."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError

CERT_X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
# digests of images, by hashlib name, in the order in which the firmware tries them
IMAGE_DIGESTS = {
    "sha512": uuid.UUID("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a"),
    "sha384": uuid.UUID("ff3e5307-9fd0-48c9-85f1-8ad56c701e01"),
    "sha256": uuid.UUID("c1c41626-504c-4092-aca9-41f936934328"),
    "sha1": uuid.UUID("826ca512-cf10-4ac9-b187-be01496631bd"),
}
# digests of the signed part of certificates, followed by a time of revocation
CERTIFICATE_DIGESTS = {
    "sha256": uuid.UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed"),
    "sha384": uuid.UUID("7076876e-80c2-4ee6-aad2-28b349a6865b"),
    "sha512": uuid.UUID("446dbf63-2502-4cda-bcfa-2465d2b0fe9d"),
}
MAX_SIZE = 1 << 20  # edk2 takes variables of 33 KiB, and the dbx of 2026 has 24
_LIST_HEADER = 28
_OWNER = 16


@dataclass(frozen=True)
class SignatureEntry:
    """One entry of a list: its type, who put it there, and a certificate (DER) or digest."""

    type: uuid.UUID
    owner: uuid.UUID
    data: bytes

    def encode(self) -> bytes:
        """EFI_SIGNATURE_DATA, as it is measured of an authority (`measurement.md` 5.10)."""
        return self.owner.bytes_le + self.data


def parse_signature_lists(data: bytes, *, what: str) -> tuple[SignatureEntry, ...]:
    """The entries of all lists, in order; none of an empty variable. DocumentError if sizes do not add up exactly,
    and for more than 1 MiB."""
    if len(data) > MAX_SIZE:
        raise DocumentError(f"{what}: {len(data)} bytes, wanted at most {MAX_SIZE}")
    reader = ByteReader(data, what)
    entries: list[SignatureEntry] = []
    offset = 0
    while offset < len(data):
        size = reader.u32(offset + 16, name="size of a signature list")
        if size < _LIST_HEADER:
            raise DocumentError(f"{what}: signature list at {offset:#x} is {size} bytes long, wanted {_LIST_HEADER}")
        entries += _entries(ByteReader(reader.slice(offset, size, name="signature list"), what))
        offset += size
    return tuple(entries)


def _entries(reader: ByteReader) -> Iterator[SignatureEntry]:
    kind = reader.guid(0, name="signature type")
    first = _LIST_HEADER + reader.u32(20, name="size of the signature header")
    size = reader.u32(24, name="signature size")
    if size <= _OWNER or first > len(reader) or (len(reader) - first) % size:
        raise DocumentError(
            f"{reader.what}: list of {len(reader)} bytes with signatures of {size} bytes from {first:#x} on does not "
            "end with one"
        )
    for offset in range(first, len(reader), size):
        data = reader.slice(offset + _OWNER, size - _OWNER, name="signature")
        yield SignatureEntry(kind, reader.guid(offset, name="signature owner"), data)
