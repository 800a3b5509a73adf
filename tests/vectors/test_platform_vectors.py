"""OVMF's section layouts, GCE and td-shim against values of real TDs (`measurement.md` 4, 8)."""

import dataclasses
import json
from pathlib import Path

import pytest

from builder.measure import (
    CloudHypervisorLaunch,
    ParsedEvent,
    PredictedEvent,
    TdvfMetadata,
    cloud_hypervisor_prediction,
    data_matches_digest,
    parse_ccel,
    parse_tdvf,
    replay,
    td_hob_list,
)
from builder.measure.dstack.td_hob_witness import encode_td_hob_witness, parse_td_hob_witness
from builder.measure.firmware.hob import END_OF_LIST, encode_hob_list, parse_hob_list
from builder.measure.firmware.tdvf import SectionType
from builder.measure.platforms.gce import GCE_LAYOUT, GceMachine, gce_rtmr0_events
from builder.measure.platforms.gce_td_hob import gce_machine_type, gce_ram_banks, gce_td_hob_list
from builder.measure.platforms.td_shim import TdShimBoot, td_shim_events
from builder.measure.platforms.td_shim_hob import CloudHypervisorMachine, acpi_tables_of, td_shim_hob_list
from builder.model.digest import sha384_hex
from builder.model.event import UnpredictedEvent
from tests.fakes.boot_files import SECTIONS_S, SECTIONS_S2, SECTIONS_S3, SECTIONS_TD_SHIM, Firmware, bzimage
from tests.fakes.section_layouts import HOBS_S, HOBS_S2, VIRTEE

MIB, GIB = 1 << 20, 1 << 30
S, S2, S3 = (parse_tdvf(Firmware(sections=sections).encode()) for sections in (SECTIONS_S, SECTIONS_S2, SECTIONS_S3))
TD_SHIM = Firmware(sections=SECTIONS_TD_SHIM).encode()
CLOUD_HYPERVISOR_LIST = "tdhob/tdshim_cloudhv_td_hob.bin"
GCE_LOGS = pytest.mark.parametrize("log", ["pairs/gcp-cos113/ccel.bin", "ccel/CCEL_data_gcp"])

# The log that the list is from: confidential-containers/trustee, deps/eventlog/test_data/CCEL_data at 78962cd416dc.
# Its payload covers 0x10000000 bytes at 0x901000, which is its image's PAYLOAD section and no kernel's size.
TD_SHIM_LOG = (
    ("rtmr0", 0xA, "c6e6d33de4104b8196acfb57a9866ef6a85d413e86c1be96486e857b464591f4e2d252414346e9b98960246d2219a0eb"),
    ("rtmr0", 0x4, "394341b7182cd227c5c6b07ef8000cdfd86136c4292b8e576573ad7ed9ae41019f5818b4b971c9effc60e1ad9f1289f0"),
    ("rtmr1", 0x4, "394341b7182cd227c5c6b07ef8000cdfd86136c4292b8e576573ad7ed9ae41019f5818b4b971c9effc60e1ad9f1289f0"),
    (
        "rtmr1",
        0x8000000A,
        "5b7aa6572f649714ff00b6a2b9170516a068fd1a0ba72aa8de27574131d454e6396d3bfa1727d9baf421618a942977fa",
    ),
    ("rtmr1", 0xA, "64ed1e5a47e8632f80faf428465bd987af3e8e4ceb10a5a9f387b6302e30f4993bded2331f0691c4a38ad34e4cbbc627"),
)


def rows() -> list[tuple[TdvfMetadata, int, str]]:
    """Every row of `measurement.md` 4.3."""
    return [(layout, size, digest) for layout, hobs in ((S2, HOBS_S2), (S, HOBS_S)) for size, digest in hobs.items()]


def test_every_row_of_the_table_is_there() -> None:
    assert len(rows()) == 13 + 9 + 1


@pytest.mark.parametrize(("metadata", "mebibytes", "digest"), rows())
def test_a_firmware_file_of_a_layout_gives_its_digests(metadata: TdvfMetadata, mebibytes: int, digest: str) -> None:
    assert sha384_hex(td_hob_list(metadata, mebibytes * MIB)) == digest
    assert sha384_hex(td_hob_list(parse_td_hob_witness(encode_td_hob_witness(metadata)), mebibytes * MIB)) == digest


@pytest.mark.parametrize(("metadata", "mebibytes", "digest"), rows())
def test_no_other_layout_gives_that_digest(metadata: TdvfMetadata, mebibytes: int, digest: str) -> None:
    others = [each for each in (S, S2, S3) if each != metadata]
    assert len(others) == 2
    assert all(sha384_hex(td_hob_list(each, mebibytes * MIB)) != digest for each in others)


def test_other_published_digests(vectors: Path) -> None:
    published = json.loads((vectors / "tdhob/oasis_subset.json").read_text())["td_hob"]
    assert len(published) == 5
    for entry in published:
        assert sha384_hex(td_hob_list(S2, entry["memory_mib"] * MIB)) == entry["sha384"]


def rtmr0_of(path: Path) -> list[ParsedEvent]:
    return [event for event in parse_ccel(path.read_bytes()) if event.register == "rtmr0"]


def test_the_layout_taken_for_gces_is_that_of_a_real_2_mib_firmware(vectors: Path) -> None:
    assert parse_tdvf((vectors / VIRTEE).read_bytes()) == GCE_LAYOUT


