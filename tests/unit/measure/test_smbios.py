"""SMBIOS tables as edk2 measures them. The two digests are those of emulated boots (`measurement.md` 5.8)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuilderError, DocumentError
from builder.measure.firmware.smbios import (
    FirmwareStrings,
    SmbiosStructure,
    filtered,
    installed_structures,
    parse_smbios,
    smbios_digest,
    with_processor_id,
)

STRINGS = FirmwareStrings("Debian distribution of EDK II", "2026.08+ds-2", "09/26/2026")
# `etc/smbios/smbios-tables` of 1 vCPU and 2 GiB under QEMU 11.1.3, and of 4 vCPUs and 8 GiB under 10.0.13
SMALL = bytes.fromhex(
    "011b0001010203000000000000000000000000000000000006000051454d55005374616e646172642050432028513335202b20494348392c2032"
    "303039290070632d7133352d31312e3100000316000301010200000303030200000000000000000051454d550070632d7133352d31312e310000"
    "042a00040103fe0254060500fdfb8b0703000000d007d0074101ffffffffffff0000000101010200010043505520300051454d550070632d7133"
    "352d31312e3100001017001001030600002000feff010000000000000000000000112800110010feffffffffff00080900010007020000000200"
    "00000000000000000000000000000044494d4d20300051454d550000131f001300000000ffff1f00001001000000000000000000000000000000"
    "000000200b00200000000000000000007f04007f0000"
)
LARGE = bytes.fromhex(
    "011b0001010203000000000000000000000000000000000006000051454d55005374616e646172642050432028513335202b20494348392c2032"
    "303039290070632d7133352d31302e3000000316000301010200000303030200000000000000000051454d550070632d7133352d31302e300000"
    "042a00040103fe0254060500fdfb8b1703000000d007d0074101ffffffffffff0000000404040200010043505520300051454d550070632d7133"
    "352d31302e3000001017001001030600008000feff010000000000000000000000112800110010feffffffffff00200900010007020000000200"
    "00000000000000000000000000000044494d4d20300051454d550000131f001300000000ffff1f00001001000000000000000000000000000000"
    "000000131f011300004000ffff9f00001001000000000000000000000000000000000000200b00200000000000000000007f04007f0000"
)
SMALL_DIGEST = "5fa3e6c1ef57ad25"
LARGE_DIGEST = "2f1d15e16d6779fa"


def structure(kind: int, size: int, *strings: bytes, handle: int = 1) -> SmbiosStructure:
    """A structure of `size` bytes, its header among them, in which every byte refers to string 1."""
    return SmbiosStructure(kind, handle, b"\x01" * (size - 4), strings)


def changed(before: SmbiosStructure) -> set[int]:
    pairs = zip(before.encode(), filtered(before), strict=True)
    return {offset for offset, (old, new) in enumerate(pairs) if old != new}


@pytest.mark.parametrize(("tables", "prefix"), [(SMALL, SMALL_DIGEST), (LARGE, LARGE_DIGEST)])
def test_the_digest_is_the_one_of_a_boot(tables: bytes, prefix: str) -> None:
    assert smbios_digest(tables, STRINGS).startswith(prefix)


def test_tables_survive_parsing() -> None:
    for tables in (SMALL, LARGE):
        structures = parse_smbios(tables)
        assert b"".join(each.encode() for each in structures) == tables[:-6]
    assert [each.type for each in parse_smbios(LARGE)] == [1, 3, 4, 16, 17, 19, 19, 32]


@pytest.mark.parametrize("change", [{"vendor": "x"}, {"version": "x"}, {"release_date": "x"}])
def test_the_firmwares_own_strings_count(change: dict[str, str]) -> None:
    strings = FirmwareStrings(**{**STRINGS.__dict__, **change})
    assert smbios_digest(SMALL, strings) != smbios_digest(SMALL, STRINGS)


def test_a_type_0_of_the_vmm_replaces_the_firmwares() -> None:
    own = SmbiosStructure(0, 0, bytes(22), (b"vendor",)).encode() + SMALL
    assert smbios_digest(own, None) == smbios_digest(own, STRINGS) != smbios_digest(SMALL, STRINGS)


def test_without_either_there_is_no_digest() -> None:
    with pytest.raises(DocumentError, match="QEMU has no type 0"):
        smbios_digest(SMALL, None)


def test_the_firmwares_type_0_gets_the_lowest_free_handle_and_stands_last() -> None:
    structures = (structure(1, 8, b"a", handle=0), structure(3, 8, b"a", handle=1), structure(4, 8, b"a", handle=3))
    *_, own, end = installed_structures(structures, STRINGS)
    assert (own.type, own.handle) == (0, 2)
    assert (end.type, end.handle) == (127, 0xFEFF)


@pytest.mark.parametrize(
    ("kind", "size", "numbers"),
    [
        (1, 27, {7, *range(8, 24), 24}),
        (2, 15, {7, 10}),
        (3, 22, {7, 8}),
        (4, 48, {0x11, 0x16, 0x17, *range(0x20, 0x26), *range(0x2A, 0x30)}),
        (17, 40, {0x18, 0x19, 0x1A}),
        (22, 26, {7, *range(16, 20)}),
        (23, 13, {5, 6}),
        (27, 15, {12, 13}),
        (39, 22, {8, 9, 10}),
    ],
)
def test_volatile_fields_are_blanked_and_no_others(kind: int, size: int, numbers: set[int]) -> None:
    before = structure(kind, size, b"text", b"kept")
    text = set(range(size, size + 4)) if kind not in (23, 27) else set()
    assert changed(before) == numbers | text


@pytest.mark.parametrize("kind", [0, 16, 19, 32, 127])
def test_other_structures_are_measured_whole(kind: int) -> None:
    assert not changed(structure(kind, 40, b"text"))


@pytest.mark.parametrize("kind", [11, 15, 18, 31, 33, 128, 221, 255])
def test_of_some_structures_only_the_header_counts(kind: int) -> None:
    before = structure(kind, 20, b"secret")
    assert filtered(before) == before.encode()[:4] + bytes(len(before.encode()) - 4)


def test_fields_that_an_old_structure_does_not_have_are_left_alone() -> None:
    assert not changed(structure(4, 0x11, b"text"))
    assert changed(structure(1, 24, b"text")) == {7, *range(8, 24), *range(24, 28)}


def test_a_field_without_a_string_blanks_none() -> None:
    before = SmbiosStructure(3, 1, bytes(18), (b"text",))
    assert not changed(before)


def test_a_string_that_is_not_there_is_refused() -> None:
    with pytest.raises(DocumentError, match="string 1 of 0"):
        filtered(structure(3, 22))


def test_vcpus_of_one_socket_do_not_count_but_memory_and_version_do() -> None:
    more = SMALL.replace(b"\x01\x01\x01\x02\x00\x01\x00CPU", b"\x08\x08\x08\x02\x00\x01\x00CPU")
    digest = smbios_digest(SMALL, STRINGS)
    assert more != SMALL
    assert smbios_digest(more, STRINGS) == digest
    assert smbios_digest(SMALL.replace(b"pc-q35-11.1", b"pc-q35-10.2"), STRINGS) != digest
    assert smbios_digest(LARGE.replace(b"q35-10.0", b"q35-11.1"), STRINGS) != digest


def test_another_processor_changes_type_4_alone() -> None:
    processor = bytes.fromhex("f806c1001ffbeb1f")
    other = with_processor_id(SMALL, processor)
    differing = {offset for offset, (old, new) in enumerate(zip(SMALL, other, strict=True)) if old != new}
    place = SMALL.index(bytes.fromhex("54060500fdfb8b07"))
    assert differing <= set(range(place, place + 8))
    assert processor in other
    assert with_processor_id(other, SMALL[place : place + 8]) == SMALL
    assert smbios_digest(other, STRINGS) != smbios_digest(SMALL, STRINGS)


def test_a_processor_id_has_eight_bytes() -> None:
    for size in (0, 7, 9):
        with pytest.raises(DocumentError, match="wanted 8 bytes"):
            with_processor_id(SMALL, bytes(size))
    short = structure(4, 12, b"x").encode() + bytes.fromhex("7f04007f0000")
    with pytest.raises(DocumentError, match="no processor id"):
        with_processor_id(short, bytes(8))


@pytest.mark.parametrize("size", range(len(SMALL)))
def test_truncated_tables_are_refused(size: int) -> None:
    with pytest.raises(DocumentError, match="SMBIOS tables"):
        parse_smbios(SMALL[:size])


BROKEN = {
    "bytes after the end": SMALL + b"\0",
    "a length below 4": b"\x01\x03" + SMALL[2:],
    "the same handle twice": SMALL[: SMALL.index(b"\x03\x16\x00\x03")] + SMALL,
    "an empty string": structure(1, 8, b"", b"x").encode() + SMALL,
}


@pytest.mark.parametrize("tables", BROKEN.values(), ids=BROKEN)
def test_broken_tables_are_refused(tables: bytes) -> None:
    with pytest.raises(DocumentError, match="SMBIOS tables"):
        smbios_digest(tables, STRINGS)


def test_tables_that_edk2_would_not_publish_whole_are_refused() -> None:
    many = b"".join(structure(11, 200, b"x" * 60000, handle=number).encode() for number in (7, 8)) + SMALL
    with pytest.raises(DocumentError, match="wanted (at most )?65535"):
        smbios_digest(many, STRINGS)


@given(st.binary(max_size=200), st.integers(0, len(SMALL)))
def test_arbitrary_bytes_are_refused_or_measured(data: bytes, offset: int) -> None:
    for tables in (data, SMALL[:offset] + data + SMALL[offset + len(data) :]):
        try:
            digest = smbios_digest(tables, STRINGS)
        except BuilderError:
            continue
        assert len(digest) == 96


def test_more_than_any_entry_point_can_say_is_refused_before_it_is_read() -> None:
    with pytest.raises(DocumentError, match="65536 bytes, wanted at most 65535"):
        parse_smbios(bytes(65536))
