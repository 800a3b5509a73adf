"""EFI device paths as short text, for people (UEFI 2.10, 10.3 and 10.6). Nothing is compared by this text."""

import uuid
from collections.abc import Callable, Iterator, Mapping

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError

_END = 0x7F
_END_ENTIRE = 0xFF
_HEADER_SIZE = 4
_MAX_NODES = 64
_LONGEST = 48  # characters or bytes of one node that are worth showing
_ROOT_BRIDGES = {0x0A03: "PciRoot", 0x0A08: "PcieRoot"}
_PNP = 0x41D0
_GPT = 2


def device_path_text(data: bytes) -> str:
    """`PciRoot(0x0)/Pci(0x2,0x0)/HD(1,GPT,...)/\\EFI\\BOOT\\BOOTX64.EFI`; empty for an empty path.

    Nodes of a kind not known here are shown as `Path(type,subtype,bytes)`. DocumentError if the nodes do not add up to
    an end node, or are more than 64.
    """
    return "/".join(_nodes(ByteReader(data, "device path"))).replace("/,/", ",")


def _nodes(reader: ByteReader) -> Iterator[str]:
    offset = 0
    for _ in range(_MAX_NODES):
        if offset == len(reader):
            return
        kind, subtype = reader.u8(offset, name="type"), reader.u8(offset + 1, name="subtype")
        length = reader.u16(offset + 2, name="length")
        if length < _HEADER_SIZE:
            raise DocumentError(f"{reader.what}: node of {length} bytes at {offset:#x}")
        body = reader.slice(offset + _HEADER_SIZE, length - _HEADER_SIZE, name="node")
        offset += length
        if kind == _END:
            if subtype == _END_ENTIRE:
                return
            yield ","  # the end of one of several paths
        else:
            yield _node(kind, subtype, body)
    raise DocumentError(f"{reader.what}: more than {_MAX_NODES} nodes")


def _node(kind: int, subtype: int, body: bytes) -> str:
    text = _NODES.get((kind, subtype))
    try:
        if text is not None:
            return text(ByteReader(body, "device path node"))
    except DocumentError:
        pass  # too short for its kind: shown as bytes
    return f"Path({kind},{subtype},{_bytes(body)})"


def _bytes(data: bytes) -> str:
    return data[:_LONGEST].hex() + ("…" if len(data) > _LONGEST else "")


def _acpi(node: ByteReader) -> str:
    hid, uid = node.u32(0, name="HID"), node.u32(4, name="UID")
    if hid & 0xFFFF != _PNP:
        return f"Acpi({hid:#010x},{uid:#x})"
    name = _ROOT_BRIDGES.get(hid >> 16)
    return f"{name}({uid:#x})" if name else f"Acpi(PNP{hid >> 16:04X},{uid:#x})"


def _pci(node: ByteReader) -> str:
    return f"Pci({node.u8(1, name='device'):#x},{node.u8(0, name='function'):#x})"


def _memory_mapped(node: ByteReader) -> str:
    start, end = node.u64(4, name="start"), node.u64(12, name="end")
    return f"MemoryMapped({node.u32(0, name='memory type'):#x},{start:#x},{end:#x})"


def _vendor(prefix: str) -> Callable[[ByteReader], str]:
    def text(node: ByteReader) -> str:
        data = node.slice(16, len(node) - 16, name="vendor data")
        return f"{prefix}({node.guid(0, name='GUID')}{',' + _bytes(data) if data else ''})"

    return text


def _scsi(node: ByteReader) -> str:
    return f"Scsi({node.u16(0, name='target'):#x},{node.u16(2, name='LUN'):#x})"


def _usb(node: ByteReader) -> str:
    return f"USB({node.u8(0, name='port'):#x},{node.u8(1, name='interface'):#x})"


def _sata(node: ByteReader) -> str:
    ports = (node.u16(offset, name="port") for offset in (0, 2, 4))
    return f"Sata({','.join(f'{port:#x}' for port in ports)})"


def _nvme(node: ByteReader) -> str:
    identifier = node.slice(4, 8, name="EUI-64")[::-1].hex("-").upper()
    return f"NVMe({node.u32(0, name='namespace'):#x},{identifier})"


def _mac(node: ByteReader) -> str:
    address, kind = node.slice(0, 32, name="address"), node.u8(32, name="interface type")
    return f"MAC({address[: 6 if kind in (0, 1) else 32].hex()},{kind:#x})"


def _uri(node: ByteReader) -> str:
    return f"Uri({_shown(node.slice(0, len(node), name='URI').decode('latin-1'))})"


def _hard_drive(node: ByteReader) -> str:
    number, start, size = node.u32(0, name="number"), node.u64(4, name="start"), node.u64(12, name="size")
    if node.u8(37, name="signature type") == _GPT:
        return f"HD({number},GPT,{node.guid(20, name='signature')},{start:#x},{size:#x})"
    return (
        f"HD({number},{node.u8(36, name='format')},{node.slice(20, 16, name='signature').hex()},{start:#x},{size:#x})"
    )


def _cdrom(node: ByteReader) -> str:
    return f"CDROM({node.u32(0, name='entry'):#x})"


def _file_path(node: ByteReader) -> str:
    text = node.slice(0, len(node), name="file path").decode("utf-16-le", "replace").partition("\0")[0]
    return _shown(text)


def _firmware(prefix: str) -> Callable[[ByteReader], str]:
    def text(node: ByteReader) -> str:
        name: uuid.UUID = node.guid(0, name="GUID")
        return f"{prefix}({name})"

    return text


def _offset_range(node: ByteReader) -> str:
    return f"Offset({node.u64(4, name='start'):#x},{node.u64(12, name='end'):#x})"


def _bbs(node: ByteReader) -> str:
    text = node.slice(4, len(node) - 4, name="description").partition(b"\0")[0].decode("latin-1")
    return f"BBS({node.u16(0, name='device type'):#x},{_shown(text)})"


def _shown(text: str) -> str:
    """Text of a node, harmless to print: anything unusual as an escape."""
    text = text if len(text) <= 4 * _LONGEST else text[: 4 * _LONGEST] + "…"
    return "".join(
        character if character.isprintable() and character.isascii() else f"<{ord(character):x}>" for character in text
    )


_NODES: Mapping[tuple[int, int], Callable[[ByteReader], str]] = {
    (1, 1): _pci,
    (1, 3): _memory_mapped,
    (1, 4): _vendor("VenHw"),
    (2, 1): _acpi,
    (3, 2): _scsi,
    (3, 5): _usb,
    (3, 10): _vendor("VenMsg"),
    (3, 11): _mac,
    (3, 18): _sata,
    (3, 23): _nvme,
    (3, 24): _uri,
    (4, 1): _hard_drive,
    (4, 2): _cdrom,
    (4, 3): _vendor("VenMedia"),
    (4, 4): _file_path,
    (4, 6): _firmware("FvFile"),
    (4, 7): _firmware("Fv"),
    (4, 8): _offset_range,
    (5, 1): _bbs,
}
