"""Reference Values of one profile, consistent in themselves, of no real image."""

from builder.measure.rtmr import replay
from builder.model.event import EV_SEPARATOR, PredictedEvent
from builder.model.launch_profile import (
    BootOptions,
    CcMeasurement,
    FirmwareRules,
    InitrdArgument,
    KernelForm,
    LaunchProfile,
    PageOrder,
    SecureBootVariable,
)
from builder.model.recipe import VmmSpec
from builder.model.reference_values import AcpiDigests, Prediction, ReferenceValues, Registers

RULES = FirmwareRules(
    edk2="202502",
    acpi_measured=True,
    boot_separator_register="rtmr1",
    boot_variables_register="rtmr0",
    fw_cfg_events=False,
    boot_options=BootOptions.UI_APP,
    initrd_argument=InitrdArgument.SUFFIX,
    secure_boot_variable=SecureBootVariable.ABSENT,
    cc_measurement=CcMeasurement.PRESENT,
)


def sample_values() -> ReferenceValues:
    """One profile with one event a register."""
    profile = LaunchProfile(
        name="1cpu-1G",
        vmm=VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off", "host", ("serial",)),
        vcpus=1,
        memory=1 << 30,
        page_order=PageOrder.SINGLE_PASS,
        kernel_form=KernelForm.RAW,
        kernel_release="6.12",
        firmware=RULES,
        caveats=("page_order_unverified",),
    )
    events = tuple(
        PredictedEvent(register, EV_SEPARATOR, "separator", f"{number}" * 96, "constant")
        for number, register in enumerate(("rtmr0", "rtmr1", "rtmr2"))
    )
    mrtd = {PageOrder.SINGLE_PASS: "a" * 96, PageOrder.TWO_PASS: "b" * 96}
    replayed = replay(events)
    registers = Registers(mrtd[PageOrder.SINGLE_PASS], replayed["rtmr0"], replayed["rtmr1"], replayed["rtmr2"])
    acpi = AcpiDigests("1" * 96, "2" * 96, "3" * 96)
    return ReferenceValues(mrtd, (Prediction(profile, registers, events, acpi),))
