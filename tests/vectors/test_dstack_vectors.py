"""Real dstack quotes: every register from the VmConfig, the image's document and generated ACPI tables."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.measure import PageOrder, ParsedEvent, TdReportBody, parse_dstack_event_log, parse_quote, replay
from builder.measure.dstack.compose import AppCompose, parse_app_compose
from builder.measure.dstack.identities import (
    KeyProviderKind,
    boot_time_rtmr3,
    mr_aggregated,
    mr_config_id_v1,
    os_image_hash,
    parse_mr_config_id,
)
from builder.measure.dstack.measurement import TdxMeasurement, encode_tdx_measurement, parse_tdx_measurement
from builder.measure.dstack.profile import (
    VARIABLE_STORE,
    dstack_acpi,
    measurement_events,
    measurement_registers,
)
from builder.measure.dstack.runtime import RuntimeInputs, RuntimeRules, predicted_rtmr3, predicted_runtime_events
from builder.measure.dstack.td_hob_witness import encode_td_hob_witness, parse_td_hob_witness
from builder.measure.dstack.vm_config import VmConfigDocument, parse_vm_config, vm_config_for
from builder.model.event import DSTACK_RUNTIME_EVENT, EV_PLATFORM_CONFIG_FLAGS, PredictedEvent

GUEST = RuntimeRules(storage_fs=True, gpu_policy=False, gpu_attestation=False, init_scripts=False, kms_identity=False)


@pytest.fixture
def answer(vectors: Path) -> dict[str, str]:
    document: dict[str, str] = json.loads((vectors / "pairs/dstack-2cpu-2g/tdx-lite-getquote.json").read_text())
    return document


@pytest.fixture
def body(answer: dict[str, str]) -> TdReportBody:
    return parse_quote(bytes.fromhex(answer["quote"])).body


@pytest.fixture
def log(answer: dict[str, str]) -> tuple[ParsedEvent, ...]:
    return parse_dstack_event_log(answer["event_log"].encode())


@pytest.fixture
def vm_config(answer: dict[str, str]) -> VmConfigDocument:
    return parse_vm_config(answer["vm_config"].encode())


@pytest.fixture
def measurement(vm_config: VmConfigDocument) -> TdxMeasurement:
    assert vm_config.measurement is not None
    return vm_config.measurement


def payloads(log: tuple[ParsedEvent, ...]) -> dict[str, bytes]:
    return {event.name: event.data for event in log if event.event_type == DSTACK_RUNTIME_EVENT}


def test_the_vm_config_describes_the_machine(vm_config: VmConfigDocument) -> None:
    plain = vm_config_for(vcpus=2, memory=2 << 30, qemu_version="8.2.2")
    assert replace(vm_config.config, ovmf_variant=None) == plain
    assert (vm_config.image, vm_config.is_lite, vm_config.unused) == ("dstack-0.6.0", True, ("spec_version",))
    assert vm_config.config.page_order is PageOrder.TWO_PASS


def test_every_register_of_the_boot_follows_from_machine_and_document(
    body: TdReportBody, vm_config: VmConfigDocument, measurement: TdxMeasurement
) -> None:
    acpi = dstack_acpi(vm_config.config).digests()
    assert measurement_registers(measurement, vm_config.config, acpi=acpi) == body.registers


def test_every_event_of_the_boot_is_the_predicted_one(
    log: tuple[ParsedEvent, ...], vm_config: VmConfigDocument, measurement: TdxMeasurement
) -> None:
    events = measurement_events(measurement, vm_config.config, acpi=dstack_acpi(vm_config.config).digests())
    for register in ("rtmr0", "rtmr1", "rtmr2"):
        predicted = [(each.event_type, getattr(each, "digest", None)) for each in events if each.register == register]
        assert predicted == [(each.event_type, each.digest) for each in log if each.register == register]


@pytest.mark.parametrize(
    ("change", "register"),
    [
        ({"page_order": PageOrder.SINGLE_PASS}, "mrtd"),
        ({"pic": False}, "rtmr0"),
        ({"vcpus": 3}, "rtmr0"),
        ({"nics": 2}, "rtmr0"),
        ({"hotplug": False}, "rtmr0"),
        ({"hugepages": True}, "rtmr0"),
        ({"qemu_version": "9.2.1"}, "rtmr0"),
        ({"memory": 3 << 30}, "rtmr0"),
    ],
    ids=str,
)
def test_another_machine_differs_in_one_register(
    body: TdReportBody, vm_config: VmConfigDocument, measurement: TdxMeasurement, change: dict[str, Any], register: str
) -> None:
    other = replace(vm_config.config, **change)
    registers = measurement_registers(measurement, other, acpi=dstack_acpi(other).digests())
    differing = [
        name for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2") if getattr(registers, name) != getattr(body, name)
    ]
    assert differing == [register]


def test_the_document_is_encoded_as_it_came(measurement: TdxMeasurement) -> None:
    encoded = encode_tdx_measurement(measurement)
    assert parse_tdx_measurement(encoded) == measurement
    assert measurement.version == 3
    assert encode_td_hob_witness(parse_td_hob_witness(measurement.td_hob_witness)) == measurement.td_hob_witness


def test_the_variable_store_is_the_one_the_log_shows(log: tuple[ParsedEvent, ...]) -> None:
    assert [event.digest for event in log][1] == VARIABLE_STORE


@pytest.fixture
def compose(log: tuple[ParsedEvent, ...]) -> AppCompose:
    """The app's file is not among the vectors; its digest is, in MRCONFIGID as well as in the log."""
    digest = payloads(log)["compose-hash"].hex()
    return replace(parse_app_compose(b"{}"), digest=digest, key_provider=KeyProviderKind.KMS)


