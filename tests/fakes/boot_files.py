"""Small made-up files that have the form of real ones: firmware, kernel, ACPI tables, event logs."""

import lzma
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

FOOTER = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
TDX_ENTRY = uuid.UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
OTHER_ENTRY = uuid.UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
DESCRIPTOR = uuid.UUID("e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae")

BFV, CFV, TD_HOB, TEMP_MEM, PERM_MEM, PAYLOAD, PAYLOAD_PARAM, TD_INFO, TD_PARAMS = range(9)
MR_EXTEND, PAGE_AUG = 1, 2

# (data offset, raw size, address, memory size, type, attributes), as in OVMF with layout S, but small
SECTIONS_S = (
    (0x2000, 0xE000, 0xFFFF2000, 0xE000, BFV, MR_EXTEND),
    (0x0000, 0x2000, 0xFFFF0000, 0x2000, CFV, 0),
    (0, 0, 0x811000, 0xF000, TEMP_MEM, 0),
    (0, 0, 0x80B000, 0x2000, TEMP_MEM, 0),
    (0, 0, 0x809000, 0x2000, TD_HOB, 0),
    (0, 0, 0x800000, 0x6000, TEMP_MEM, 0),
)
# the other layouts of OVMF, which differ in one range
SECTIONS_S2 = (*SECTIONS_S[:2], (0, 0, 0x810000, 0x10000, TEMP_MEM, 0), *SECTIONS_S[3:])
SECTIONS_S3 = (*SECTIONS_S[:2], (0, 0, 0x814000, 0xC000, TEMP_MEM, 0), *SECTIONS_S[3:])

# an image of td-shim for a Linux kernel, but small; its temporary memory lies beside it, above the guest's memory
SECTIONS_TD_SHIM = (
    (0x8000, 0x8000, 0xFFFF8000, 0x8000, BFV, MR_EXTEND),
    (0x0000, 0x4000, 0xFF000000, 0x4000, CFV, 0),
    (0, 0, 0xFF042000, 0x20000, TEMP_MEM, 0),
    (0, 0, 0xFF062000, 0x20000, TEMP_MEM, 0),
    (0, 0, 0xFF040000, 0x1000, TEMP_MEM, 0),
    (0, 0, 0x800000, 0x20000, TD_HOB, 0),
    (0, 0, 0x901000, 0x40000, PAYLOAD, 0),
    (0, 0, 0x900000, 0x1000, PAYLOAD_PARAM, 0),
    (0x9000, 0x30, 0, 0, TD_INFO, 0),
)
# MigTD: the memory is static, so that there is no TD HOB, and the payload is measured like the firmware
SECTIONS_MIGTD = (
    (0x8000, 0x8000, 0xFFFF8000, 0x8000, BFV, MR_EXTEND),
    (0x4000, 0x3000, 0xFFFF4000, 0x4000, PAYLOAD, MR_EXTEND),
    (0x0000, 0x4000, 0xFFFF0000, 0x4000, CFV, 0),
    (0, 0, 0, 0x1FDF000, PERM_MEM, PAGE_AUG),
    (0, 0, 0x2000000, 0x21000, PERM_MEM, PAGE_AUG),
)


