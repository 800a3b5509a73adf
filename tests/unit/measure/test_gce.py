"""GCE: RAM banks, TD HOB list, MRTD and the events of RTMR[0] (`measurement.md` 3.3, 4.4, 8)."""

import hashlib
import struct
from itertools import pairwise

import pytest

from builder.errors import DocumentError, RegisterDiffersError
from builder.measure import PageOrder, TdvfMetadata, mrtd_for, parse_tdvf
from builder.measure.platforms.gce import (
    GCE_ENDORSED_MRTDS,
    GCE_LAYOUT,
    GceMachine,
    gce_disk_option,
    gce_mrtd,
    gce_mrtd_of_all_sections,
    gce_rtmr0_events,
)
from builder.measure.platforms.gce_td_hob import (
    GCE_MACHINE_TYPES,
    EarlyAccept,
    GceMachineType,
    RamBank,
    gce_machine_type,
    gce_ram_banks,
    gce_td_hob_list,
)
from builder.model.digest import sha384_hex
from builder.model.event import PredictedEvent, UnpredictedEvent
from tests.fakes.boot_files import BFV, MR_EXTEND, SECTIONS_MIGTD, SECTIONS_S2, TD_HOB, TEMP_MEM, Firmware

GIB = 1 << 30
SMALL_GUEST = GceMachine(gce_machine_type("c3-standard-4"))
FIRMWARE = Firmware(sections=SECTIONS_S2).encode()

# flashbots/dstack-mr-gcp, internal/consts.go: number of c3-standard -> digest that its TDs measured
HOBS = {
    4: "458994daa60deac8dea19dba79748f6ff93fd0aebb8e3e0be5a65eb12309d342c3ce31cc67af7bbd22af1a44e7d9fe21",
    8: "aa9e81feeb58a9eb3a9f4110cc7b5696240437ea4c1a9c30518cfc44fa305183e6473e6bc02ddc4de09d0c49c49fadb5",
    22: "a5be8ecd74020972e328fbbe94d2886817ef0d2e8a4e94e9572e8e1b221f3f608cddc868cf8b08e8e645e4aaeba68279",
    44: "21092eadb73948aebb405b826354c23c3025635c89a8d91f85905afb120b7d98025a6c3083e8e82b5320695b253ce341",
}
# the same file and its history: (disk, PCI device of the controller) -> digest of the boot option
DISKS = {
    (1, 4): "a25333c7aec2e0993034938c7f11893b3c2bcaf67e88c342a3d586f6f7fae2c6a1247a9ed86988080a6d4be497d4fbb6",
    (2, 4): "9068065754ff3ae3dd58a5897535eeaf62a19a6757d82dd91349c41bae2e3f208e268abba2a4378bc5c8d1acf2fd260f",
    (1, 5): "ad073f06c3e96a1fd95ad8ff602b913155384775c6d258b6290f3d995cd3882f243e2d1a38182eb102857ca417cea960",
    (2, 5): "e501398b9dcefa43727503a8b1161225fb9413c39ce91126d2a9a3588ae7ecdfa7a9fcbffc6a1cbc3e0ec92cbd4810e7",
}


def hobs(metadata: TdvfMetadata, machine: str, **options: EarlyAccept) -> bytes:
    return gce_td_hob_list(metadata, gce_ram_banks(gce_machine_type(machine)), **options)


def resources(encoded: bytes) -> list[tuple[int, int, int, int]]:
    """(resource type, attribute, start, end) of each resource HOB."""
    entries = [struct.unpack("<HHI16xIIQQ", encoded[at : at + 48]) for at in range(56, len(encoded), 48)]
    return [(kind, attribute, start, start + size) for _, _, _, kind, attribute, start, size in entries]


@pytest.mark.parametrize(("number", "digest"), HOBS.items())
def test_td_hobs_are_those_that_tds_of_these_types_measured(number: int, digest: str) -> None:
    assert sha384_hex(hobs(GCE_LAYOUT, f"c3-standard-{number}")) == digest


def test_banks_of_four_nodes_are_those_of_googles_own_test() -> None:
    """google/gce-tcb-verifier, tdx/tdx_test.go."""
    banks = [(bank.start, bank.end - bank.start) for bank in gce_ram_banks(gce_machine_type("c3-standard-176"))]
    assert banks == [
        (0, 0xC0000000),
        (0xFFE00000, 0x200000),
        (0x100000000, 0x2B40000000),
        (0x2C40000000, 0x2C00000000),
        (0x5840000000, 0x2C00000000),
        (0x8440000000, 0x2C00000000),
    ]


