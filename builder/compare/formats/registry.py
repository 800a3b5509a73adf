"""The formats that are looked into, most specific first."""

from builder.compare.formats.compressed import GZIP, XZ
from builder.compare.formats.cpio import CPIO
from builder.compare.formats.executable import ELF, PE
from builder.compare.formats.firmware import FIRMWARE
from builder.compare.formats.json_document import JSON
from builder.compare.formats.oci import OCI_ARCHIVE
from builder.compare.formats.squashfs import MemberReader, squashfs_format
from builder.compare.tree import Format

_FORMATS = (CPIO, OCI_ARCHIVE, GZIP, XZ, ELF, PE, FIRMWARE, JSON)


def formats_with(reader: MemberReader | None) -> tuple[Format, ...]:
    """Every format; squashfs members are read by `reader`, or not at all where it is None."""
    return (squashfs_format(reader), *_FORMATS)
