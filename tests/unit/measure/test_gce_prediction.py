"""A VM on GCE as a whole: MRTD by file or digest, registers that are open, and what is said about them."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from builder.errors import DocumentError, RegisterDiffersError
from builder.measure import (
    GCE_ENDORSED_MRTDS,
    GceBoot,
    GceLaunch,
    GceMachine,
    PageOrder,
    Platform,
    PredictedEvent,
    gce_machine_type,
    gce_mrtd_of_all_sections,
    gce_prediction,
    gce_rtmr0_events,
    mrtd_for,
    parse_tdvf,
    replay,
)
from builder.measure.platforms.gce_td_hob import EarlyAccept
from builder.model.digest import sha384_hex
from tests.fakes.boot_files import SECTIONS_MIGTD, SECTIONS_S2, Firmware

FIRMWARE = Firmware(sections=SECTIONS_S2).encode()
MRTD = mrtd_for(FIRMWARE, PageOrder.SINGLE_PASS).hex()
ENDORSED = {sha384_hex(FIRMWARE): MRTD}
MACHINE = GceMachine(gce_machine_type("c3-standard-4"))
DISK_EVENTS = (
    PredictedEvent("rtmr0", 0x800000E0, "SbatLevel", "11" * 48, "disk"),
    PredictedEvent("rtmr1", 0x80000006, "GPT", "22" * 48, "disk"),
    PredictedEvent("rtmr2", 0xD, "grub", "33" * 48, "disk"),
)
ACPI = {"etc/table-loader", "etc/acpi/rsdp", "etc/acpi/tables"}


def launch(**changes: object) -> GceLaunch:
    return replace(GceLaunch(MACHINE), **changes)


def caveats(given: GceLaunch, endorsed: Mapping[str, str] = GCE_ENDORSED_MRTDS) -> set[str]:
    return set(gce_prediction(given, endorsed=endorsed).caveats)


def test_without_firmware_and_disk_nothing_is_predicted_but_events() -> None:
    found = gce_prediction(launch())
    assert (found.name, found.platform, found.mrtd) == ("c3-standard-4", Platform.GCE, {})
    assert found.registers == replace(found.registers, mrtd=None, rtmr0=None, rtmr1=None, rtmr2=None)
    assert found.unknown_mrtd == "neither the firmware nor its digest was given"
    assert {event.register for event in found.unpredicted} == {"rtmr0", "rtmr1", "rtmr2"}
    assert found.of_register("rtmr0")[:-1] == gce_rtmr0_events(MACHINE)


def test_mrtd_of_endorsed_firmware_is_the_endorsed_one_in_a_single_pass() -> None:
    found = gce_prediction(launch(firmware=FIRMWARE), endorsed=ENDORSED)
    assert (found.registers.mrtd, found.mrtd, found.unknown_mrtd) == (MRTD, {PageOrder.SINGLE_PASS: MRTD}, None)
    assert "gce_firmware_unknown" not in found.caveats
    assert "gce_mrtd_unverified" in found.caveats


def test_an_endorsement_of_another_value_is_never_passed_over() -> None:
    with pytest.raises(RegisterDiffersError, match="endorsed is 00"):
        gce_prediction(launch(firmware=FIRMWARE), endorsed={sha384_hex(FIRMWARE): "00" * 48})


def test_mrtd_of_other_firmware_is_computed_and_said_to_be_unendorsed() -> None:
    found = gce_prediction(launch(firmware=FIRMWARE))
    assert found.registers.mrtd == MRTD
    assert {"gce_firmware_unknown", "gce_mrtd_unverified"} <= set(found.caveats)


@pytest.mark.parametrize(("digest", "mrtd"), GCE_ENDORSED_MRTDS.items())
def test_mrtd_of_known_firmware_needs_only_its_digest(digest: str, mrtd: str) -> None:
    found = gce_prediction(launch(firmware_sha384=digest))
    assert found.registers.mrtd == mrtd
    assert {"gce_mrtd_unverified", "gce_layout_assumed"} <= set(found.caveats)


def test_a_digest_that_nobody_knows_is_refused() -> None:
    with pytest.raises(DocumentError, match="none of the 3 known ones") as refusal:
        gce_prediction(launch(firmware_sha384="ab" * 48))
    assert "give the file itself" in str(refusal.value.hint)


def test_a_file_of_another_digest_is_refused() -> None:
    with pytest.raises(DocumentError, match="wanted abab"):
        gce_prediction(launch(firmware=FIRMWARE, firmware_sha384="ab" * 48))
    both = gce_prediction(launch(firmware=FIRMWARE, firmware_sha384=sha384_hex(FIRMWARE)))
    assert both == gce_prediction(launch(firmware=FIRMWARE))


def test_a_firmware_file_decides_the_hob_list_and_the_variable_store() -> None:
    events = gce_prediction(launch(firmware=FIRMWARE)).of_register("rtmr0")
    store = next(section for section in parse_tdvf(FIRMWARE).sections if section.type.name == "CFV")
    assert events[1] == replace(
        events[0],
        event_type=0x8000000A,
        name="variable store",
        digest=sha384_hex(store.data(FIRMWARE)),
        input="firmware",
    )
    assert "gce_variable_store_unverified" in caveats(launch(firmware=FIRMWARE))
    assert "gce_layout_assumed" not in caveats(launch(firmware=FIRMWARE))


def test_firmware_for_something_else_is_refused() -> None:
    with pytest.raises(DocumentError):
        gce_prediction(launch(firmware=Firmware(sections=SECTIONS_MIGTD).encode()))
    with pytest.raises(DocumentError):
        gce_prediction(launch(firmware=b""))


def test_the_old_vmm_has_another_mrtd_and_another_hob_list() -> None:
    found = gce_prediction(launch(firmware=FIRMWARE, every_section_measured=True), endorsed=ENDORSED)
    assert found.registers.mrtd == gce_mrtd_of_all_sections(FIRMWARE, MACHINE.machine_type)
    assert found.registers.mrtd != MRTD
    old = gce_rtmr0_events(MACHINE, metadata=parse_tdvf(FIRMWARE), early_accept=EarlyAccept.BELOW_4_GIB)
    assert found.events[0] == old[0] != gce_prediction(launch(firmware=FIRMWARE)).events[0]
    assert "gce_every_section_unverified" in found.caveats


@pytest.mark.parametrize("digest", [None, next(iter(GCE_ENDORSED_MRTDS))])
def test_the_old_vmms_mrtd_needs_the_file(digest: str | None) -> None:
    with pytest.raises(DocumentError, match="needs the firmware file"):
        gce_prediction(launch(firmware_sha384=digest, every_section_measured=True))


def test_what_is_known_of_the_disk_gives_rtmr1_and_rtmr2() -> None:
    found = gce_prediction(launch(boot=GceBoot(DISK_EVENTS, {"some": "caveat"})))
    replayed = replay(DISK_EVENTS)
    assert (found.registers.rtmr1, found.registers.rtmr2) == (replayed["rtmr1"], replayed["rtmr2"])
    assert found.of_register("rtmr0")[-1] == DISK_EVENTS[0]
    assert found.caveats["some"] == "caveat"


def test_acpi_keeps_rtmr0_open_whatever_else_is_known() -> None:
    machine = replace(MACHINE, keys=(b"", b"", b"", b""))
    found = gce_prediction(launch(machine=machine, firmware=FIRMWARE, boot=GceBoot(DISK_EVENTS)))
    assert {event.name for event in found.unpredicted} == ACPI
    assert found.registers.rtmr0 is None


def test_each_key_may_be_known_without_the_others() -> None:
    machine = replace(MACHINE, keys=(None, b"KEK", None, b""))
    unknown = {event.name for event in gce_prediction(launch(machine=machine)).unpredicted}
    assert {"PK", "db"} <= unknown
    assert not {"KEK", "dbx"} & unknown


def test_several_nodes_are_said_to_be_unverified() -> None:
    large = launch(machine=GceMachine(gce_machine_type("c3-standard-88")))
    assert "gce_numa_unverified" in caveats(large)
    assert "gce_numa_unverified" not in caveats(launch())


def test_the_machine_is_stated_with_all_that_decides_registers() -> None:
    machine = GceMachine(gce_machine_type("c3-standard-88"), secure_boot=True, disks=2, disk_controller=5)
    assert gce_prediction(launch(machine=machine)).machine == {
        "machine_type": "c3-standard-88",
        "memory": 352 << 30,
        "numa_nodes": 2,
        "firmware_sha384": None,
        "every_section_measured": False,
        "secure_boot": True,
        "disks": 2,
        "disk_controller": 5,
    }
