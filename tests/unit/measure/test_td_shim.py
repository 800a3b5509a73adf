"""td-shim: MRTD and events (`measurement.md` 8), and the HOB list of Cloud Hypervisor (4.5)."""

import hashlib
import struct

import pytest

from builder.errors import DocumentError
from builder.measure import PageOrder, mrtd_for, replay
from builder.measure.firmware.hob import END_OF_LIST, GuidHob, Hob, ResourceHob, parse_hob_list
from builder.measure.platforms.td_shim import PayloadExtent, TdShimBoot, td_shim_events, td_shim_mrtd
from builder.measure.platforms.td_shim_hob import (
    ACPI_TABLE_HOB,
    PAYLOAD_INFO_HOB,
    CloudHypervisorMachine,
    acpi_tables_of,
    td_shim_hob_list,
)
from builder.model.digest import sha384_hex
from builder.model.event import PredictedEvent, UnpredictedEvent
from tests.fakes.boot_files import (
    MR_EXTEND,
    PAGE_AUG,
    PAYLOAD,
    PAYLOAD_PARAM,
    SECTIONS_MIGTD,
    SECTIONS_TD_SHIM,
    TD_HOB,
    TEMP_MEM,
    Firmware,
    acpi_table,
)

GIB = 1 << 30
TABLES = (acpi_table(b"DSDT", b"devices"), acpi_table(b"APIC", b"vCPUs..."))
MACHINE = CloudHypervisorMachine(GIB, 46, TABLES)
KERNEL = b"MZ kernel"
COMMAND_LINE = "root=/dev/vda1 console=hvc0 rw"
BOOT = TdShimBoot(KERNEL, COMMAND_LINE, b"HOB list")


def changed(kind: int, *, address: int | None = None, memory: int | None = None, attributes: int = 0) -> Firmware:
    """The image with another section of this type."""
    sections = [
        (*each[:2], address or each[2], each[3] if memory is None else memory, kind, attributes)
        if each[4] == kind
        else each
        for each in SECTIONS_TD_SHIM
    ]
    return Firmware(sections=sections)


def without(kind: int) -> bytes:
    return Firmware(sections=[each for each in SECTIONS_TD_SHIM if each[4] != kind]).encode()


IMAGE = Firmware(sections=SECTIONS_TD_SHIM).encode()


def listed(firmware: bytes = IMAGE, machine: CloudHypervisorMachine = MACHINE) -> tuple[Hob, ...]:
    return parse_hob_list(td_shim_hob_list(firmware, machine)).hobs


def ranges(hobs: tuple[Hob, ...]) -> list[tuple[int, int, int]]:
    return [(hob.resource_type, hob.start, hob.length) for hob in hobs if isinstance(hob, ResourceHob)]


def machine_of(memory: int) -> CloudHypervisorMachine:
    return CloudHypervisorMachine(memory, 46, TABLES)


def test_a_list_has_memory_devices_tables_and_the_kernel_in_this_order() -> None:
    hobs = listed()
    assert ranges(hobs) == [
        (7, 0, GIB),
        (0, 0xFF040000, 0x1000),
        (0, 0xFF042000, 0x20000),
        (0, 0xFF062000, 0x20000),
        (1, 0xC0000000, 0x3EE00000),
        (1, 0x100000000, 0x3FFEFFEEFFFF),
    ]
    assert [hob.name for hob in hobs if isinstance(hob, GuidHob)] == [ACPI_TABLE_HOB, ACPI_TABLE_HOB, PAYLOAD_INFO_HOB]
    assert hobs[-1] == GuidHob(PAYLOAD_INFO_HOB, struct.pack("<QQ", 1, 0x901000))


def test_the_list_ends_where_its_header_says() -> None:
    encoded = td_shim_hob_list(IMAGE, MACHINE)
    assert parse_hob_list(encoded).end_address == 0x800000 + len(encoded)
    assert encoded.endswith(END_OF_LIST)


