"""From a dstack machine and image to what Measurer takes, and predictions from an image's document alone.

A VmConfig that came with a quote is a claim (`vm_config`): pass it through `allowed_candidate` first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from builder.errors import DocumentError, VerificationError
from builder.measure.acpi.blobs import AcpiBlobs
from builder.measure.acpi.generator import generate_acpi
from builder.measure.acpi.machine import dstack_machine
from builder.measure.boot.direct import rtmr0_events, rtmr1_events, rtmr2_events
from builder.measure.dstack.image import DstackImage, ImageMetadata, stated_variant
from builder.measure.dstack.measurement import TdxMeasurement
from builder.measure.dstack.names import OvmfVariant, ovmf_variant_of
from builder.measure.dstack.vm_config import VmConfig, VmConfigDocument, checked_qemu_version, shape_differences
from builder.measure.profile import firmware_rules, kernel_form_for, launch_profiles
from builder.measure.rtmr import registers_of
from builder.model.event import EV_EFI_BOOT_SERVICES_APPLICATION, ExpectedEvent, UnpredictedEvent
from builder.model.launch_profile import CcMeasurement, KernelForm, LaunchProfile, SecureBootVariable
from builder.model.recipe import VmmSpec
from builder.model.reference_values import AcpiDigests, Registers

# The empty 4 MiB variable store, which every dstack firmware seen has; no measurement document states it.
VARIABLE_STORE = "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790"
_CPU = "Skylake-Server,phys-bits=46"  # what the ACPI tables are read with; the guest has its host's model
_FIRST_WITH_KERNEL_FILE = (10, 0, 0)
_UNVERIFIED_KERNEL = "kernel_form_unverified"


def allowed_candidate(document: VmConfigDocument, *, os_image_hash: str, allowed: Sequence[VmConfig]) -> VmConfig:
    """The machine that the sender claims, if it is one of those the verifier allows, running the verifier's image.

    VerificationError otherwise, with what differs from the most similar one. Nothing else in the document is believed.
    """
    if document.os_image_hash != os_image_hash:
        raise VerificationError(
            f"VmConfig: os_image_hash {document.os_image_hash}, wanted {os_image_hash}",
            hint="the TD claims to run another image",
        )
    differences = [shape_differences(document.config, config) for config in allowed]
    closest = min(differences, key=len, default=("no shape is allowed",))
    if closest:
        raise VerificationError(
            f"VmConfig: a machine that is not allowed: {'; '.join(closest)}", hint="allow this shape if it is yours"
        )
    return document.config


def vmm_spec(config: VmConfig) -> VmmSpec:
    """The machine as QEMU's options; devices in dstack's order (`acpi.md` 7), which decides their slots."""
    return VmmSpec(
        name="qemu",
        version=config.qemu_version,
        machine=f"q35,kernel-irqchip=split,hpet=off,smm=off,pic={'on' if config.pic else 'off'}",
        cpu=_CPU,
        devices=tuple(_devices(config)),
        pci_hole64=config.pci_hole64,
        bridge_hotplug=config.hotplug,
        numa_nodes=int(config.hugepages),
    )


def dstack_acpi(config: VmConfig) -> AcpiBlobs:
    """The generated ACPI blobs; DocumentError for machines that no rule covers, such as GPUs behind a PCI expander."""
    return generate_acpi(
        dstack_machine(
            config.qemu_version,
            vcpus=config.vcpus,
            memory=config.memory,
            nics=config.nics,
            verity_volumes=config.verity_volumes,
            gpus=config.gpus,
            nvswitches=config.nvswitches,
            hugepages=config.hugepages,
            hotplug_off=not config.hotplug,
            pic=config.pic,
            pci_hole64=config.pci_hole64,
        )
    )


def dstack_launch_profile(image: DstackImage, config: VmConfig, *, edk2: str | None = None) -> LaunchProfile:
    """The profile of one machine running the image; `edk2` is the firmware's release (`202502`) where it is known.

    DocumentError for an image whose firmware generation is not known or not the machine's, and for whatever
    `launch_profiles` refuses.
    """
    variant = image_variant(image.metadata, config.ovmf_variant, edk2=edk2)
    (profile,) = launch_profiles(
        image.files,
        vmm=vmm_spec(config),
        edk2=variant.edk2 if edk2 is None else edk2,
        shapes=[(config.vcpus, config.memory)],
        secure_boot_variable=SecureBootVariable.ABSENT,
    )
    if config.page_order is not profile.page_order:  # the machine's word against the rule of its QEMU version
        profile = replace(profile, page_order=config.page_order, caveats=_with(profile, "page_order_unverified"))
    if image.metadata.kernel_header_normalized:
        return replace(profile, kernel_form=KernelForm.RAW, caveats=_with(profile, _UNVERIFIED_KERNEL))
    # "pre202505" firmware is of 2024-09 or of 202502, and QEMU 10 tells them apart (`measurement.md` 6.2)
    of_two = edk2 is None and variant is OvmfVariant.PRE202505
    if of_two and checked_qemu_version(config.qemu_version) >= _FIRST_WITH_KERNEL_FILE:
        return replace(profile, caveats=_with(profile, _UNVERIFIED_KERNEL))
    return profile


def image_variant(
    metadata: ImageMetadata, claimed: OvmfVariant | None = None, *, edk2: str | None = None
) -> OvmfVariant:
    """The firmware's event layout: what the image, the machine and whoever asks say of it, which has to be the same."""
    known = None if edk2 is None else ovmf_variant_of(edk2)
    said = {"the image": metadata.ovmf_variant, "the machine": claimed, f"edk2 {edk2}": known}
    if len({variant for variant in said.values() if variant is not None}) > 1:
        words = ", ".join(f"{who} says {variant}" for who, variant in said.items() if variant is not None)
        raise DocumentError(f"OVMF variant: {words}", hint="one of them is about another image")
    return claimed or known or stated_variant(metadata)


