"""Small made-up EFI images and disks that have the form of real ones: PE images, UKIs, shims, partition tables."""

import struct
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from builder.measure.boot.gpt import EFI_SYSTEM_PARTITION, Read

HEADERS = 0x1000
OPTIONAL = 0x58
SECTION_TABLE = OPTIONAL + 240


@dataclass(frozen=True)
class Section:
    """A section of a made-up image; `virtual_size` is that of its content unless stated."""

    name: str
    content: bytes
    virtual_size: int | None = None


def pe_image(sections: Sequence[Section], *, image_version: int = 1, strings: bytes = b"") -> bytes:
    """A PE32+ image of these sections; `strings` is the COFF string table, right after the headers' first page."""
    count = len(sections)
    header = bytearray(HEADERS)
    header[0:2] = b"MZ"
    header[0x3C:0x40] = struct.pack("<I", 0x40)
    header[0x40:0x58] = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, count, 0, HEADERS - 256, 0, 240, 0x206)
    struct.pack_into("<H", header, OPTIONAL, 0x20B)
    struct.pack_into("<H", header, OPTIONAL + 44, image_version)
    struct.pack_into("<I", header, OPTIONAL + 60, HEADERS)
    struct.pack_into("<I", header, OPTIONAL + 108, 16)
    header[HEADERS - 256 : HEADERS - 256 + len(strings)] = strings
    body = b""
    for index, section in enumerate(sections):
        raw = section.content.ljust(-(-len(section.content) // 512) * 512, b"\0")
        size = len(section.content) if section.virtual_size is None else section.virtual_size
        fields = (section.name.encode(), size, 0x10000 * (index + 1), len(raw), HEADERS + len(body))
        struct.pack_into("<8sIIII16x", header, SECTION_TABLE + 40 * index, *fields)
        body += raw
    return bytes(header) + body


def kernel(content: bytes = b"kernel", *, image_version: int = 1) -> bytes:
    """An EFI program that stands for a kernel."""
    return pe_image([Section(".text", content)], image_version=image_version)


def stub_magic(version: str) -> Section:
    return Section(".sdmagic", b"#### LoaderInfo: systemd-stub " + version.encode() + b" ####\0")


def efi_stub(*more: Section) -> bytes:
    """A systemd-stub with room for more sections, which has nothing but its code and `more`."""
    image = bytearray(pe_image([Section(".text", b"stub"), stub_magic("257.13-1~deb13u1"), *more]))
    struct.pack_into("<II", image, OPTIONAL + 32, 4096, 512)  # alignment of sections in memory and in the file
    return bytes(image)


def uki(version: str = "257.13-1~deb13u1", *sections: Section, linux: bytes | None = None) -> bytes:
    """A UKI with a stub of this version, a kernel, and `sections`."""
    base = [Section(".text", b"stub"), stub_magic(version), Section(".linux", kernel() if linux is None else linux)]
    return pe_image([*base, *sections])


def with_sections(image: bytes, sections: Sequence[Section]) -> bytes:
    """A real image with more sections at its end, in the file and in memory, as objcopy or ukify would add them."""
    grown = bytearray(image.ljust(-(-len(image) // 512) * 512, b"\0"))
    (pe,) = struct.unpack_from("<I", image, 0x3C)
    (count,), (optional_size,) = struct.unpack_from("<H", image, pe + 6), struct.unpack_from("<H", image, pe + 20)
    table = pe + 24 + optional_size
    (headers,) = struct.unpack_from("<I", image, pe + 24 + 60)
    assert table + 40 * (count + len(sections)) <= headers, "no room in the section table"
    for index in range(count, count + len(sections)):
        section = sections[index - count]
        size, address = struct.unpack_from("<II", grown, table + 40 * (index - 1) + 8)
        fields = (len(section.content), -(-(address + size) // 4096) * 4096, -(-len(section.content) // 512) * 512)
        header = struct.pack("<8sIIII12xI", section.name.encode(), *fields, len(grown), 0x40000040)
        grown[table + 40 * index : table + 40 * (index + 1)] = header
        struct.pack_into("<I", grown, pe + 24 + 56, -(-(fields[1] + fields[0]) // 4096) * 4096)
        grown += section.content.ljust(fields[2], b"\0")
    struct.pack_into("<H", grown, pe + 6, count + len(sections))
    return bytes(grown)


def shim(keys: bytes, revoked: bytes) -> bytes:
    """A shim with the vendor's keys and revoked hashes, in a section whose name is too long for its header."""
    table = struct.pack("<IIII", len(keys), len(revoked), 16, 16 + len(keys)) + keys + revoked
    return pe_image(
        [Section(".text", b"shim"), Section("/4", table)], strings=struct.pack("<I", 17) + b".vendor_cert\0"
    )


@dataclass(frozen=True)
class Disk:
    """A disk with a partition table, in parts, so that a test can break one of them."""

    names: Sequence[str] = ("ESP", "root")
    sector_size: int = 512
    count: int = 128
    entry_size: int = 128
    header_size: int = 92
    my_lba: int = 1
    array_lba: int = 2
    signature: bytes = b"EFI PART"
    revision: int = 0x10000

    def entries(self) -> bytes:
        used = b""
        for index, name in enumerate(self.names):
            guids = EFI_SYSTEM_PARTITION.bytes_le + uuid.UUID(int=index + 1).bytes_le
            span = struct.pack("<QQQ", 2048 * (index + 1), 2048 * (index + 2) - 1, 0)
            used += (guids + span + name.encode("utf-16-le")).ljust(self.entry_size, b"\0")
            used += bytes(self.entry_size)  # every second entry is unused
        return used.ljust(self.count * self.entry_size, b"\0")

    def header(self) -> bytes:
        fields = (self.signature, self.revision, self.header_size, 0, 0, self.my_lba, 9999, 34, 9990, bytes(16))
        tail = (self.array_lba, self.count, self.entry_size, zlib.crc32(self.entries()))
        packed = struct.pack("<8sIIIIQQQQ16s", *fields) + struct.pack("<QIII", *tail)
        packed = packed.ljust(max(92, min(self.header_size, self.sector_size)), b"\0")
        return packed[:16] + struct.pack("<I", zlib.crc32(packed)) + packed[20:]

    def encode(self) -> bytes:
        start = self.array_lba * self.sector_size
        image = bytes(self.sector_size) + self.header().ljust(self.sector_size, b"\0")
        return image.ljust(start, b"\0") + self.entries()

    def event(self) -> bytes:
        """The event data that belongs to the disk, put together another way than the code under test does."""
        used = [self.entries()[i * self.entry_size :][: self.entry_size] for i in range(0, 2 * len(self.names), 2)]
        return self.header()[:92] + struct.pack("<Q", len(used)) + b"".join(used)


def reader(image: bytes) -> Read:
    """Reads ranges of an image that is shorter than the disk it stands for."""
    return lambda offset, length: image[offset : offset + length]