def test_tables_are_padded_and_come_out_as_they_went_in() -> None:
    encoded = td_shim_hob_list(IMAGE, MACHINE)
    assert {len(hob.data) % 8 for hob in parse_hob_list(encoded).hobs if isinstance(hob, GuidHob)} == {0}
    assert acpi_tables_of(parse_hob_list(encoded)) == TABLES


@pytest.mark.parametrize("table", [b"", b"DSDT", TABLES[0] + b"\0", TABLES[0][:-1], bytes(36)])
def test_what_is_no_whole_acpi_table_is_refused(table: bytes) -> None:
    with pytest.raises(DocumentError, match="ACPI table"):
        td_shim_hob_list(IMAGE, CloudHypervisorMachine(GIB, 46, (table,)))


@pytest.mark.parametrize(
    ("memory", "ram", "devices"),
    [
        (3 * GIB, [(7, 0, 3 * GIB)], 4 * GIB),
        (3 * GIB + 4096, [(7, 0, 3 * GIB), (7, 4 * GIB, 4096)], 4 * GIB + 4096),
        (16 * GIB, [(7, 0, 3 * GIB), (7, 4 * GIB, 13 * GIB)], 17 * GIB),
    ],
)
def test_memory_above_3_gib_continues_at_4_and_devices_follow_it(
    memory: int, ram: list[tuple[int, int, int]], devices: int
) -> None:
    found = ranges(listed(machine=machine_of(memory)))
    assert [each for each in found if each[0] == 7] == ram
    assert found[-1][1] == devices
    assert found[-1][1] + found[-1][2] == (1 << 46) - 0x110001


def test_ranges_below_and_above_the_shim_are_sorted() -> None:
    found = [each[1] for each in ranges(listed(machine=machine_of(16 * GIB)))[:-2]]
    assert found == sorted(found)


def test_temporary_memory_inside_ram_splits_it() -> None:
    image = Firmware(sections=[*SECTIONS_TD_SHIM, (0, 0, 0x10000, 0x2000, TEMP_MEM, 0)]).encode()
    assert ranges(listed(image))[:3] == [(7, 0, 0x10000), (0, 0x10000, 0x2000), (7, 0x12000, GIB - 0x12000)]


def test_temporary_memory_over_the_end_of_ram_is_refused() -> None:
    image = Firmware(sections=[*SECTIONS_TD_SHIM, (0, 0, GIB - 0x1000, 0x2000, TEMP_MEM, 0)]).encode()
    with pytest.raises(DocumentError, match="over the end of memory"):
        td_shim_hob_list(image, MACHINE)


def test_old_images_get_the_older_resource_types() -> None:
    old = Firmware(sections=SECTIONS_TD_SHIM).with_pointer()
    assert [each[0] for each in ranges(listed(old))] == [0, 5, 5, 5, 1, 1]


def test_newer_versions_leave_out_padding_before_the_kernels_address() -> None:
    packed = td_shim_hob_list(IMAGE, CloudHypervisorMachine(GIB, 46, TABLES, packed_payload_info=True))
    assert parse_hob_list(packed).hobs[-1] == GuidHob(PAYLOAD_INFO_HOB, struct.pack("<IQ", 1, 0x901000))
    assert len(packed) == len(td_shim_hob_list(IMAGE, MACHINE))


def test_without_a_kernel_there_is_no_word_of_one() -> None:
    machine = CloudHypervisorMachine(GIB, 46, TABLES, kernel=False)
    assert PAYLOAD_INFO_HOB not in [hob.name for hob in listed(without(PAYLOAD), machine) if isinstance(hob, GuidHob)]
    with pytest.raises(DocumentError, match="0 PAYLOAD sections for a kernel"):
        td_shim_hob_list(without(PAYLOAD), MACHINE)