def measurement_events(
    measurement: TdxMeasurement, config: VmConfig, *, acpi: AcpiDigests, variable_store: str = VARIABLE_STORE
) -> tuple[ExpectedEvent, ...]:
    """The events of RTMR[0..2] from an image's TDX document, without the image.

    The kernel's is an UnpredictedEvent where the document's digest does not hold: for other memory sizes, and for a
    QEMU that serves the kernel file as it is. That the firmware extends RTMRs at all is taken for granted, as dstack's
    does. DocumentError where `config` names another firmware generation.
    """
    variant = measurement.ovmf_variant
    if config.ovmf_variant not in (None, variant):
        raise DocumentError(f"VmConfig: OVMF variant {config.ovmf_variant}, the measurement document says {variant}")
    rules = firmware_rules(
        variant.edk2, secure_boot_variable=SecureBootVariable.ABSENT, cc_measurement=CcMeasurement.PRESENT
    )
    rtmr1 = rtmr1_events(rules, kernel=measurement.kernel, kernel_form=_form(measurement))
    reason = _kernel_reason(measurement, config)
    return (
        *rtmr0_events(rules, td_hob=measurement.td_hob(config.memory), variable_store=variable_store, acpi=acpi),
        *(_unpredicted(event, reason) if reason and _is_kernel(event) else event for event in rtmr1),
        *rtmr2_events(load_options=measurement.load_options, initrd=measurement.initrd),
    )


def measurement_registers(
    measurement: TdxMeasurement, config: VmConfig, *, acpi: AcpiDigests, variable_store: str = VARIABLE_STORE
) -> Registers:
    """MRTD in the machine's page order, and the registers of `measurement_events`."""
    events = measurement_events(measurement, config, acpi=acpi, variable_store=variable_store)
    return registers_of(measurement.mrtd[config.page_order], events)


def _devices(config: VmConfig) -> Iterator[str]:
    yield "virtio-blk-pci,drive=hd1"
    yield from (f"virtio-blk-pci,drive=vol{number}" for number in range(config.verity_volumes))
    yield from (f"virtio-net-pci,netdev=net{number}" for number in range(config.nics))
    yield "vhost-vsock-pci,guest-cid=3"
    yield (
        "virtio-9p-pci,fsdev=virtfs0,mount_tag=host-shared"
        if config.host_share == "9p"
        else ("virtio-blk-pci,drive=hd2")
    )
    yield "virtio-blk-pci,drive=hd0"
    bus = "pcie.0"
    if config.gpus and config.hugepages:
        yield "pxb-pcie,id=pcie.node0,bus=pcie.0,addr=10,numa_node=0,bus_nr=5"
        bus = "pcie.node0"
    for port in range(config.gpus + config.nvswitches):
        yield f"pcie-root-port,id=pci.{port},bus={bus if port < config.gpus else 'pcie.0'},chassis={port}"
        yield f"vfio-pci,bus=pci.{port}"
    yield "serial"


def _with(profile: LaunchProfile, caveat: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*profile.caveats, caveat)))


def _form(measurement: TdxMeasurement) -> KernelForm:
    return KernelForm.RAW if measurement.kernel_header_normalized else KernelForm.PATCHED


def _kernel_reason(measurement: TdxMeasurement, config: VmConfig) -> str | None:
    """Why the document's kernel digest is not this machine's; None if it is."""
    if not measurement.covers_memory(config.memory):
        return f"the document states the kernel of other memory sizes than {config.memory} bytes"
    form, _ = kernel_form_for(config.qemu_version, measurement.ovmf_variant.edk2)
    if form is KernelForm.RAW and not measurement.kernel_header_normalized:
        return f"the document states the kernel that older QEMUs rewrote; QEMU {config.qemu_version} serves the file"
    return None


def _is_kernel(event: ExpectedEvent) -> bool:
    return event.event_type == EV_EFI_BOOT_SERVICES_APPLICATION


def _unpredicted(event: ExpectedEvent, reason: str) -> UnpredictedEvent:
    return UnpredictedEvent(event.register, event.event_type, event.name, reason)