@pytest.mark.parametrize("machine", GCE_MACHINE_TYPES.values(), ids=GCE_MACHINE_TYPES)
def test_banks_and_list_cover_all_memory_once(machine: GceMachineType) -> None:
    banks = gce_ram_banks(machine)
    assert sum(bank.end - bank.start for bank in banks) == machine.memory + (2 << 20)
    ranges = sorted(each[2:] for each in resources(gce_td_hob_list(GCE_LAYOUT, banks)))
    assert all(before[1] <= after[0] for before, after in pairwise(ranges))
    assert sum(end - start for start, end in ranges) == machine.memory + (2 << 20)


def test_each_node_has_its_own_range() -> None:
    high = [each for each in resources(hobs(GCE_LAYOUT, "c3-standard-88")) if each[2] >= 4 * GIB]
    assert high == [(7, 0x10000007, 4 * GIB, 177 * GIB), (7, 0x10000007, 177 * GIB, 353 * GIB)]


def test_sections_come_first_in_the_order_of_the_metadata() -> None:
    found = [each[2:] for each in resources(hobs(GCE_LAYOUT, "c3-standard-4"))[:6]]
    assert found == [(section.address, section.end) for section in GCE_LAYOUT.sections]


def test_the_end_address_does_not_count_the_last_hob() -> None:
    encoded = hobs(GCE_LAYOUT, "c3-standard-4")
    assert struct.unpack_from("<Q", encoded, 48) == (0x809000 + len(encoded),)


def test_memory_above_4_gib_may_be_left_to_the_guest() -> None:
    late = resources(hobs(GCE_LAYOUT, "c3-standard-4", early_accept=EarlyAccept.BELOW_4_GIB))
    assert {each[1] for each in late if each[0] == 7 and each[2] < 4 * GIB} == {0x10000007}
    assert {each[1] for each in late if each[0] == 7 and each[2] >= 4 * GIB} == {7}


def test_an_unknown_machine_type_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"'n2d-standard-4' is unknown") as refusal:
        gce_machine_type("n2d-standard-4")
    assert "c3-standard-4" in str(refusal.value.hint)


@pytest.mark.parametrize(("memory", "nodes"), [(2 * GIB, 1), (177 * GIB, 1), (353 * GIB, 2), (0, 1), (16 * GIB, 0)])
def test_memory_that_nodes_cannot_hold_is_refused(memory: int, nodes: int) -> None:
    with pytest.raises(DocumentError, match="bytes on"):
        gce_ram_banks(GceMachineType("made-up", memory, nodes))


def test_banks_that_overlap_are_refused() -> None:
    banks = [*gce_ram_banks(gce_machine_type("c3-standard-4")), RamBank(0x1000, 0x2000)]
    with pytest.raises(DocumentError, match="banks overlap"):
        gce_td_hob_list(GCE_LAYOUT, banks)


def test_a_section_without_memory_behind_it_is_refused() -> None:
    with pytest.raises(DocumentError, match="section at 0xffe00000 lies outside"):
        gce_td_hob_list(GCE_LAYOUT, [RamBank(0, 3 * GIB)])


def test_a_list_that_outgrows_its_section_is_refused() -> None:
    pages = [(0, 0, 0x900000 + 0x2000 * page, 0x1000, TEMP_MEM, 0) for page in range(60)]
    sections = [SECTIONS_S2[0], (0, 0, 0x809000, 0x1000, TD_HOB, 0), *pages]
    with pytest.raises(DocumentError, match="HOB list of"):
        hobs(parse_tdvf(Firmware(sections=sections).encode()), "c3-standard-4")


def test_firmware_without_a_td_hob_section_is_refused() -> None:
    with pytest.raises(DocumentError, match="no TD_HOB section"):
        hobs(parse_tdvf(Firmware(sections=SECTIONS_MIGTD).encode()), "c3-standard-4")


def test_firmware_that_nobody_endorsed_is_refused() -> None:
    with pytest.raises(DocumentError, match="none of the 3 known ones"):
        gce_mrtd(FIRMWARE)


def test_endorsed_firmware_has_the_endorsed_mrtd_or_is_refused() -> None:
    right = mrtd_for(FIRMWARE, PageOrder.SINGLE_PASS).hex()
    assert gce_mrtd(FIRMWARE, endorsed={sha384_hex(FIRMWARE): right}) == right
    with pytest.raises(RegisterDiffersError, match="endorsed is 00"):
        gce_mrtd(FIRMWARE, endorsed={sha384_hex(FIRMWARE): "00"})


def test_the_known_pairs_are_digests() -> None:
    assert all(len(bytes.fromhex(each)) == 48 for pair in GCE_ENDORSED_MRTDS.items() for each in pair)
    assert len(set(GCE_ENDORSED_MRTDS.values())) == 3


def record(name: bytes, address: int) -> bytes:
    return name.ljust(16, b"\0") + address.to_bytes(8, "little") + bytes(104)