@pytest.mark.parametrize("memory", [0, -4096, 4095, GIB + 1])
def test_memory_that_is_not_whole_pages_is_refused(memory: int) -> None:
    with pytest.raises(DocumentError, match="whole pages"):
        td_shim_hob_list(IMAGE, machine_of(memory))


@pytest.mark.parametrize("bits", [-1, 0, 32, 53, 1 << 40])
def test_addresses_that_no_cpu_has_are_refused(bits: int) -> None:
    with pytest.raises(DocumentError, match="physical address bits"):
        td_shim_hob_list(IMAGE, CloudHypervisorMachine(GIB, bits, TABLES))


def test_tables_that_the_section_cannot_hold_are_refused() -> None:
    table = acpi_table(b"SSDT", bytes(0xF000))
    with pytest.raises(DocumentError, match="exceeds its section"):
        td_shim_hob_list(IMAGE, CloudHypervisorMachine(GIB, 46, (table,) * 3))
    with pytest.raises(DocumentError, match="bytes of data, at most"):
        td_shim_hob_list(IMAGE, CloudHypervisorMachine(GIB, 46, (acpi_table(b"SSDT", bytes(0x10000)),)))


def test_a_table_that_lies_about_its_length_is_refused_in_a_list_too() -> None:
    encoded = bytearray(td_shim_hob_list(IMAGE, MACHINE))
    at = encoded.index(b"DSDT") + 4
    encoded[at : at + 4] = struct.pack("<I", 1 << 20)
    with pytest.raises(DocumentError, match="are no table of 1048576"):
        acpi_tables_of(parse_hob_list(bytes(encoded)))


def digests(events: tuple[PredictedEvent | UnpredictedEvent, ...]) -> dict[str, str]:
    return {event.name: event.digest for event in events if isinstance(event, PredictedEvent)}


def test_events_come_in_the_order_of_a_real_log() -> None:
    found = [(event.register, event.event_type, event.name) for event in td_shim_events(IMAGE, BOOT)]
    assert found == [
        ("rtmr0", 0xA, "td_hob"),
        ("rtmr0", 4, "separator"),
        ("rtmr1", 4, "separator"),
        ("rtmr1", 0x8000000A, "td_payload"),
        ("rtmr1", 0xA, "td_payload_info"),
    ]


def test_the_command_line_counts_with_zeros_up_to_4096_bytes() -> None:
    """Digest of a real log: confidential-containers/trustee, deps/eventlog/test_data/CCEL_data."""
    assert digests(td_shim_events(IMAGE, BOOT))["td_payload_info"] == (
        "64ed1e5a47e8632f80faf428465bd987af3e8e4ceb10a5a9f387b6302e30f4993bded2331f0691c4a38ad34e4cbbc627"
    )


def test_the_kernel_counts_with_its_whole_section() -> None:
    found = digests(td_shim_events(IMAGE, BOOT))
    assert found["td_payload"] == sha384_hex(KERNEL.ljust(0x40000, b"\0"))
    larger = changed(PAYLOAD, memory=0x280000).encode()
    assert digests(td_shim_events(larger, BOOT))["td_payload"] == sha384_hex(KERNEL.ljust(0x280000, b"\0"))


def test_the_kernel_may_be_said_to_count_as_a_file() -> None:
    boot = TdShimBoot(KERNEL, COMMAND_LINE, None, PayloadExtent.FILE)
    assert digests(td_shim_events(IMAGE, boot))["td_payload"] == sha384_hex(KERNEL)


def test_every_byte_of_the_hob_list_counts() -> None:
    assert digests(td_shim_events(IMAGE, BOOT))["td_hob"] == sha384_hex(b"HOB list")


def test_without_the_hob_list_its_register_is_not_predicted() -> None:
    first, *rest = td_shim_events(IMAGE, TdShimBoot(KERNEL, COMMAND_LINE, None))
    assert isinstance(first, UnpredictedEvent)
    assert "ACPI" in first.reason
    assert all(isinstance(event, PredictedEvent) for event in rest)