@pytest.fixture
def inputs(log: tuple[ParsedEvent, ...]) -> RuntimeInputs:
    shown = payloads(log)
    return RuntimeInputs(
        instance_id=shown["instance-id"],
        os_image_hash=shown["os-image-hash"],
        key_provider_id=bytes.fromhex(json.loads(shown["key-provider"])["id"]),
    )


def test_rtmr3_follows_from_all_payloads(
    body: TdReportBody, log: tuple[ParsedEvent, ...], compose: AppCompose, inputs: RuntimeInputs
) -> None:
    events = predicted_runtime_events(compose, inputs, rules=GUEST)
    assert predicted_rtmr3(events) == body.rtmr3 == replay(log)["rtmr3"]
    assert [event.name for event in events] == list(payloads(log))


@pytest.mark.parametrize("unknown", ["instance_id", "os_image_hash", "key_provider_id"])
def test_rtmr3_is_open_without_a_payload(compose: AppCompose, inputs: RuntimeInputs, unknown: str) -> None:
    given = replace(inputs, **{unknown: None})  # type: ignore[arg-type]
    assert predicted_rtmr3(predicted_runtime_events(compose, given, rules=GUEST)) is None


@pytest.mark.parametrize("change", ["storage_fs", "gpu_policy"])
def test_rtmr3_of_another_generation_of_guests_differs(
    body: TdReportBody, compose: AppCompose, inputs: RuntimeInputs, change: str
) -> None:
    rules = replace(GUEST, **{change: not getattr(GUEST, change)})
    assert predicted_rtmr3(predicted_runtime_events(compose, inputs, rules=rules)) not in (None, body.rtmr3)


def test_the_image_hash_of_the_guest_is_the_key_services_word(
    log: tuple[ParsedEvent, ...], vm_config: VmConfigDocument
) -> None:
    assert payloads(log)["os-image-hash"].hex() != vm_config.os_image_hash


def test_mrconfigid_is_the_first_version(body: TdReportBody, log: tuple[ParsedEvent, ...]) -> None:
    digest = payloads(log)["compose-hash"].hex()
    assert body.mrconfigid == mr_config_id_v1(digest)
    assert parse_mr_config_id(body.mrconfigid).digest == digest


def test_the_image_hash_is_that_of_the_checksum_file(answer: dict[str, str], vm_config: VmConfigDocument) -> None:
    material = json.loads(answer["vm_config"])["tdx_measurement"]
    assert os_image_hash(base64.b64decode(material["checksum_file"])) == vm_config.os_image_hash


def test_the_two_aggregates_of_a_guest_differ(body: TdReportBody, log: tuple[ParsedEvent, ...]) -> None:
    boot_time = boot_time_rtmr3(log)
    names = list(payloads(log))
    before = [event for event in log if event.name in names[: names.index("boot-mr-done") + 1]]
    assert boot_time == replay(before)["rtmr3"]
    assert mr_aggregated(body, rtmr3=boot_time) != mr_aggregated(body)


def test_another_vcpu_count_of_the_same_image_is_a_known_rtmr0(vectors: Path, measurement: TdxMeasurement) -> None:
    """A quote of dstack 0.5 with one vCPU: other image, the same firmware layout and so the same RTMR[0]."""
    other = parse_quote((vectors / "quotes/18d07608fe_dcap-qvl_quote_hex.bin").read_bytes()).body
    config = vm_config_for(vcpus=1, memory=2 << 30, qemu_version="8.2.2")
    registers = measurement_registers(measurement, config, acpi=dstack_acpi(config).digests())
    assert registers.rtmr0 == other.rtmr0
    assert registers.mrtd != other.mrtd


# dstack/verifier/fixtures/quote-report.json of Dstack-TEE/dstack at 312dc605 (Apache-2.0): a quote with a GPU
GPU_CONFIG = (
    b'{"spec_version": 1, "os_image_hash": "14ad42d0270b444eaeb53918a5a94d9b17eec7a817cd336173b17c5327541c67",'
    b' "cpu_count": 16, "memory_size": 68719476736, "qemu_single_pass_add_pages": false, "pic": false,'
    b' "pci_hole64_size": 17592186044416, "num_gpus": 1, "num_nvswitches": 0, "hugepages": false, "hotplug_off": true,'
    b' "qemu_version": "9.2.1"}'
)
GPU_RTMR0 = "2e3843265f8ecdd4e2282694747f6f2f111605c33f2a8882f5734ee6f3a6ce63d8f34aeef06093dcda76fa5f9d33d8d6"


def test_rtmr0_of_a_machine_with_a_gpu_follows_from_its_vm_config(measurement: TdxMeasurement) -> None:
    found = parse_vm_config(GPU_CONFIG)
    events = measurement_events(measurement, found.config, acpi=dstack_acpi(found.config).digests())
    predicted = [event for event in events if isinstance(event, PredictedEvent)]
    assert replay(predicted)["rtmr0"] == GPU_RTMR0
    assert sum(event.event_type == EV_PLATFORM_CONFIG_FLAGS for event in predicted) == 3
