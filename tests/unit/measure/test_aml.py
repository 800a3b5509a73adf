"""AML terms and resource descriptors against bytes of the ACPI specification's encoding (`acpi.md` 9.0)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.measure.acpi import aml, aml_resources


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (1, "01"),
        (2, "0a02"),
        (0xFF, "0aff"),
        (0x100, "0b0001"),
        (0xFFFF, "0bffff"),
        (0x10000, "0c00000100"),
        (0xFFFFFFFF, "0cffffffff"),
        (1 << 32, "0e0000000001000000"),
        ((1 << 64) - 1, "0effffffffffffffff"),
    ],
)
def test_integers_have_their_shortest_form(value: int, encoded: str) -> None:
    assert aml.integer(value).hex() == encoded


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_other_integers_have_no_form(value: int) -> None:
    with pytest.raises(OverflowError):
        aml.integer(value)


@pytest.mark.parametrize(
    ("path", "encoded"),
    [
        ("\\", b"\\\0"),
        ("FOO", b"FOO_"),
        ("_SB", b"_SB_"),
        ("\\_SB.PCI0", b"\\\x2e_SB_PCI0"),
        ("PCI0.SF8.PIRQ", b"\x2f\x03PCI0SF8_PIRQ"),
        ("^S08.PCNT", b"^\x2eS08_PCNT"),
        ("^^A", b"^^A___"),
    ],
)
def test_names_are_padded_and_counted(path: str, encoded: bytes) -> None:
    assert aml.name(path) == encoded


@pytest.mark.parametrize(
    ("size", "encoded"),
    [(0, "01"), (62, "3f"), (63, "4104"), (4093, "4fff"), (4094, "810001"), (1048572, "8fffff"), (1048573, "c1000001")],
)
def test_package_lengths_count_themselves(size: int, encoded: str) -> None:
    assert aml.package_length(size).hex() == encoded


@given(size=st.integers(0, (1 << 28) - 5), counts=st.booleans())
def test_package_lengths_are_read_back_and_are_the_shortest(size: int, *, counts: bool) -> None:
    encoded = aml.package_length(size, counts_itself=counts)
    more = encoded[0] >> 6
    assert len(encoded) == more + 1
    value = encoded[0] if more == 0 else encoded[0] & 0xF | int.from_bytes(encoded[1:], "little") << 4
    assert value == size + counts * len(encoded)
    assert more == 0 or size + counts * more >= 1 << (6 if more == 1 else 4 + 8 * (more - 1))


def test_a_package_length_beyond_28_bits_has_no_form() -> None:
    with pytest.raises(OverflowError):
        aml.package_length(1 << 28)


def test_identifiers_have_their_own_byte_orders() -> None:
    assert aml.eisa_id("PNP0A08").hex() == "0c41d00a08"
    assert aml.uuid("33db4d5b-1ff7-401c-9657-7441c03dd766").hex() == "11130a105b4ddb33f71f1c4096577441c03dd766"


def test_objects_are_opcode_length_and_content() -> None:
    assert aml.package(aml.ONE, aml.ZERO).hex() == "1204020100"
    assert aml.package(count=255).hex() == "1202ff"
    assert (
        aml.method("_PIC", aml.store(aml.arg(0), aml.name("PICF")), args=1).hex() == "140c5f5049430170685049" + "4346"
    )
    assert aml.method("_INI", serialized=True).hex() == "14065f494e4908"
    assert aml.scope("\\", aml.define("_S5", aml.ZERO)).hex() == "10095c00085f53355f00"
    fields = aml.field("DBG", aml.Access.BYTE | aml.WRITE_AS_ZEROS, [("DBGB", 8), (None, 100)])
    assert fields.hex() == "5b810e4442475f41444247420800" + "4406"


def test_descriptors_are_those_of_the_specification() -> None:
    assert aml_resources.template().hex() == "11050a027900"
    assert aml_resources.io(0x3F8, 8, align=0).hex() == "4701f803f8030008"
    assert aml_resources.irq(4).hex() == "221000"
    assert aml_resources.interrupts(5, edge=False).hex() == "890600090105000000"
    assert aml_resources.interrupts(5, edge=True).hex() == "8906000b0105000000"
    assert aml_resources.bus_numbers(0, 255).hex() == "880d00020c0000000000ff0000000001"
    assert aml_resources.word_io(0, 0xCF7).hex() == "880d00010c0300000000f70c0000f80c"
    whole = aml_resources.dword_memory(0, 0xFFFFFFFF, cacheable=True)
    assert whole.hex() == "8717000" + "00c03" + "00000000" * 2 + "ffffffff" + "00000000" * 2
    assert aml_resources.fixed_memory(0xFED00000, 0x400).hex() == "860900000000d0fe00040000"