@pytest.mark.parametrize("attributes", [MR_EXTEND, PAGE_AUG])
def test_a_payload_with_attributes_is_not_measured_into_rtmr1(attributes: int) -> None:
    events = td_shim_events(changed(PAYLOAD, attributes=attributes).encode(), BOOT)
    assert "td_payload" not in [event.name for event in events]


def test_events_replay_to_registers() -> None:
    events = [event for event in td_shim_events(IMAGE, BOOT) if isinstance(event, PredictedEvent)]
    registers = replay(events)
    assert registers["rtmr2"] == bytes(48).hex()
    separator = hashlib.sha384(bytes(4)).digest()
    first = hashlib.sha384(bytes(48) + hashlib.sha384(b"HOB list").digest()).digest()
    assert registers["rtmr0"] == hashlib.sha384(first + separator).hexdigest()


@pytest.mark.parametrize(
    ("firmware", "boot", "reason"),
    [
        (without(PAYLOAD), BOOT, "0 PAYLOAD sections"),
        (without(PAYLOAD_PARAM), BOOT, "0 PAYLOAD_PARAM sections"),
        (Firmware(sections=SECTIONS_MIGTD).encode(), BOOT, "0 TD_HOB sections"),
        (IMAGE, TdShimBoot(bytes(0x40001), "", b""), "262145 bytes do not fit its PAYLOAD of 262144"),
        (IMAGE, TdShimBoot(b"", "x" * 4096, b""), "4097 bytes do not fit its PAYLOAD_PARAM of 4096"),
        (IMAGE, TdShimBoot(b"", "", bytes(0x20001)), "131073 bytes do not fit its TD_HOB"),
        (IMAGE, TdShimBoot(b"", "quiet\n", b""), "not printable ASCII"),
        (IMAGE, TdShimBoot(b"", "caf\u00e9", b""), "not printable ASCII"),
        (changed(PAYLOAD_PARAM, address=1 << 40, memory=1 << 40, attributes=PAGE_AUG).encode(), BOOT, "attributes"),
        (Firmware(sections=[*SECTIONS_TD_SHIM, (0, 0, 1 << 32, 4096, PAYLOAD, 0)]).encode(), BOOT, "2 PAYLOAD"),
        (b"", BOOT, "too small"),
    ],
)
def test_what_td_shim_would_not_start_is_refused(firmware: bytes, boot: TdShimBoot, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        td_shim_events(firmware, boot)


def test_a_section_of_the_hob_list_that_is_missing_is_refused() -> None:
    with pytest.raises(DocumentError, match="0 TD_HOB sections, wanted exactly one"):
        td_shim_hob_list(without(TD_HOB), MACHINE)


def test_mrtd_does_not_depend_on_a_kernel_that_rtmr1_measures() -> None:
    values = td_shim_mrtd(IMAGE, KERNEL)
    assert values == {order: mrtd_for(IMAGE, order).hex() for order in PageOrder}
    assert values[PageOrder.SINGLE_PASS] != values[PageOrder.TWO_PASS]


def test_mrtd_depends_on_a_kernel_that_the_image_wants_extended() -> None:
    image = changed(PAYLOAD, attributes=MR_EXTEND).encode()
    assert td_shim_mrtd(image, KERNEL) == td_shim_mrtd(image, KERNEL + b"\0")
    assert set(td_shim_mrtd(image, KERNEL).values()).isdisjoint(td_shim_mrtd(image, KERNEL + b"!").values())


def test_mrtd_of_an_image_without_room_for_the_kernel_is_refused() -> None:
    with pytest.raises(DocumentError, match="0 PAYLOAD sections"):
        td_shim_mrtd(without(PAYLOAD), KERNEL)
    with pytest.raises(DocumentError, match="do not fit its PAYLOAD"):
        td_shim_mrtd(IMAGE, bytes(0x40001))