@dataclass(frozen=True)
class Firmware:
    """A firmware file in parts, so that a test can break one of them."""

    sections: Sequence[tuple[int, int, int, int, int, int]] = SECTIONS_S
    size: int = 0x10000
    signature: bytes = b"TDVF"
    version: int = 1
    count: int | None = None
    descriptor_guid: uuid.UUID = DESCRIPTOR
    footer: uuid.UUID = FOOTER
    distance: int | None = None
    table_length: int | None = None
    entries: Sequence[tuple[uuid.UUID, bytes]] = ((OTHER_ENTRY, b"1234"),)
    tdx_entry: uuid.UUID = TDX_ENTRY
    filler: bytes = b"firmware volume "
    extra: dict[int, bytes] = field(default_factory=dict)

    def with_pointer(self, pointer: int | None = None) -> bytes:
        """The file as td-shim made it before it had a GUIDed table: `pointer` counts from the beginning of the file."""
        image = bytearray(self.encode())
        image[self.size - 0x1000 + 0x200 :] = bytes(0x1000 - 0x200)
        value = self.size - 0x1000 + 16 if pointer is None else pointer
        image[self.size - 0x20 : self.size - 0x1C] = struct.pack("<I", value)
        return bytes(image)

    def encode(self) -> bytes:
        body = b"".join(struct.pack("<IIQQII", *section) for section in self.sections)
        count = len(self.sections) if self.count is None else self.count
        descriptor = self.descriptor_guid.bytes_le + self.signature
        descriptor += struct.pack("<III", 16 + len(body), self.version, count) + body
        start = self.size - 0x1000  # of the GUID before the descriptor
        distance = self.size - start - 16 if self.distance is None else self.distance
        table = b"".join(
            data + struct.pack("<H", len(data) + 18) + name.bytes_le
            for name, data in ((self.tdx_entry, struct.pack("<I", distance)), *self.entries)
        )
        length = len(table) + 18 if self.table_length is None else self.table_length
        table += struct.pack("<H", length) + self.footer.bytes_le
        image = bytearray((self.filler * (self.size // len(self.filler) + 1))[: self.size])
        image[start : start + len(descriptor)] = descriptor
        image[self.size - 32 - len(table) : self.size - 32] = table
        for offset, data in self.extra.items():
            image[offset : offset + len(data)] = data
        return bytes(image)


def bzimage(
    *, release: bytes = b"6.12.1-test (x@y)", protocol: int = 0x20F, loadflags: int = 1, xloadflags: int = 0x7F
) -> bytes:
    """An EFI-bootable Linux kernel of 32 KiB that would not get far."""
    image = bytearray(bytes(range(256)) * 128)
    image[0:2] = b"MZ"
    image[0x3C:0x40] = struct.pack("<I", 0x40)
    image[0x40:0x44] = b"PE\0\0"
    image[0x44:0x58] = struct.pack("<HHIIIHH", 0x8664, 2, 0, 0, 0, 160, 0x206)
    optional = bytearray(160)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<I", optional, 60, 0x400)
    struct.pack_into("<I", optional, 108, 6)
    image[0x58 : 0x58 + 160] = optional
    for index, (start, size) in enumerate(((0x2000, 0x6000), (0x400, 0x1C00))):
        section = struct.pack("<8sIIIIIIHHI", b".text", size, start, size, start, 0, 0, 0, 0, 0)
        image[0xF8 + 40 * index : 0xF8 + 40 * (index + 1)] = section
    image[0x1F1] = 7
    image[0x202:0x206] = b"HdrS"
    image[0x206:0x208] = struct.pack("<H", protocol)
    image[0x20E:0x210] = struct.pack("<H", 0x300)
    image[0x500 : 0x500 + len(release) + 1] = release + b"\0"
    image[0x211] = loadflags
    image[0x22C:0x230] = struct.pack("<I", 0x7FFFFFFF)
    image[0x236:0x238] = struct.pack("<H", xloadflags)
    return bytes(image)


def madt_entry(processor: int, *, enabled: int = 1) -> bytes:
    if processor < 255:
        return struct.pack("<BBBBI", 0, 8, processor, processor, enabled)
    return struct.pack("<BBHIII", 9, 16, 0, processor, enabled, processor)


def acpi_table(signature: bytes, body: bytes) -> bytes:
    header = struct.pack("<4sIBB6s8sI4sI", signature, 36 + len(body), 1, 0, b"BOCHS ", b"BXPC    ", 1, b"BXPC", 1)
    return header + body


def acpi_tables(vcpus: int, *, dsdt: bytes = b"shape", madt: bytes | None = None) -> bytes:
    """`etc/acpi/tables` of a machine with this many vCPUs; `dsdt` stands for everything else about its shape."""
    if madt is None:
        madt = b"".join(madt_entry(processor) for processor in range(vcpus))
    parts = [
        b"FACS" + struct.pack("<I", 64) + bytes(56),
        acpi_table(b"DSDT", dsdt),
        acpi_table(b"FACP", bytes(208)),
        acpi_table(b"APIC", struct.pack("<II", 0xFEE00000, 0) + madt + bytes((1, 12)) + bytes(10)),
        acpi_table(b"MCFG", bytes(24)),
        acpi_table(b"WAET", bytes(4)),
    ]
    offsets = [sum(map(len, parts[:index])) for index in range(2, len(parts))]
    parts.append(acpi_table(b"RSDT", struct.pack(f"<{len(offsets)}I", *offsets)))
    tables = b"".join(parts)
    return tables.ljust(-(-len(tables) // 131072) * 131072, b"\0")


def log_header(algorithms: Sequence[tuple[int, int]], *, index: int = 1, vendor: bytes = b"") -> bytes:
    data = b"Spec ID Event03\0" + bytes(4) + bytes((0, 2, 0, 2)) + struct.pack("<I", len(algorithms))
    data += b"".join(struct.pack("<HH", *algorithm) for algorithm in algorithms) + bytes((len(vendor),)) + vendor
    return struct.pack("<II20sI", index, 3, bytes(20), len(data)) + data


def log_record(index: int, event_type: int, digests: Sequence[tuple[int, bytes]], data: bytes) -> bytes:
    encoded = b"".join(struct.pack("<H", algorithm) + digest for algorithm, digest in digests)
    return struct.pack("<III", index, event_type, len(digests)) + encoded + struct.pack("<I", len(data)) + data


FFS2 = uuid.UUID("8c8ce578-8a3d-4f1c-9935-896185c32dd3")
VARIABLE_STORE = uuid.UUID("fff12b8d-7696-4c8b-a985-2747075b4f50")
LZMA_SECTION = uuid.UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf")
SOME_FILE = uuid.UUID("11111111-2222-3333-4444-555555555555")
DXE_CORE, DRIVER, VOLUME_IMAGE = 0x05, 0x07, 0x0B


def volume(files: Sequence[bytes], *, file_system: uuid.UUID = FFS2, size: int | None = None) -> bytes:
    """A firmware volume: 72 bytes of header, files on 8-byte boundaries, then free space."""
    body = b"".join(content.ljust(-(-len(content) // 8) * 8, b"\xff") for content in files)
    length = -(-(72 + len(body)) // 4096) * 4096 if size is None else size
    header = bytearray(
        struct.pack("<16s16sQ4sIHHHBB", bytes(16), file_system.bytes_le, length, b"_FVH", 0, 72, 0, 0, 0, 2)
    )
    header += struct.pack("<IIII", length // 4096, 4096, 0, 0)
    total = sum(struct.unpack("<36H", header)) & 0xFFFF
    header[50:52] = struct.pack("<H", -total & 0xFFFF)
    return (bytes(header) + body).ljust(length, b"\xff")


def ffs_file(name: uuid.UUID, content: bytes, *, kind: int = DRIVER, large: bool = False) -> bytes:
    """A file of a volume; `large` uses the header whose size field has 64 bits."""
    size = 0 if large else 24 + len(content)
    header = name.bytes_le + struct.pack("<HBB", 0, kind, int(large)) + size.to_bytes(3, "little") + b"\xf8"
    return header + (struct.pack("<Q", 32 + len(content)) if large else b"") + content


def section(kind: int, content: bytes, *, large: bool = False) -> bytes:
    """A section of a file; `large` uses the header whose size field has 32 bits."""
    if large:
        encoded = b"\xff\xff\xff" + bytes((kind,)) + struct.pack("<I", 8 + len(content)) + content
    else:
        encoded = (4 + len(content)).to_bytes(3, "little") + bytes((kind,)) + content
    return encoded.ljust(-(-len(encoded) // 4) * 4, b"\0")


def guided_section(guid: uuid.UUID, content: bytes, *, attributes: int = 1) -> bytes:
    return section(0x02, guid.bytes_le + struct.pack("<HH", 24, attributes) + content)


def lzma_alone(content: bytes) -> bytes:
    return lzma.compress(content, format=lzma.FORMAT_ALONE)