def test_the_old_vmm_extended_every_page_with_the_list_in_it() -> None:
    """Against `measurement.md` 3.1 written out once more."""
    sections = [(0xF000, 0x1000, 0xFFFFF000, 0x1000, BFV, MR_EXTEND), *SECTIONS_S2[2:]]
    firmware = Firmware(sections=sections).encode()
    listed = hobs(parse_tdvf(firmware), "c3-standard-4", early_accept=EarlyAccept.BELOW_4_GIB)
    digest = hashlib.sha384()
    for section in parse_tdvf(firmware).sections:
        data = listed + b"\xff\xff\x08\0\0\0\0\0" if section.type == TD_HOB else section.data(firmware)
        data = data.ljust(section.memory_size, b"\0")
        for at in range(0, section.memory_size, 256):
            digest.update(record(b"MEM.PAGE.ADD", section.address + at) if at % 4096 == 0 else b"")
            digest.update(record(b"MR.EXTEND", section.address + at) + data[at : at + 256])
    assert gce_mrtd_of_all_sections(firmware, gce_machine_type("c3-standard-4")) == digest.hexdigest()


def test_under_the_old_vmm_mrtd_depends_on_the_machine_type() -> None:
    values = {gce_mrtd_of_all_sections(FIRMWARE, gce_machine_type(f"c3-standard-{number}")) for number in HOBS}
    assert len(values) == 4
    assert mrtd_for(FIRMWARE, PageOrder.SINGLE_PASS).hex() not in values


@pytest.mark.parametrize(("place", "digest"), DISKS.items())
def test_boot_options_of_disks_are_those_that_tds_measured(place: tuple[int, int], digest: str) -> None:
    number, controller = place
    assert sha384_hex(gce_disk_option(number, controller=controller)) == digest


@pytest.mark.parametrize(("number", "controller"), [(0, 4), (129, 4), (1, -1), (1, 32)])
def test_a_disk_that_no_machine_has_is_refused(number: int, controller: int) -> None:
    with pytest.raises(DocumentError, match="wanted 1 to 128"):
        gce_disk_option(number, controller=controller)


def test_what_cannot_be_derived_is_named_and_not_guessed() -> None:
    events = gce_rtmr0_events(SMALL_GUEST)
    unpredicted = [event for event in events if isinstance(event, UnpredictedEvent)]
    assert [event.name for event in unpredicted] == [
        "variable store",
        "PK",
        "KEK",
        "db",
        "dbx",
        "etc/table-loader",
        "etc/acpi/rsdp",
        "etc/acpi/tables",
    ]
    assert all(event.reason for event in unpredicted)


def test_with_all_that_can_be_known_only_acpi_is_left() -> None:
    machine = GceMachine(SMALL_GUEST.machine_type, keys=(b"PK", b"KEK", b"db", b"dbx"))
    events = gce_rtmr0_events(machine, metadata=parse_tdvf(FIRMWARE), variable_store=FIRMWARE[:0x2000])
    assert [event.name for event in events if isinstance(event, UnpredictedEvent)] == [
        "etc/table-loader",
        "etc/acpi/rsdp",
        "etc/acpi/tables",
    ]
    assert isinstance(events[1], PredictedEvent)
    assert events[1].digest == sha384_hex(FIRMWARE[:0x2000])


def test_every_key_counts_and_has_its_place() -> None:
    digests = [
        [event.digest for event in gce_rtmr0_events(GceMachine(SMALL_GUEST.machine_type, keys=keys))[3:7]]
        for keys in ((b"1", b"2", b"3", b"4"), (b"1", b"2", b"4", b"3"))
    ]
    assert digests[0][:2] == digests[1][:2]
    assert len({*digests[0], *digests[1]}) == 6


@pytest.mark.parametrize(
    ("secure_boot", "digest"), [(False, "cfa4e2c606f57262"), (True, "2cded0c6f453d4c6")], ids=["off", "on"]
)
def test_secure_boot_is_measured_as_a_byte(secure_boot: bool, digest: str) -> None:
    event = gce_rtmr0_events(GceMachine(SMALL_GUEST.machine_type, secure_boot))[2]
    assert isinstance(event, PredictedEvent)
    assert (event.name, event.digest[:16]) == ("SecureBoot", digest)


def test_disks_come_before_the_firmwares_own_program() -> None:
    events = gce_rtmr0_events(GceMachine(SMALL_GUEST.machine_type, disks=2))[11:]
    assert [event.name for event in events] == ["BootOrder", "Boot0001", "Boot0002", "Boot0000"]
    assert isinstance(events[0], PredictedEvent)
    assert events[0].digest == sha384_hex(b"\1\0\2\0\0\0")


@pytest.mark.parametrize("disks", [0, -1, 129])
def test_a_machine_without_a_disk_is_refused(disks: int) -> None:
    with pytest.raises(DocumentError, match="disks, wanted 1 to 128"):
        gce_rtmr0_events(GceMachine(SMALL_GUEST.machine_type, disks=disks))
