"""Inputs of any size in which a parser has to go on: each is one piece of valid input, over and over.

A parser that is fed nothing but a fill refuses it at once, and shows nothing of what it costs to read much.
"""

import itertools
import lzma
import struct
import uuid
from collections.abc import Callable

from builder.measure.evidence.quote import QE_VENDOR_INTEL
from builder.measure.firmware.efi_variables import EFI_GLOBAL_VARIABLE, EfiVariable, encode_variable_data
from builder.measure.firmware.hob import END_OF_LIST
from builder.measure.firmware.volume import MAX_DECOMPRESSED
from tests.fakes.boot_files import (
    LZMA_SECTION,
    MR_EXTEND,
    OTHER_ENTRY,
    SOME_FILE,
    TEMP_MEM,
    VOLUME_IMAGE,
    Firmware,
    acpi_table,
    ffs_file,
    guided_section,
    log_header,
    log_record,
    section,
    volume,
)
from tests.fakes.efi_images import HEADERS, SECTION_TABLE, Disk, Section, kernel, pe_image, stub_magic
from tests.fakes.parser_examples import BLOBS, PARSERS, TABLES
from tests.fakes.signed_images import sequence, value, win_certificate, with_certificates
from tests.fakes.variable_stores import encode_stored, volume_header

Large = Callable[[int], bytes]

_NULL = b"\x05\0"
_VOLUME_SECTION = 0x17
_FILE = ffs_file(SOME_FILE, b"")
_EVENT = b'{"imr":0,"event_type":4,"digest":"' + b"ab" * 48 + b'","event":"","event_payload":""},'
_CERTIFICATE = sequence(sequence(b""))


