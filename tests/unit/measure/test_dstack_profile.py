"""From dstack's machines to launch profiles (`measurement.md` 9, `acpi.md` 7)."""

from dataclasses import replace

import pytest

from builder.errors import DocumentError, ExitStatus, VerificationError
from builder.measure import AcpiDigests, Measurer, PageOrder
from builder.measure.acpi.blobs import check_acpi
from builder.measure.dstack.names import OvmfVariant
from builder.measure.dstack.profile import (
    allowed_candidate,
    dstack_acpi,
    dstack_launch_profile,
    image_variant,
    measurement_events,
    measurement_registers,
    vmm_spec,
)
from builder.measure.dstack.vm_config import VmConfig, VmConfigDocument, vm_config_for
from builder.model.event import UnpredictedEvent
from builder.model.launch_profile import KernelForm
from tests.fakes.dstack_images import BOOT_FILES, image_files, image_of

OLD = vm_config_for(vcpus=2, memory=2 << 30, qemu_version="8.2.2")
NEW = vm_config_for(vcpus=1, memory=2 << 30, qemu_version="10.2.1")
IMAGE = image_of(image_files())
ACPI = AcpiDigests("11" * 48, "22" * 48, "33" * 48)


def document(config: VmConfig, *, os_image_hash: str | None = IMAGE.os_image_hash) -> VmConfigDocument:
    return VmConfigDocument(config, os_image_hash, None, is_lite=False, measurement=None, unused=())


def test_an_allowed_machine_with_the_image_is_a_candidate() -> None:
    assert allowed_candidate(document(OLD), os_image_hash=IMAGE.os_image_hash, allowed=[NEW, OLD]) == OLD


@pytest.mark.parametrize(
    ("claimed", "allowed", "message"),
    [
        (replace(OLD, nics=2), [NEW, OLD], "nics: found 2, wanted 1$"),
        (OLD, [], "no shape is allowed"),
        (replace(OLD, ovmf_variant=OvmfVariant.PRE202505), [OLD], "ovmf_variant"),
    ],
)
def test_another_machine_is_refused_with_what_differs(claimed: VmConfig, allowed: list[VmConfig], message: str) -> None:
    with pytest.raises(VerificationError, match=message) as error:
        allowed_candidate(document(claimed), os_image_hash=IMAGE.os_image_hash, allowed=allowed)
    assert error.value.status is ExitStatus.NOT_VERIFIED


@pytest.mark.parametrize("claimed", [None, "ab" * 32])
def test_another_image_is_refused(claimed: str | None) -> None:
    with pytest.raises(VerificationError, match="os_image_hash"):
        allowed_candidate(document(OLD, os_image_hash=claimed), os_image_hash=IMAGE.os_image_hash, allowed=[OLD])


def test_devices_stand_in_dstacks_order() -> None:
    devices = vmm_spec(replace(OLD, verity_volumes=2, nics=2, gpus=1, nvswitches=1)).devices
    assert [device.partition(",")[0] for device in devices] == [
        "virtio-blk-pci",
        "virtio-blk-pci",
        "virtio-blk-pci",
        "virtio-net-pci",
        "virtio-net-pci",
        "vhost-vsock-pci",
        "virtio-9p-pci",
        "virtio-blk-pci",
        "pcie-root-port",
        "vfio-pci",
        "pcie-root-port",
        "vfio-pci",
        "serial",
    ]
    assert devices[-3] == "pcie-root-port,id=pci.1,bus=pcie.0,chassis=1"


def test_gpus_of_a_machine_with_hugepages_sit_behind_an_expander() -> None:
    devices = vmm_spec(replace(OLD, gpus=1, nvswitches=1, hugepages=True)).devices
    assert "pxb-pcie,id=pcie.node0,bus=pcie.0,addr=10,numa_node=0,bus_nr=5" in devices
    assert "pcie-root-port,id=pci.0,bus=pcie.node0,chassis=0" in devices
    assert "pcie-root-port,id=pci.1,bus=pcie.0,chassis=1" in devices


def test_a_shared_disk_takes_the_place_of_9p() -> None:
    assert "virtio-blk-pci,drive=hd2" in vmm_spec(replace(OLD, host_share="vhd")).devices
    assert dstack_acpi(replace(OLD, host_share="vhd")) == dstack_acpi(OLD)


def test_the_machine_option_says_what_changes_the_tables() -> None:
    assert vmm_spec(OLD).machine == "q35,kernel-irqchip=split,hpet=off,smm=off,pic=on"
    assert vmm_spec(NEW).machine.endswith(",pic=off")
    assert dstack_acpi(replace(OLD, pic=False)).tables != dstack_acpi(OLD).tables


@pytest.mark.parametrize(
    "change", [{"vcpus": 3}, {"nics": 2}, {"verity_volumes": 1}, {"hotplug": False}, {"hugepages": True}]
)
def test_every_device_and_switch_changes_the_tables(change: dict[str, int]) -> None:
    changed = replace(OLD, **change)  # type: ignore[arg-type]
    blobs = dstack_acpi(changed)
    check_acpi(blobs, changed.vcpus)
    assert blobs.tables != dstack_acpi(OLD).tables


