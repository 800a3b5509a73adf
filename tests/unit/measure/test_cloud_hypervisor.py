"""td-shim under Cloud Hypervisor as a whole: which registers follow from which files."""

from dataclasses import replace

import pytest

from builder.errors import DocumentError
from builder.measure import (
    CloudHypervisorLaunch,
    CloudHypervisorMachine,
    PageOrder,
    PredictedEvent,
    UnpredictedEvent,
    cloud_hypervisor_prediction,
    replay,
    td_hob_list,
    td_shim_hob_list,
    td_shim_mrtd,
)
from builder.measure.firmware.hob import END_OF_LIST
from builder.measure.firmware.tdvf import parse_tdvf
from builder.measure.platforms.cloud_hypervisor import packs_payload_info
from builder.model.digest import sha384_hex
from tests.fakes.boot_files import SECTIONS_MIGTD, SECTIONS_TD_SHIM, Firmware, acpi_table, bzimage

GIB = 1 << 30
IMAGE = Firmware(sections=SECTIONS_TD_SHIM).encode()
TABLES = (acpi_table(b"DSDT", b"devices"), acpi_table(b"APIC", b"vCPUs..."))
KERNEL = bzimage()
BARE = CloudHypervisorLaunch(IMAGE, KERNEL, "console=hvc0", GIB)
BUILT = replace(BARE, acpi_tables=TABLES, version="34.0")


def hob_list(**changes: object) -> bytes:
    return td_shim_hob_list(IMAGE, replace(CloudHypervisorMachine(GIB, 46, TABLES), **changes))


def hob_digest(launch: CloudHypervisorLaunch) -> str:
    event = cloud_hypervisor_prediction(launch).events[0]
    assert isinstance(event, PredictedEvent)
    return event.digest


def test_mrtd_is_given_in_both_orders_and_taken_in_a_single_pass() -> None:
    found = cloud_hypervisor_prediction(BARE)
    assert found.mrtd == td_shim_mrtd(IMAGE, KERNEL)
    assert len(set(found.mrtd.values())) == 2
    assert found.registers.mrtd == found.mrtd[PageOrder.SINGLE_PASS]
    assert "td_shim_mrtd_unverified" in found.caveats


def test_memory_that_ends_before_the_image_s_own_sections_is_refused() -> None:
    with pytest.raises(DocumentError, match="the image has sections up to"):
        cloud_hypervisor_prediction(replace(BARE, memory=1 << 20))


def test_without_tables_rtmr0_is_open_and_the_rest_is_not() -> None:
    found = cloud_hypervisor_prediction(BARE)
    assert [event.name for event in found.unpredicted] == ["td_hob"]
    assert found.registers.rtmr0 is None
    predicted = [event for event in found.events if isinstance(event, PredictedEvent)]
    assert found.registers.rtmr1 == replay(predicted)["rtmr1"]
    assert found.registers.rtmr2 == "00" * 48
    assert "td_shim_rtmr2_at_handover" in found.caveats


def test_with_tables_every_register_is_predicted() -> None:
    found = cloud_hypervisor_prediction(BUILT)
    assert not [event for event in found.events if isinstance(event, UnpredictedEvent)]
    assert hob_digest(BUILT) == sha384_hex(hob_list())
    assert found.registers.rtmr0 == replay(e for e in found.events if isinstance(e, PredictedEvent))["rtmr0"]
    assert "td_shim_hob_version" in found.caveats


def test_a_list_with_its_tables_gives_what_the_tables_give() -> None:
    given = replace(BARE, hob_list=hob_list())
    assert cloud_hypervisor_prediction(given).registers == cloud_hypervisor_prediction(BUILT).registers
    assert "td_shim_hob_of_another_machine" not in cloud_hypervisor_prediction(given).caveats


@pytest.mark.parametrize("changes", [{"memory": 2 * GIB}, {"physical_bits": 48}, {"version": "44.0"}], ids=str)
def test_a_list_of_another_machine_is_said_to_be_one(changes: dict[str, object]) -> None:
    given = replace(BARE, hob_list=hob_list())
    other = cloud_hypervisor_prediction(replace(given, **changes))
    assert "td_shim_hob_of_another_machine" in other.caveats
    assert hob_digest(replace(given, **changes)) == sha384_hex(hob_list())


