"""Device paths for people (UEFI 2.10, 10.6)."""

import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuilderError
from builder.measure.evidence.device_path_text import device_path_text

GUID = uuid.UUID("1428f772-b64a-441e-b8c3-9ebdd7f893c7")
END = b"\x7f\xff\x04\0"


def node(kind: int, subtype: int, body: bytes = b"") -> bytes:
    return struct.pack("<BBH", kind, subtype, 4 + len(body)) + body


PCI_ROOT = node(2, 1, struct.pack("<II", 0x0A0341D0, 0))
NODES = {
    "PciRoot(0x0)": PCI_ROOT,
    "PcieRoot(0x1)": node(2, 1, struct.pack("<II", 0x0A0841D0, 1)),
    "Acpi(PNP0604,0x1)": node(2, 1, struct.pack("<II", 0x060441D0, 1)),
    "Acpi(0x12345678,0x0)": node(2, 1, struct.pack("<II", 0x12345678, 0)),
    "Pci(0x2,0x1)": node(1, 1, b"\1\2"),
    "MemoryMapped(0xb,0x1000,0x1fff)": node(1, 3, struct.pack("<IQQ", 11, 0x1000, 0x1FFF)),
    f"VenHw({GUID})": node(1, 4, GUID.bytes_le),
    f"VenMedia({GUID},0102)": node(4, 3, GUID.bytes_le + b"\1\2"),
    "Scsi(0x1,0x0)": node(3, 2, struct.pack("<HH", 1, 0)),
    "USB(0x1,0x0)": node(3, 5, b"\1\0"),
    "Sata(0x1,0xffff,0x0)": node(3, 18, struct.pack("<HHH", 1, 0xFFFF, 0)),
    "NVMe(0x1,08-07-06-05-04-03-02-01)": node(3, 23, struct.pack("<I", 1) + bytes(range(1, 9))),
    "MAC(525400123456,0x1)": node(3, 11, bytes.fromhex("525400123456") + bytes(26) + b"\1"),
    "Uri(http://a/b)": node(3, 24, b"http://a/b"),
    f"HD(1,GPT,{GUID},0x800,0x100000)": node(4, 1, struct.pack("<IQQ", 1, 0x800, 0x100000) + GUID.bytes_le + b"\2\2"),
    f"HD(2,1,{'00' * 16},0x0,0x1)": node(4, 1, struct.pack("<IQQ", 2, 0, 1) + bytes(16) + b"\1\1"),
    "CDROM(0x0)": node(4, 2, struct.pack("<IQQ", 0, 1, 2)),
    "\\EFI\\BOOT\\BOOTX64.EFI": node(4, 4, "\\EFI\\BOOT\\BOOTX64.EFI\0".encode("utf-16-le")),
    f"FvFile({GUID})": node(4, 6, GUID.bytes_le),
    f"Fv({GUID})": node(4, 7, GUID.bytes_le),
    "Offset(0x1,0x2)": node(4, 8, struct.pack("<IQQ", 0, 1, 2)),
    "BBS(0x2,Disk)": node(5, 1, struct.pack("<HH", 2, 0) + b"Disk\0"),
    "Path(9,9,aabb)": node(9, 9, b"\xaa\xbb"),
    "Path(1,1,00)": node(1, 1, b"\0"),  # too short for a PCI node
}


@pytest.mark.parametrize(("text", "data"), NODES.items(), ids=NODES)
def test_each_kind_of_node_has_its_text(text: str, data: bytes) -> None:
    assert device_path_text(data + END) == text


def test_nodes_are_joined_and_end_at_the_end_node() -> None:
    path = PCI_ROOT + node(1, 1, b"\0\4") + END + node(9, 9)
    assert device_path_text(path) == "PciRoot(0x0)/Pci(0x4,0x0)"
    assert device_path_text(path[: -4 - len(END)]) == "PciRoot(0x0)/Pci(0x4,0x0)"
    assert device_path_text(b"") == device_path_text(END) == ""


def test_one_path_after_another_is_told_apart() -> None:
    assert device_path_text(PCI_ROOT + b"\x7f\x01\x04\0" + PCI_ROOT + END) == "PciRoot(0x0),PciRoot(0x0)"


@pytest.mark.parametrize(
    "data",
    [b"\1", b"\1\1\0\0", b"\1\1\3\0", b"\1\1\xff\xff", PCI_ROOT[:-1], node(1, 1, b"\0\0") * 64],
    ids=["one byte", "length 0", "length 3", "beyond the end", "truncated", "endless"],
)
def test_nodes_that_do_not_add_up_are_refused(data: bytes) -> None:
    with pytest.raises(BuilderError):
        device_path_text(data)


def test_text_in_a_path_cannot_do_anything_when_it_is_printed() -> None:
    text = device_path_text(node(4, 4, "a\x1b[31m\u202e/b".encode("utf-16-le")) + END)
    assert text == "a<1b>[31m<202e>/b"


@given(st.binary(max_size=200))
def test_any_bytes_give_printable_text_or_an_error(data: bytes) -> None:
    try:
        text = device_path_text(data)
    except BuilderError:
        return
    assert text == "" or (text.isprintable() and len(text) < 100_000)