@GCE_LOGS
def test_a_gce_log_begins_with_the_list_of_its_machine_type(vectors: Path, log: str) -> None:
    first = rtmr0_of(vectors / log)[0].digest
    lists = {
        name: sha384_hex(gce_td_hob_list(GCE_LAYOUT, gce_ram_banks(gce_machine_type(name))))
        for name in ("c3-standard-4", "c3-standard-8", "c3-standard-22", "c3-standard-44", "c3-standard-176")
    }
    assert [name for name, digest in lists.items() if digest == first] == ["c3-standard-4"]


@GCE_LOGS
def test_a_gce_log_has_what_is_predicted_and_no_more_than_that_is_left_open(vectors: Path, log: str) -> None:
    found = rtmr0_of(vectors / log)
    predicted = gce_rtmr0_events(GceMachine(gce_machine_type("c3-standard-4")))
    for expected, event in zip(predicted, found[: len(predicted)], strict=True):
        assert expected.event_type == event.event_type
        assert isinstance(expected, UnpredictedEvent) or expected.digest == event.digest
    assert sum(isinstance(event, PredictedEvent) for event in predicted) == 6
    assert {event.name for event in found[len(predicted) :]} <= {"SbatLevel", "MokListTrusted"}


@GCE_LOGS
def test_keys_are_measured_as_gce_logs_show_them(vectors: Path, log: str) -> None:
    """The data in the log is what its digests cover, so this checks how keys are encoded and nothing about them."""
    found = rtmr0_of(vectors / log)[3:7]
    assert all(data_matches_digest(event) for event in found)
    sizes = [32 + 2 * len(event.name) for event in found]
    first, second, third, fourth = (event.data[size:] for event, size in zip(found, sizes, strict=True))
    machine = GceMachine(gce_machine_type("c3-standard-4"), keys=(first, second, third, fourth))
    keys = [event for event in gce_rtmr0_events(machine)[3:7] if isinstance(event, PredictedEvent)]
    assert [event.digest for event in keys] == [event.digest for event in found]


def test_the_list_of_cloud_hypervisor_is_read_and_built_again(vectors: Path) -> None:
    data = (vectors / CLOUD_HYPERVISOR_LIST).read_bytes()
    hobs = parse_hob_list(data)
    assert hobs.end_address == 0x800000 + len(data)
    assert encode_hob_list(hobs.hobs, address=0x800000, counts_end=True) + END_OF_LIST == data


def test_the_list_of_cloud_hypervisor_follows_from_image_machine_and_tables(vectors: Path) -> None:
    data = (vectors / CLOUD_HYPERVISOR_LIST).read_bytes()
    tables = acpi_tables_of(parse_hob_list(data))
    assert [table[:4] for table in tables] == [b"DSDT", b"FACP", b"APIC", b"MCFG"]
    machine = CloudHypervisorMachine(GIB, 46, tables)
    assert td_shim_hob_list(TD_SHIM, machine) == data
    for wrong in (
        dataclasses.replace(machine, memory=2 * GIB),
        dataclasses.replace(machine, physical_bits=48),
        dataclasses.replace(machine, acpi_tables=tables[::-1]),
        dataclasses.replace(machine, kernel=False),
        dataclasses.replace(machine, packed_payload_info=True),
    ):
        assert td_shim_hob_list(TD_SHIM, wrong) != data


def test_td_shims_events_are_those_of_its_log(vectors: Path) -> None:
    """All but the payload's digest, whose kernel is not public."""
    boot = TdShimBoot(b"", "root=/dev/vda1 console=hvc0 rw", (vectors / CLOUD_HYPERVISOR_LIST).read_bytes())
    events = [event for event in td_shim_events(TD_SHIM, boot) if isinstance(event, PredictedEvent)]
    assert [(event.register, event.event_type) for event in events] == [each[:2] for each in TD_SHIM_LOG]
    different = [event.name for event, each in zip(events, TD_SHIM_LOG, strict=True) if event.digest != each[2]]
    assert different == ["td_payload"]
    payload = dataclasses.replace(events[3], digest=TD_SHIM_LOG[3][2])
    logged = [PredictedEvent(register, kind, "", digest, "") for register, kind, digest in TD_SHIM_LOG]
    assert replay([*events[:3], payload, events[4]]) == replay(logged)


def test_rtmr0_of_a_td_shim_log_is_predicted_from_the_list_and_from_its_tables(vectors: Path) -> None:
    data = (vectors / CLOUD_HYPERVISOR_LIST).read_bytes()
    logged = replay([PredictedEvent(register, kind, "", digest, "") for register, kind, digest in TD_SHIM_LOG])["rtmr0"]
    bare = CloudHypervisorLaunch(TD_SHIM, bzimage(), "root=/dev/vda1 console=hvc0 rw", GIB)
    given = cloud_hypervisor_prediction(dataclasses.replace(bare, hob_list=data))
    assert given.registers.rtmr0 == logged
    assert "td_shim_hob_of_another_machine" not in given.caveats
    tables = acpi_tables_of(parse_hob_list(data))
    built = dataclasses.replace(bare, acpi_tables=tables, version="34.0")
    assert cloud_hypervisor_prediction(built).registers.rtmr0 == logged
    for wrong in ({"memory": 2 * GIB}, {"version": "44.0"}, {"physical_bits": 48}):
        assert cloud_hypervisor_prediction(dataclasses.replace(built, **wrong)).registers.rtmr0 != logged


def test_a_real_firmware_of_ovmf_has_no_section_of_td_shim(vectors: Path) -> None:
    metadata = parse_tdvf((vectors / VIRTEE).read_bytes())
    assert not metadata.of_type(SectionType.PERM_MEM, SectionType.PAYLOAD, SectionType.PAYLOAD_PARAM)