def repeated(unit: bytes, *, start: bytes = b"", end: bytes = b"") -> Large:
    """`unit` as often as it fits, between `start` and `end`."""
    return lambda size: start + unit * ((size - len(start) - len(end)) // len(unit)) + end


def in_json(start: bytes, unit: bytes, end: bytes) -> tuple[Large, ...]:
    """A valid document that repeats `unit`, and three that have many values, deep ones and wide characters."""
    return (
        repeated(unit, start=start, end=end),
        repeated(b"{},", start=b'{"x":[', end=b"{}]}"),
        repeated(b"[" * 40 + b"]" * 40 + b",", start=b"[", end=b"0]"),
        repeated(b"a", start='{"x":"\U0001f600'.encode(), end=b'"}'),
    )


def _flash(content: bytes) -> bytes:
    return volume([ffs_file(OTHER_ENTRY, content, kind=VOLUME_IMAGE, large=True)])


def _unpacks_to(content: bytes) -> bytes:
    """With edk2's dictionary, quickly."""
    filters = [{"id": lzma.FILTER_LZMA1, "preset": 0, "dict_size": 16 << 20}]
    packed = lzma.compress(content, format=lzma.FORMAT_ALONE, filters=filters)
    return _flash(guided_section(LZMA_SECTION, packed))


def _nested_bomb(size: int) -> bytes:
    """Volumes within volumes around zeros that are unpacked to as much as is allowed, or more."""
    inner = section(0x19, bytes(min(2 * size, MAX_DECOMPRESSED - (1 << 16))), large=True)
    for _ in range(3):
        inner = section(_VOLUME_SECTION, _flash(inner), large=True)
    return _unpacks_to(inner)


def _files(size: int) -> bytes:
    """Files of nothing but a header, each with another name."""
    return volume(
        [uuid.UUID(int=number).bytes_le + _FILE[16:] for number in range(1, min(size, 2 << 20) // len(_FILE))]
    )


def _volumes(size: int) -> bytes:
    """What could be the header of a volume on each block, with a wrong checksum and as long as one may be."""
    header = struct.pack("<32xQ4sIHH", size, b"_FVH", 0, 0xFFFE, 1)
    return header.ljust(4096, b"\1") * (size // 4096)


def _structures(size: int) -> bytes:
    """SMBIOS structures of nothing but a header, each with another handle."""
    handles = itertools.islice(itertools.cycle(range(0x10000)), size // 6)
    return b"".join(struct.pack("<BBH2x", 16, 4, handle) for handle in handles) + b"\x7f\4\0\xff\0\0"


def _lines(size: int) -> bytes:
    return b"".join(b"%064x  %d\n" % (number, number) for number in range(size // 72))


def _sections(name: bytes, virtual_size: int) -> Large:
    """A PE image of as many sections as its header can say."""

    def large(size: int) -> bytes:
        count = min(0xFFFF, size // 40)
        table = struct.pack("<8sIIII16x", name, virtual_size, 0x10000, 0, 0) * count
        image = bytearray(kernel()[:SECTION_TABLE] + table)
        struct.pack_into("<H", image, 0x46, count)
        return bytes(image).ljust(max(size, HEADERS), b"\0")

    return large


def _grown(name: str, virtual_size: int) -> Large:
    """A section with room behind it, be it the kernel or another."""

    def large(size: int) -> bytes:
        sections = [Section(name, kernel(b"k" * (size // 2)), virtual_size=virtual_size), Section(".linux", kernel())]
        return pe_image([stub_magic("257"), *sections])

    return large


def _profiles(size: int) -> bytes:
    """Each profile has all sections of the base."""
    base = [Section(".linux", kernel()), Section(".initrd", b"i" * size)]
    return pe_image([*base, *[Section(".profile", b"p")] * 80])


def _signed(data: bytes) -> bytes:
    return with_certificates(kernel(), win_certificate(data))


def _signed_data(certificates: bytes) -> bytes:
    """SignedData up to its signers, which are not there."""
    parts = (value(0x02, b"\1"), value(0x31, b""), sequence(b""), value(0xA0, certificates), value(0x31, b""))
    return _signed(sequence(bytes.fromhex("06092a864886f70d010702"), value(0xA0, sequence(*parts))))


def _variables(size: int) -> bytes:
    stored = encode_stored(EfiVariable(EFI_GLOBAL_VARIABLE, "", b"")) * ((size - 8192) // 64)
    store = bytes.fromhex("782cf3aa7b949a43a1802e144ec37792") + struct.pack(
        "<IBBHI", len(stored) + 28, 0x5A, 0xFE, 0, 0
    )
    return (volume_header(size) + store + stored).ljust(size, b"\xff")


def _signature_list(entry_size: int) -> Large:
    def large(size: int) -> bytes:
        count = (size - 28) // entry_size
        return bytes(16) + struct.pack("<III", 28 + count * entry_size, 0, entry_size) + bytes(count * entry_size)

    return large


def _gpt_event(size: int) -> bytes:
    """As many used entries as a table may have."""
    disk = Disk(names=["a"], count=min(size, 1 << 20) // 128)
    return disk.header() + disk.count.to_bytes(8, "little") + disk.entries()[:128] * disk.count


def _quote(size: int) -> bytes:
    header = b"\x04\0\x02\0\x81\0\0\0\0\0\0\0" + QE_VENDOR_INTEL + bytes(20 + 584)
    return header + struct.pack("<I", size) + b"\1" * size


def _added_memory(size: int) -> bytes:
    """As much memory as a section may ask for, and a volume that is extended page by page."""
    extended = (0, size & ~0xFFF, (1 << 32) - (size & ~0xFFF), size & ~0xFFF, 0, MR_EXTEND)
    return Firmware(size=size & ~0xFFF, sections=[extended, (0, 0, 0x800000, 1 << 29, TEMP_MEM, 0)]).encode()


def _valid(name: str) -> bytes:
    return PARSERS[name][1]


_LOG = log_header([(0xC, 48)])
_TPM_LOG = log_header([(4, 20), (0xC, 48)], index=0)
_RECORDS = repeated(log_record(1, 4, [(0xC, bytes(48))], b""), start=_LOG)
_TPM_RECORDS = repeated(log_record(1, 4, [(4, bytes(20)), (0xC, bytes(48))], b""), start=_TPM_LOG)
_TEXT_RECORDS = repeated(log_record(1, 0xD, [(0xC, bytes(48))], b"a\0" * 200), start=_LOG)
_TABLES = repeated(acpi_table(b"SSDT", b""), start=TABLES)
_HOBS = (
    repeated(struct.pack("<HHI16xIIQQ", 3, 48, 0, 0, 7, 0, 4096), start=_valid("hob list")[:56], end=END_OF_LIST),
    repeated(struct.pack("<HHI16s", 4, 24, 0, bytes(16)), start=_valid("hob list")[:56], end=END_OF_LIST),
)
_PE = (_sections(b".text", 0), _sections(b"/4", 0))
_FIRMWARE = (_added_memory, repeated(b"\0", end=_valid("tdvf")))
_SIGNATURES = (
    lambda size: _signed(sequence(_NULL * (size // 2))),
    lambda size: _signed(_NULL * (size // 2)),
    lambda size: _signed_data(_CERTIFICATE * (size // len(_CERTIFICATE))),
    lambda size: with_certificates(kernel(), win_certificate(_NULL * 4) * (size // 16)),
)
_UKIS = (
    _sections(b".linux", 1),
    _sections(b".profile", 0),
    _profiles,
    _grown(".linux", 100 << 20),
    _grown(".initrd", 250 << 20),
    _grown(".initrd", 4 << 20),
)

LARGE: dict[str, tuple[Large, ...]] = {
    "tdvf": _FIRMWARE,
    "mrtd": _FIRMWARE,
    "td_hob": _FIRMWARE,
    "gce firmware": _FIRMWARE,
    "td-shim firmware": _FIRMWARE,
    "authenticode": _PE,
    "pe image": _PE,
    "kernel": (repeated(b"k", start=_valid("kernel")),),
    "kernel release": (repeated(b"k", start=_valid("kernel release")[:0x600]),),
    "loader": (repeated(BLOBS.loader[:128], start=BLOBS.loader),),
    "tables": (_TABLES,),
    "tables to blobs": (_TABLES,),
    "ccel": (_TEXT_RECORDS,),  # the same code as with notes
    "ccel with notes": (_RECORDS,),
    "tpm log": (_TPM_RECORDS,),
    "tpm log with notes": (repeated(b"\0", start=_TPM_LOG),),
    "dstack log": in_json(b"[", _EVENT, _EVENT[:-1] + b"]"),
    "device path": (repeated(b"\1\1\6\0\0\4"), repeated(b"\x7f\1\4\0"), repeated(b"\4\4\6\0a\0")),
    "load option": (
        repeated(b"a\0", start=b"\1\0\0\0\4\0", end=b"\0\0\x7f\xff\4\0"),
        repeated(b"\1\1\6\0\0\4", start=b"\1\0\0\0\0\xffa\0\0\0"),
    ),
    "quote as text": (repeated(b"ab"), repeated(b"+/"), repeated(b"a b\n"), repeated(b"ab", end=b"a")),
    "quote in JSON": in_json(b'{"quote":"', b"ab", b'"}'),
    "log in JSON": in_json(b'{"event_log":"', b"[],", b'"}'),
    "quote 4": (_quote,),
    "quote 5": (repeated(b"\1", start=_valid("quote 5")),),
    "variable": (lambda size: encode_variable_data(EfiVariable(EFI_GLOBAL_VARIABLE, "a" * (size // 2), b"")),),
    "variable store": (_variables,),
    "firmware volume": (
        _nested_bomb,
        _files,
        _volumes,
        lambda size: _unpacks_to(section(0x19, bytes(3 * size), large=True)),
        lambda size: _unpacks_to(section(0x19, b"") * (size // 4)),
        lambda size: _unpacks_to(section(_VOLUME_SECTION, _files(size), large=True)),
    ),
    "hob list": _HOBS,
    "td-shim hob list": _HOBS,
    "smbios": (_structures, repeated(b"a\0", start=b"\x10\4\0\x10", end=b"\0\x7f\4\0\xff\0\0")),
    "dstack checksums": (_lines,),
    "dstack metadata": in_json(b'{"x":[', b'"",', b'""]}'),
    "dstack vm config": in_json(b'{"x":[', b'"",', b'""]}'),
    "dstack compose": in_json(b'{"init_script":[', b'"a",', b'"a"]}'),
    "dstack measurement": (repeated(b"\x80", start=b"\x9a\0\x90\0\0"), repeated(b"\x81"), repeated(b"\xa1\0")),
    "td hob witness": (repeated(b"\1\1"),),
    "mrconfigid": (repeated(b"ab"),),
    "gpt": (lambda size: Disk(names=["a"] * 512, count=min(size, 1 << 20) // 128).encode(),),
    "gpt event": (_gpt_event,),
    "td-shim acpi table": (lambda size: acpi_table(b"DSDT", bytes(size)),),
    "uki": _UKIS,
    "uki events": _UKIS,
    "image signatures": _SIGNATURES,
    "image authorities": _SIGNATURES,
    "signature lists": (
        _signature_list(17),
        repeated(bytes(16) + struct.pack("<III", 28, 0, 20)),
    ),
}
# of one size, and refused if there is more
NOT_REPEATING = frozenset({"rsdp", "ccel table", "tdreport"})