def test_gpus_behind_an_expander_are_refused() -> None:
    with pytest.raises(DocumentError, match="expander"):
        dstack_acpi(replace(OLD, gpus=1, hugepages=True, pci_hole64=1 << 44))


def test_the_profile_is_of_the_images_firmware_and_the_machines_versions() -> None:
    profile = dstack_launch_profile(IMAGE, OLD)
    assert (profile.firmware.edk2, profile.page_order, profile.kernel_form) == (
        "202502",
        PageOrder.TWO_PASS,
        KernelForm.PATCHED,
    )
    assert "kernel_form_unverified" not in profile.caveats
    assert (profile.vcpus, profile.memory, profile.vmm) == (2, 2 << 30, vmm_spec(OLD))


def test_a_stated_page_order_wins_over_the_version() -> None:
    single = replace(OLD, page_order=PageOrder.SINGLE_PASS)
    profile = dstack_launch_profile(IMAGE, single)
    assert profile.page_order is PageOrder.SINGLE_PASS
    assert "page_order_unverified" in profile.caveats
    assert "page_order_unverified" not in dstack_launch_profile(IMAGE, OLD).caveats


def test_which_kernel_a_newer_qemu_shows_to_this_firmware_is_not_certain() -> None:
    profile = dstack_launch_profile(IMAGE, NEW)
    assert profile.kernel_form is KernelForm.RAW
    assert profile.caveats.count("kernel_form_unverified") == 1


@pytest.mark.parametrize("config", [OLD, NEW])
def test_a_normalized_kernel_is_measured_as_it_is(config: VmConfig) -> None:
    profile = dstack_launch_profile(image_of(image_files(kernel_header_normalized=True)), config)
    assert profile.kernel_form is KernelForm.RAW
    assert profile.caveats.count("kernel_form_unverified") == 1


def test_an_image_that_does_not_name_its_firmware_needs_the_machine_to() -> None:
    silent = image_of(image_files(ovmf_variant=None))
    with pytest.raises(DocumentError, match="no ovmf_variant"):
        dstack_launch_profile(silent, OLD)
    named = replace(OLD, ovmf_variant=OvmfVariant.STABLE202505)
    assert dstack_launch_profile(silent, named).firmware.edk2 == "202505"


def test_a_machine_with_other_firmware_than_the_image_is_refused() -> None:
    with pytest.raises(DocumentError, match="the image says pre202505, the machine says stable202505"):
        dstack_launch_profile(IMAGE, replace(OLD, ovmf_variant=OvmfVariant.STABLE202505))


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("memory", [2 << 30, 3 << 30])
def test_the_document_predicts_what_the_image_predicts(memory: int, *, normalized: bool) -> None:
    image = image_of(image_files(kernel_header_normalized=normalized))
    config = replace(OLD, memory=memory)
    assert image.measurement is not None
    full = Measurer(BOOT_FILES).predict(dstack_launch_profile(image, config), ACPI)
    variable_store = next(event.digest for event in full.of_register("rtmr0") if event.name == "variable store")  # type: ignore[union-attr]
    lite = measurement_registers(image.measurement, config, acpi=ACPI, variable_store=variable_store)
    assert lite == full.registers
    assert lite.rtmr1 is not None


@pytest.mark.parametrize(
    ("config", "reason"), [(replace(OLD, memory=1 << 30), "other memory sizes"), (NEW, "serves the file")]
)
def test_a_kernel_that_the_document_does_not_state_is_not_predicted(config: VmConfig, reason: str) -> None:
    assert IMAGE.measurement is not None
    events = measurement_events(IMAGE.measurement, config, acpi=ACPI)
    (event,) = [each for each in events if isinstance(each, UnpredictedEvent)]
    assert (event.register, event.name) == ("rtmr1", "kernel")
    assert reason in event.reason
    registers = measurement_registers(IMAGE.measurement, config, acpi=ACPI)
    assert registers.rtmr1 is None
    assert None not in (registers.rtmr0, registers.rtmr2)


def test_a_document_of_other_firmware_is_refused() -> None:
    assert IMAGE.measurement is not None
    with pytest.raises(DocumentError, match="the measurement document says pre202505"):
        measurement_events(IMAGE.measurement, replace(OLD, ovmf_variant=OvmfVariant.STABLE202505), acpi=ACPI)


@pytest.mark.parametrize(
    ("edk2", "variant"),
    [
        ("202408", OvmfVariant.PRE202505),
        ("202504", OvmfVariant.PRE202505),
        ("202505", OvmfVariant.STABLE202505),
        ("202608", OvmfVariant.STABLE202505),
    ],
)
def test_the_release_of_the_firmware_has_a_layout(edk2: str, variant: OvmfVariant) -> None:
    silent = image_of(image_files(ovmf_variant=None)).metadata
    assert image_variant(silent, edk2=edk2) is variant
    assert image_variant(silent, variant, edk2=edk2) is variant


def test_a_known_release_leaves_no_doubt_about_the_kernel() -> None:
    """QEMU 10 serves the kernel file, which only firmware of 202502 and later asks for."""
    new = replace(OLD, qemu_version="10.0.2")
    assert "kernel_form_unverified" in dstack_launch_profile(IMAGE, new).caveats
    assert "kernel_form_unverified" not in dstack_launch_profile(IMAGE, new, edk2="202502").caveats