def test_a_list_of_either_form_is_of_a_machine_whose_version_is_not_known() -> None:
    given = replace(BARE, hob_list=hob_list(packed_payload_info=True))
    assert "td_shim_hob_of_another_machine" not in cloud_hypervisor_prediction(given).caveats


@pytest.mark.parametrize(("version", "packed"), [("29.0", False), ("v43.0", False), ("44.0", True), ("v48.0.1", True)])
def test_the_form_of_the_list_follows_from_the_version(version: str, packed: bool) -> None:
    assert packs_payload_info(version) is packed
    assert hob_digest(replace(BUILT, version=version)) == sha384_hex(hob_list(packed_payload_info=packed))


@pytest.mark.parametrize("version", ["", "44", "28.9", "latest", "44.0-dirty", "44.0\n", "-1.0", "0.0"])
def test_what_is_no_version_that_was_read_is_refused(version: str) -> None:
    for launch in (BARE, BUILT):
        with pytest.raises(DocumentError):
            cloud_hypervisor_prediction(replace(launch, version=version))


def test_no_version_is_ever_assumed() -> None:
    with pytest.raises(DocumentError, match="depends on the version"):
        cloud_hypervisor_prediction(replace(BUILT, version=None))


def test_tables_beside_a_list_are_refused() -> None:
    with pytest.raises(DocumentError, match="ACPI tables beside a HOB list"):
        cloud_hypervisor_prediction(replace(BUILT, hob_list=hob_list()))


@pytest.mark.parametrize(
    "hobs", [b"", b"HOB", hob_list()[:-1], hob_list() + b"\0"], ids=["none", "text", "cut", "more"]
)
def test_what_is_no_whole_list_is_refused(hobs: bytes) -> None:
    with pytest.raises(DocumentError):
        cloud_hypervisor_prediction(replace(BARE, hob_list=hobs))


def test_a_list_of_qemu_is_not_taken_for_cloud_hypervisors() -> None:
    foreign = replace(BARE, hob_list=td_hob_list(parse_tdvf(Firmware().encode()), GIB) + END_OF_LIST)
    assert "td_shim_hob_of_another_machine" in cloud_hypervisor_prediction(foreign).caveats


@pytest.mark.parametrize("kernel", [b"", b"MZ kernel", bytes(4096)], ids=["none", "text", "zeros"])
def test_what_is_no_linux_kernel_is_refused(kernel: bytes) -> None:
    with pytest.raises(DocumentError, match="kernel"):
        cloud_hypervisor_prediction(replace(BARE, kernel=kernel))


def test_firmware_without_a_place_for_a_kernel_is_refused() -> None:
    with pytest.raises(DocumentError):
        cloud_hypervisor_prediction(replace(BARE, firmware=Firmware().encode()))
    with pytest.raises(DocumentError):
        cloud_hypervisor_prediction(replace(BARE, firmware=Firmware(sections=SECTIONS_MIGTD).encode()))


@pytest.mark.parametrize(
    "change", [{"kernel": KERNEL + b"\1"}, {"command_line": "console=hvc1"}], ids=["kernel", "line"]
)
def test_kernel_and_command_line_change_rtmr1_and_nothing_else(change: dict[str, object]) -> None:
    before, after = (cloud_hypervisor_prediction(launch).registers for launch in (BUILT, replace(BUILT, **change)))
    assert before.rtmr1 != after.rtmr1
    assert replace(before, rtmr1=after.rtmr1) == after


def test_the_machine_is_stated() -> None:
    assert cloud_hypervisor_prediction(BUILT).machine == {
        "memory": GIB,
        "physical_bits": 46,
        "version": "34.0",
        "hob_list": "built",
        "firmware_sha384": sha384_hex(IMAGE),
    }
    assert cloud_hypervisor_prediction(BARE).machine["hob_list"] is None
