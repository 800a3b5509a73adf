"""`measure` of dstack images: the image, its machines, its app, and the identities of all three."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.cli.main import run
from builder.measure.dstack.app import TdConfiguration, identities_of, predict_app
from builder.measure.dstack.compose import parse_app_compose
from builder.measure.dstack.identities import KeyProviderKind, app_id, compose_hash, mr_config_id_v1
from builder.measure.dstack.runtime import (
    RuntimeInputs,
    RuntimeRules,
    key_provider_payload,
    predicted_rtmr3,
    predicted_runtime_events,
)
from builder.measure.dstack.vm_config import vm_config_for
from builder.model.digest import sha256_hex
from builder.pipeline.dstack_image import dstack_reference_values
from tests.fakes.boot_files import bzimage
from tests.fakes.command_line import Run
from tests.fakes.dstack_images import COMMAND_LINE, checksum_file, image_files, image_of, write_image

CONFIG = vm_config_for(vcpus=2, memory=2 << 30, qemu_version="8.2.2")
VM_CONFIG: dict[str, Any] = {"cpu_count": 2, "memory_size": 2 << 30, "qemu_version": "8.2.2"}
MACHINE = ("--vcpus", "2", "--memory", "2G", "--qemu", "8.2.2")
OS_IMAGE_HASH = sha256_hex(checksum_file(image_files()))
APP = b'{"name":"app","key_provider":"none"}'
KMS_APP = b'{"name":"app","key_provider":"kms"}'
INSTANCE = "11" * 20
MRCONFIGID = mr_config_id_v1(compose_hash(APP))
KNOWN = ("--runtime-events", "storage-fs", "--runtime", f"instance-id={INSTANCE}")
GUEST = RuntimeRules(storage_fs=True, gpu_policy=False, gpu_attestation=False, init_scripts=False, kms_identity=False)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "dstack-0.6.0", image_files())


@pytest.fixture
def compose(tmp_path: Path) -> Path:
    return write(tmp_path / "app-compose.json", APP)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def vm_config(path: Path, **members: Any) -> Path:
    return write(path, json.dumps({**VM_CONFIG, **members}).encode())


# the image and its machines


def test_an_image_is_measured_as_the_library_does(tdx: Run, image: Path) -> None:
    ran = tdx("measure", image, *MACHINE)
    (prediction,) = dstack_reference_values(image_of(image_files()), [CONFIG]).predictions
    assert ran.status == 0
    assert ran.result["rtmr0"] == prediction.registers.rtmr0
    assert ran.result["mrtd"] == ran.result["mrtd_page_orders"]["two_pass"]
    assert ran.result["os_image_hash"] == OS_IMAGE_HASH
    assert ran.result["measurement_document"] == {"differences": []}
    assert ran.result["reference_values"]["profiles"][0]["acpi"]["sources"] == ["generated"]


def test_a_vm_config_and_the_options_name_the_same_machine(tdx: Run, image: Path, tmp_path: Path) -> None:
    by_file = tdx("measure", image, "--vm-config", vm_config(tmp_path / "vm.json")).result
    by_options = tdx("measure", image, *MACHINE).result
    assert by_file["reference_values"] == by_options["reference_values"]


def test_a_vm_config_is_taken_out_of_the_answer_it_came_in(tdx: Run, image: Path, tmp_path: Path) -> None:
    answer = write(tmp_path / "answer.json", json.dumps({"quote": "", "vm_config": json.dumps(VM_CONFIG)}).encode())
    assert tdx("measure", image, "--vm-config", answer).result["mrtd"] == tdx("measure", image, *MACHINE).result["mrtd"]


def test_a_vm_config_is_said_to_be_a_claim(
    tdx: Run, capsys: pytest.CaptureFixture[str], image: Path, tmp_path: Path
) -> None:
    path = vm_config(tmp_path / "vm.json", spec_version=1)
    notes = tdx("measure", image, "--vm-config", path).result["notes"]
    assert notes == [
        f"{path}: this machine is what its sender claims; compare it with one that you allow",
        f"{path}: that the machine runs this image was not checked: it claims none",
        f"{path}: not measured: spec_version",
    ]
    assert run(["measure", str(image), "--vm-config", str(path)]) == 0
    assert "what its sender claims" in capsys.readouterr().out


def test_machines_of_options_are_nobodys_claim(tdx: Run, image: Path) -> None:
    assert tdx("measure", image, *MACHINE).result["notes"] == []


def test_every_machine_is_measured(tdx: Run, image: Path, tmp_path: Path) -> None:
    small, large = vm_config(tmp_path / "a.json"), vm_config(tmp_path / "b.json", cpu_count=4)
    ran = tdx("measure", image, "--vm-config", small, "--vm-config", large)
    assert sorted(ran.result["profiles"]) == ["2cpu-2G", "4cpu-2G"]
    ran = tdx("measure", image, *MACHINE, "--vcpus", "1", "--memory", "4G")
    assert sorted(ran.result["profiles"]) == ["1cpu-2G", "1cpu-4G", "2cpu-2G", "2cpu-4G"]


def test_two_machines_of_one_name_are_refused(tdx: Run, image: Path, tmp_path: Path) -> None:
    one, other = vm_config(tmp_path / "a.json"), vm_config(tmp_path / "b.json", num_nics=2)
    ran = tdx("measure", image, "--vm-config", one, "--vm-config", other)
    assert ran.status == 2
    assert "two machines of 2 vCPUs" in ran.message
    ran = tdx("measure", image, "--vm-config", one, "--vm-config", one)
    assert ran.status == 2
    assert "the same file twice" in ran.message


@pytest.mark.parametrize(
    "options", [(), MACHINE[:2], MACHINE[:4], MACHINE[2:], (*MACHINE[:2], *MACHINE[4:]), ("--edk2", "202502")]
)
def test_an_incomplete_machine_is_an_error(tdx: Run, image: Path, options: tuple[str, ...]) -> None:
    ran = tdx("measure", image, *options)
    assert ran.status == 2
    assert "--vm-config, or all of --vcpus, --memory and --qemu" in ran.message


@pytest.mark.parametrize("option", [MACHINE[:2], MACHINE[2:4], MACHINE[4:], ("--qemu", "")], ids=str)
def test_options_beside_a_vm_config_are_never_ignored(
    tdx: Run, image: Path, tmp_path: Path, option: tuple[str, str]
) -> None:
    ran = tdx("measure", image, "--vm-config", vm_config(tmp_path / "vm.json"), *option)
    assert ran.status == 2
    assert "leave out --vcpus, --memory and --qemu" in ran.message


@pytest.mark.parametrize(
    "option",
    [
        ("--firmware", "f"),
        ("--kernel", "k"),
        ("--initrd", "i"),
        ("--cmdline", "c"),
        ("--acpi", "d"),
        ("--machine", "q35"),
        ("--cpu", "host"),
        ("--device", "serial"),
        ("--pci-hole64", "32G"),
        ("--no-bridge-hotplug",),
        ("--numa-nodes", "1"),
        ("--artifacts", "a"),
        ("--store", "s"),
        ("--offline",),
    ],
    ids=lambda option: option[0],
)
def test_an_image_takes_no_option_of_another_target(tdx: Run, image: Path, option: tuple[str, ...]) -> None:
    ran = tdx("measure", image, *MACHINE, *option)
    assert ran.status == 2
    assert f"{option[0]} does not go with a dstack image" in ran.message


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"vm_config": 7}', b'{"vm_config": ""}', b"\xff" * 99])
def test_a_broken_vm_config_is_named_and_refused(tdx: Run, image: Path, tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "vm.json", data)
    ran = tdx("measure", image, "--vm-config", path)
    assert ran.status == 2
    assert f"{path}: VmConfig" in ran.message


def test_a_vm_config_of_another_image_is_refused(tdx: Run, image: Path, tmp_path: Path) -> None:
    good = vm_config(tmp_path / "good.json", os_image_hash=OS_IMAGE_HASH)
    assert tdx("measure", image, "--vm-config", good).status == 0
    bad = vm_config(tmp_path / "bad.json", os_image_hash="ab" * 32)
    ran = tdx("measure", image, "--vm-config", bad)
    assert ran.status == 2
    assert OS_IMAGE_HASH in ran.message


def with_document(path: Path, files: dict[str, bytes]) -> Path:
    """A VmConfig that brings the TDX document of these files."""
    listed = checksum_file(files)
    material = {"measurement": files["measurement.tdx.cbor"], "checksum_file": listed}
    encoded = {name: base64.b64encode(data).decode() for name, data in material.items()}
    return vm_config(path, os_image_hash=sha256_hex(listed), tdx_measurement=encoded)


def test_a_document_that_comes_with_the_machine_is_compared_with_the_files(
    tdx: Run, image: Path, tmp_path: Path
) -> None:
    path = with_document(tmp_path / "vm.json", image_files())
    assert tdx("measure", image, "--vm-config", path).status == 0
    (unlisted(image) / "measurement.tdx.cbor").unlink()
    assert tdx("measure", image, "--vm-config", path).status == 0
    (image / "bzImage").write_bytes(bzimage(release=b"6.13.0-other"))
    ran = tdx("measure", image, "--vm-config", path)
    assert ran.status == 2
    assert "the TDX document of other files: kernel: " in ran.message


# what the image says of itself


def unlisted(image: Path) -> Path:
    for name in ("sha256sum.txt", "digest.txt"):
        (image / name).unlink()
    return image


def test_an_image_without_a_list_has_the_registers_and_no_identity(
    tdx: Run, capsys: pytest.CaptureFixture[str], image: Path
) -> None:
    listed = tdx("measure", image, *MACHINE).result
    result = tdx("measure", unlisted(image), *MACHINE).result
    assert result["profiles"] == listed["profiles"]
    assert result["os_image_hash"] is None
    assert any("no sha256sum.txt lists the files" in note for note in result["notes"])
    assert run(["measure", str(image), *MACHINE]) == 0
    assert "os_image_hash: none: " in capsys.readouterr().out


def test_a_claimed_identity_that_cannot_be_compared_is_said_to_be(tdx: Run, image: Path, tmp_path: Path) -> None:
    path = vm_config(tmp_path / "vm.json", os_image_hash="ab" * 32)
    notes = tdx("measure", unlisted(image), "--vm-config", path).result["notes"]
    assert any("was not checked" in note and "ab" * 32 in note for note in notes)


@pytest.mark.parametrize("name", ["sha256sum.txt", "digest.txt"])
def test_half_a_list_is_none(tdx: Run, image: Path, name: str) -> None:
    (image / name).unlink()
    ran = tdx("measure", image, *MACHINE)
    assert ran.status == 2
    assert name in ran.message


def test_a_changed_file_of_a_listed_image_is_status_1(tdx: Run, image: Path) -> None:
    (image / "bzImage").write_bytes(bzimage(release=b"6.13.0-other"))
    ran = tdx("measure", image, *MACHINE)
    assert ran.status == 1
    assert "bzImage" in ran.message


def test_a_document_that_is_not_of_the_files_is_status_6(
    tdx: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = write_image(tmp_path / "other", {**image_files(), "bzImage": bzimage(release=b"6.13.0-other")})
    ran = tdx("measure", other, *MACHINE)
    assert ran.status == 6
    (difference,) = ran.result["measurement_document"]["differences"]
    assert difference.startswith("kernel: stated ")
    assert ran.result["rtmr1"] is not None, "the files are measured all the same"
    assert run(["measure", str(other), *MACHINE]) == 6
    assert "measurement.tdx.cbor: DIFFERS from the files: kernel: " in capsys.readouterr().out


def test_a_document_is_compared_without_a_list_too(tdx: Run, image: Path) -> None:
    (unlisted(image) / "bzImage").write_bytes(bzimage(release=b"6.13.0-other"))
    assert tdx("measure", image, *MACHINE).status == 6


def test_an_image_without_a_document_is_measured(tdx: Run, image: Path) -> None:
    (unlisted(image) / "measurement.tdx.cbor").unlink()
    ran = tdx("measure", image, *MACHINE)
    assert ran.status == 0
    assert ran.result["measurement_document"] is None


@pytest.fixture
def silent(tmp_path: Path) -> Path:
    """An image of an age in which both firmware generations were shipped."""
    return write_image(tmp_path / "silent", image_files(ovmf_variant=None))


def test_an_image_that_does_not_say_its_firmware_is_refused_with_the_option_that_does(tdx: Run, silent: Path) -> None:
    ran = tdx("measure", silent, *MACHINE)
    assert ran.status == 2
    assert "no ovmf_variant" in ran.message
    assert "--edk2 202502" in ran.hint


def test_the_release_of_the_firmware_replaces_what_the_image_does_not_say(
    tdx: Run, image: Path, silent: Path, tmp_path: Path
) -> None:
    said = tdx("measure", image, *MACHINE).result["profiles"]
    assert tdx("measure", silent, *MACHINE, "--edk2", "202502").result["profiles"] == said
    claimed = vm_config(tmp_path / "vm.json", ovmf_variant="pre202505")
    assert tdx("measure", silent, "--vm-config", claimed).result["profiles"] == said


def test_the_release_decides_more_than_the_image_can_say(tdx: Run, image: Path) -> None:
    """Both are pre202505, and differ in where ReadyToBoot puts its separator."""
    new = tdx("measure", image, *MACHINE, "--edk2", "202502").result
    old = tdx("measure", image, *MACHINE, "--edk2", "202408").result
    assert (old["rtmr0"], old["rtmr1"]) != (new["rtmr0"], new["rtmr1"])


def test_a_release_that_the_image_contradicts_is_refused(tdx: Run, image: Path) -> None:
    ran = tdx("measure", image, *MACHINE, "--edk2", "202505")
    assert ran.status == 2
    assert "the image says pre202505, edk2 202505 says stable202505" in ran.message


@pytest.mark.parametrize("edk2", ["", "2025", "stable202505", "edk2-stable202502"])
def test_a_release_of_another_form_is_refused(tdx: Run, silent: Path, edk2: str) -> None:
    ran = tdx("measure", silent, *MACHINE, "--edk2", edk2)
    assert ran.status == 2
    assert edk2 in ran.message


# the app


def test_an_app_has_a_hash_an_id_and_rtmr3(tdx: Run, image: Path, compose: Path) -> None:
    result = tdx("measure", image, *MACHINE, "--app-compose", compose, *KNOWN).result
    inputs = RuntimeInputs(instance_id=bytes.fromhex(INSTANCE), command_line=COMMAND_LINE)
    events = predicted_runtime_events(parse_app_compose(APP), inputs, rules=GUEST)
    assert result["rtmr3"] == predicted_rtmr3(events)
    assert (result["app"]["compose_hash"], result["app"]["app_id"]) == (compose_hash(APP), app_id(APP))
    assert [event["name"] for event in result["app"]["events"]] == [event.name for event in events]
    assert result["app"]["reasons"] == []


def test_what_nobody_knows_is_null_with_its_reason(
    tdx: Run, capsys: pytest.CaptureFixture[str], image: Path, compose: Path
) -> None:
    options = ("--app-compose", str(compose), "--runtime-events", "none")
    result = tdx("measure", image, *MACHINE, *options).result
    assert result["rtmr3"] is None
    (reason,) = result["app"]["reasons"]
    assert reason.startswith("instance-id comes from a random seed")
    assert run(["measure", str(image), *MACHINE, *options]) == 0
    output = capsys.readouterr().out
    assert "\nrtmr3 not predicted\n" in output
    assert "not predicted: rtmr3: instance-id" in output


def test_a_guest_whose_software_nobody_names_has_no_rtmr3(tdx: Run, image: Path, compose: Path) -> None:
    result = tdx("measure", image, *MACHINE, "--app-compose", compose).result
    assert result["rtmr3"] is None
    assert "depends on its software" in result["app"]["reasons"][0]
    assert result["app"]["compose_hash"] == compose_hash(APP)


def test_every_value_that_only_the_guest_knows_reaches_rtmr3(tdx: Run, image: Path, tmp_path: Path) -> None:
    stated = {
        "app-id": "aa" * 20,
        "instance-id": INSTANCE,
        "os-image-hash": "0f" * 32,
        "key-provider-id": "c0ffee",
        "mr-kms": "dd" * 32,
        "gpu-attestation": "7b7d",
    }
    runtime = [word for name, value in stated.items() for word in ("--runtime", f"{name}={value}")]
    path = write(tmp_path / "kms.json", KMS_APP)
    names = "storage-fs,gpu-policy-hash,gpu-attestation,init-script-hash,mr-kms"
    options = ("--app-compose", path, "--runtime-events", names, *runtime, "--app-event", "mine=00ff")
    result = tdx("measure", image, *MACHINE, *options).result
    payloads = {name: bytes.fromhex(value) for name, value in stated.items()}
    inputs = RuntimeInputs(
        app_id=payloads["app-id"],
        instance_id=payloads["instance-id"],
        os_image_hash=payloads["os-image-hash"],
        key_provider_id=payloads["key-provider-id"],
        kms_identity=payloads["mr-kms"],
        gpu_attestation=payloads["gpu-attestation"],
        command_line=COMMAND_LINE,
        application=(("mine", b"\0\xff"),),
    )
    everything = RuntimeRules(
        storage_fs=True, gpu_policy=True, gpu_attestation=True, init_scripts=True, kms_identity=True
    )
    expected = predict_app(KMS_APP, inputs, rules=everything)
    assert result["rtmr3"] == expected.rtmr3
    assert result["rtmr3"] is not None
    assert result["app"]["app_id"] == "aa" * 20
    assert [event["name"] for event in result["app"]["events"]][-1] == "mine"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--runtime-events", "storage"), "wanted `none`, or some of storage-fs, "),
        (("--runtime-events", "storage-fs,storage-fs"), "each once"),
        (("--runtime-events", ""), "wanted `none`"),
        (("--runtime-events", "none,storage-fs"), "wanted `none`"),
        (("--runtime", "instance=00"), "wanted one of app-id, instance-id"),
        (("--runtime", "instance-id"), "wanted NAME=HEX"),
        (("--runtime", "instance-id=0"), "wanted NAME=HEX"),
        (("--runtime", "instance-id=0x00"), "wanted NAME=HEX"),
        (("--runtime", "app-id=00"), "app-id: 1 bytes, wanted 20"),
        (("--runtime-events", "none", "--runtime", "instance-id="), "instance-id: 0 bytes, wanted 20"),
        (("--runtime", f"app-id={'00' * 20}", "--runtime", f"app-id={'00' * 20}"), "stated twice"),
        (("--runtime", f"instance-id={INSTANCE}"), "needs --runtime-events"),
        (("--runtime-events", "none", "--runtime", "mr-kms=00"), "emits no such event"),
        (("--runtime-events", "none", "--runtime", f"os-image-hash={'00' * 32}"), "emits no such event"),
        (("--runtime", "key-provider-id=00"), "key-provider: id '00' is stated"),
        (("--runtime", "mrconfigid=00"), "mrconfigid: 1 bytes, wanted 48"),
        (("--app-event", "mine=00"), "needs --runtime-events"),
        (("--runtime-events", "none", "--app-event", "mine"), "wanted NAME=HEX"),
        (("--runtime-events", "none", "--app-event", "=00"), "an event of the app is called ''"),
    ],
    ids=str,
)
def test_what_means_nothing_for_this_guest_is_refused(
    tdx: Run, image: Path, compose: Path, options: tuple[str, ...], named: str
) -> None:
    ran = tdx("measure", image, *MACHINE, "--app-compose", compose, *options)
    assert ran.status == 2
    assert named in ran.message


@pytest.mark.parametrize(
    "option",
    [("--runtime-events", "none"), ("--runtime-events", ""), ("--runtime", "app-id=00"), ("--app-event", "a=00")],
    ids=str,
)
def test_options_of_an_app_without_its_description_are_never_ignored(
    tdx: Run, image: Path, option: tuple[str, str]
) -> None:
    ran = tdx("measure", image, *MACHINE, *option)
    assert ran.status == 2
    assert f"{option[0]} needs --app-compose" in ran.message


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"key_provider": 7}', b"\xff" * 99])
def test_a_broken_description_is_refused(tdx: Run, image: Path, compose: Path, data: bytes) -> None:
    compose.write_bytes(data)
    ran = tdx("measure", image, *MACHINE, "--app-compose", compose)
    assert ran.status == 2
    assert "app-compose.json" in ran.message


# identities


def test_identities_follow_where_everything_is_known(tdx: Run, image: Path, compose: Path) -> None:
    options = ("--app-compose", compose, *KNOWN, "--runtime", f"mrconfigid={MRCONFIGID}")
    result = tdx("measure", image, *MACHINE, *options).result
    (prediction,) = dstack_reference_values(image_of(image_files()), [CONFIG]).predictions
    app = predict_app(APP, RuntimeInputs(instance_id=bytes.fromhex(INSTANCE), command_line=COMMAND_LINE), rules=GUEST)
    expected = identities_of(prediction.registers, app, TdConfiguration(mrconfigid=MRCONFIGID))
    found = result["identities"]["2cpu-2G"]
    assert (found["mr_system"], found["mr_aggregated"]) == (expected.mr_system, expected.mr_aggregated)
    assert found["reasons"] == []


def test_identities_are_null_where_an_input_is_not_known(tdx: Run, image: Path, compose: Path, tmp_path: Path) -> None:
    def identities(*options: object) -> dict[str, Any]:
        return dict(tdx("measure", image, *MACHINE, *options).result["identities"]["2cpu-2G"])

    found = identities("--app-compose", compose, *KNOWN)
    assert found["mr_system"] is not None
    assert found["mr_aggregated"] is None
    assert found["reasons"] == ["mr_aggregated: mrconfigid is not known"]
    found = identities("--app-compose", write(tmp_path / "kms.json", KMS_APP))
    assert found["mr_system"] is None
    assert "mr_system: which key provider answers is not known" in found["reasons"]
    found = identities()
    assert (found["mr_system"], found["mr_aggregated"]) == (None, None)
    assert "--app-compose" in found["reasons"][0]


def test_a_register_that_is_not_predicted_leaves_no_identity(tdx: Run, tmp_path: Path, compose: Path) -> None:
    """The firmware measures SMBIOS tables, which nobody gave."""
    files = {**image_files(ovmf_variant="stable202505")}
    del files["measurement.tdx.cbor"]
    new = write_image(tmp_path / "new", files)
    options = ("--app-compose", compose, *KNOWN, "--runtime", f"mrconfigid={MRCONFIGID}")
    result = tdx("measure", new, *MACHINE, *options).result
    assert result["rtmr0"] is None
    assert result["identities"]["2cpu-2G"] == {
        "mr_system": None,
        "mr_aggregated": None,
        "reasons": ["mr_system, mr_aggregated: rtmr0 is not predicted"],
    }


def test_people_see_the_app_and_its_identities(capsys: pytest.CaptureFixture[str], image: Path, compose: Path) -> None:
    assert run(["measure", str(image), *MACHINE, "--app-compose", str(compose), *KNOWN, "--events"]) == 0
    output = capsys.readouterr().out
    assert f"os_image_hash {OS_IMAGE_HASH}\n" in output
    assert f"compose_hash {compose_hash(APP)}\n" in output
    assert "measurement.tdx.cbor: agrees with the files\n" in output
    assert "Events of RTMR3" in output
    assert "not known: mr_aggregated: mrconfigid" in output


def test_the_key_provider_of_an_app_is_part_of_its_identity() -> None:
    app = predict_app(APP, RuntimeInputs(), rules=None)
    assert app.key_provider == key_provider_payload(KeyProviderKind.NONE, b"")
    (prediction,) = dstack_reference_values(image_of(image_files()), [CONFIG]).predictions
    other = replace(app, key_provider=b"other")
    one, two = (identities_of(prediction.registers, each, TdConfiguration()).mr_system for each in (app, other))
    assert one != two
