"""What is started, told from the files, and what follows for the registers: UKIs in a kernel's place, and disks."""

from dataclasses import replace

import pytest

from builder.encoding.canonical_json import encode_canonical, parse_json
from builder.errors import DocumentError
from builder.measure import Measurer, launch_profiles, parse_reference_values, reference_values_document
from builder.measure.boot.disk import image_event
from builder.measure.boot.gpt import gpt_event, parse_gpt
from builder.measure.boot.program import Loader, boot_program, loader_of
from builder.measure.boot.systemd_stub import UkiStart, uki_events
from builder.measure.firmware.build import SECURE_BOOT_CONFIG_DXE
from builder.measure.firmware.efi_variables import SecureBootKeys
from builder.measure.firmware.signature_database import CERT_X509
from builder.measure.firmware.volume import TD_TCG2_DXE
from builder.measure.images.uki import parse_uki
from builder.model.event import PredictedEvent, UnpredictedEvent
from builder.model.launch_profile import BootFiles, BootMethod, DiskFiles, KernelForm
from builder.model.recipe import VmmSpec
from builder.model.reference_values import AcpiDigests, Prediction, ReferenceValues
from tests.fakes.boot_files import DXE_CORE, SOME_FILE, Firmware, bzimage, ffs_file, volume
from tests.fakes.efi_images import Disk, Section, kernel, pe_image, reader, shim, uki
from tests.fakes.signed_images import signed_image, signer
from tests.fakes.variable_stores import signature_list

GIB = 1 << 30
FIRMWARE = Firmware().encode()
DISK = Disk()
TABLE = DISK.event()
VMM = VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off", "host", ("virtio-blk-pci,addr=0x4", "serial"))
ACPI = AcpiDigests("1" * 96, "2" * 96, "3" * 96)


def linux(release: bytes = b"6.12.1-test") -> bytes:
    """A kernel whose EFI stub says that its version is 1."""
    image = bzimage(release=release)
    return image[:0x84] + b"\1" + image[0x85:]


UKI = uki("257", Section(".cmdline", b"quiet"), Section(".initrd", b"initrd"), linux=linux())
MENU = pe_image([Section(".sdmagic", b"#### LoaderInfo: systemd-boot 257 ####\0")])
GRUB = pe_image([Section(".text", b"grub")])
SHIM = shim(b"", b"")


def uki_files(image: bytes = UKI, load_options: str = "") -> BootFiles:
    return BootFiles(FIRMWARE, image, None, load_options)


def disk_files(loader: bytes = UKI, **found: object) -> BootFiles:
    return BootFiles(FIRMWARE, loader, None, "", DiskFiles(TABLE, **found))  # type: ignore[arg-type]


def prediction(files: BootFiles, *, edk2: str = "202502", vmm: VmmSpec = VMM) -> Prediction:
    (profile,) = launch_profiles(files, vmm=vmm, edk2=edk2, shapes=[(1, GIB)])
    return Measurer(files).predict(profile, ACPI)


def names(predicted: Prediction, register: str) -> list[str]:
    return [event.name for event in predicted.of_register(register)]


def open_registers(predicted: Prediction) -> set[str]:
    return {event.register for event in predicted.unpredicted}


@pytest.mark.parametrize(
    ("image", "loader"),
    [(UKI, Loader.UKI), (MENU, Loader.SYSTEMD_BOOT), (SHIM, Loader.SHIM), (GRUB, Loader.OTHER)],
    ids=["uki", "systemd-boot", "shim", "grub"],
)
def test_loaders_are_told_apart(image: bytes, loader: Loader) -> None:
    assert loader_of(image) is loader


@pytest.mark.parametrize("image", [b"", b"MZ", b"\0" * 5000])
def test_what_is_no_program_is_no_loader(image: bytes) -> None:
    with pytest.raises(DocumentError):
        loader_of(image)


def test_methods_are_told_by_the_files() -> None:
    assert boot_program(BootFiles(FIRMWARE, bzimage(), None, "")).method is BootMethod.KERNEL
    assert boot_program(uki_files()).method is BootMethod.UKI
    assert boot_program(disk_files()).method is BootMethod.DISK


# a UKI in the place of a kernel


def test_a_uki_is_measured_as_it_is_and_its_stub_measures_the_rest() -> None:
    files = uki_files()
    predicted = prediction(files, vmm=replace(VMM, version="7.2.22"))
    events = [*predicted.of_register("rtmr1"), *predicted.of_register("rtmr2")]
    assert events[0] == image_event("UKI", UKI)
    assert set(uki_events(parse_uki(UKI), UkiStart(from_disk=False))) <= set(events)
    assert predicted.profile.kernel_form is KernelForm.RAW
    assert "kernel_form_unverified" not in predicted.profile.caveats
    assert not predicted.unpredicted


def test_the_profile_of_a_uki_states_its_kernel_and_the_caveats_of_its_stub() -> None:
    profile = prediction(uki_files()).profile
    assert (profile.boot, profile.kernel_release) == (BootMethod.UKI, "6.12.1-test")
    assert {"uki_stub_cc_unverified", "uki_files_beside_it"} <= set(profile.caveats)
    old = prediction(uki_files(uki("254", linux=linux(b"6.1.0")))).profile
    assert {"uki_stub_without_cc", "linux_stub_without_cc"} <= set(old.caveats)
    assert "linux_stub_unknown" in prediction(uki_files(uki("257"))).profile.caveats


def test_given_load_options_change_rtmr2_and_nothing_else() -> None:
    own, given = prediction(uki_files()).registers, prediction(uki_files(load_options="debug")).registers
    assert own.rtmr2 != given.rtmr2
    assert (own.mrtd, own.rtmr0, own.rtmr1) == (given.mrtd, given.rtmr0, given.rtmr1)


def test_a_uki_has_the_boot_variables_and_boot_order_of_a_kernel() -> None:
    kernel_boot = BootFiles(FIRMWARE, bzimage(), None, "quiet")
    for edk2 in ("202502", "202508"):
        as_kernel, as_uki = prediction(kernel_boot, edk2=edk2), prediction(uki_files(), edk2=edk2)
        assert as_kernel.of_register("rtmr0") == as_uki.of_register("rtmr0")


def test_an_initrd_beside_a_uki_is_refused_with_the_reason() -> None:
    with pytest.raises(DocumentError, match="given beside a UKI, which brings its own"):
        Measurer(replace(uki_files(), initrd=b"initrd"))


@pytest.mark.parametrize("image", [uki("251"), uki("263"), uki("").replace(b"LoaderInfo", b"LoaderIngo")])
def test_a_uki_whose_stub_no_rule_covers_is_refused(image: bytes) -> None:
    with pytest.raises(DocumentError, match="systemd-stub"):
        Measurer(uki_files(image))


@pytest.mark.parametrize("image", [kernel(), GRUB, MENU, b"kernel"])
def test_another_program_in_the_place_of_a_kernel_is_refused(image: bytes) -> None:
    with pytest.raises(DocumentError, match="kernel: "):
        Measurer(uki_files(image))


def test_a_profile_of_another_way_to_boot_is_refused() -> None:
    profile = replace(prediction(BootFiles(FIRMWARE, bzimage(), None, "")).profile, kernel_release="6.12.1-test")
    with pytest.raises(DocumentError, match="the VMM starts a kernel, the files say uki"):
        Measurer(uki_files()).predict(profile, ACPI)


# disks


def test_a_uki_on_a_disk_is_measured_behind_the_partition_table() -> None:
    predicted = prediction(disk_files())
    assert names(predicted, "rtmr1")[2:4] == ["GPT", "UKI"]
    assert gpt_event(parse_gpt(reader(DISK.encode()))) in predicted.events
    assert "kernel of the UKI" in names(predicted, "rtmr1")
    assert ".linux" in names(predicted, "rtmr2")
    assert (predicted.profile.boot, predicted.profile.kernel_release) == (BootMethod.DISK, "6.12.1-test")
    assert {"disk_as_given", "uki_stub_cc_unverified"} <= set(predicted.profile.caveats)


def test_boot_variables_stay_open_where_the_firmware_does_not_tell_of_a_shell() -> None:
    predicted = prediction(disk_files())
    assert open_registers(predicted) == {"rtmr0"}
    (event,) = predicted.unpredicted
    assert "whether it has a shell" in event.reason


def test_old_firmware_leaves_rtmr1_open_with_its_boot_variables() -> None:
    (profile,) = launch_profiles(disk_files(), vmm=VMM, edk2="202502", shapes=[(1, GIB)])
    old = replace(profile, firmware=replace(profile.firmware, boot_variables_register="rtmr1"))
    predicted = Measurer(disk_files()).predict(old, ACPI)
    assert (predicted.registers.rtmr1, open_registers(predicted)) == (None, {"rtmr1"})


def test_without_a_kernel_the_boot_order_of_the_vmm_is_empty_and_not_measured() -> None:
    assert "bootorder" not in names(prediction(disk_files(), edk2="202508"), "rtmr0")
    indexed = replace(VMM, devices=("virtio-blk-pci,bootindex=1",))
    assert "bootorder" in [event.name for event in prediction(disk_files(), edk2="202508", vmm=indexed).unpredicted]


def test_systemd_boot_starts_the_uki_that_is_given() -> None:
    predicted = prediction(disk_files(MENU, next_image=UKI))
    assert names(predicted, "rtmr1")[3:5] == ["systemd-boot", "UKI"]
    assert open_registers(predicted) == {"rtmr0"}
    assert "disk_menu_untouched" in predicted.profile.caveats
    assert predicted.registers.rtmr2 == prediction(disk_files()).registers.rtmr2


def test_a_menu_that_may_hand_on_a_command_line_leaves_rtmr2_open() -> None:
    old = pe_image([Section(".sdmagic", b"#### LoaderInfo: systemd-boot 254 ####\0")])
    assert "rtmr2" in open_registers(prediction(disk_files(old, next_image=UKI)))


@pytest.mark.parametrize(
    "files",
    [
        disk_files(GRUB),
        disk_files(MENU),
        disk_files(MENU, next_image=GRUB),
        disk_files(SHIM),
        disk_files(SHIM, next_image=GRUB),
        disk_files(uki("263")),
        disk_files(MENU.replace(b"boot 257", b"boot 300"), next_image=UKI),
    ],
    ids=["grub", "menu alone", "menu and grub", "shim alone", "shim and grub", "new stub", "new menu"],
)
def test_what_nobody_can_derive_leaves_both_registers_open(files: BootFiles) -> None:
    """Nothing of a chain is guessed, and what is known of it is still there."""
    predicted = prediction(files)
    assert {"rtmr1", "rtmr2"} <= open_registers(predicted)
    assert (predicted.registers.rtmr1, predicted.registers.rtmr2) == (None, None)
    assert predicted.registers.mrtd
    loaded = [event for event in predicted.of_register("rtmr1") if isinstance(event, PredictedEvent)]
    assert "EV_EFI_BOOT_SERVICES_APPLICATION" in [event.type_name for event in loaded]


def test_shim_leaves_rtmr0_open_and_states_its_lists() -> None:
    predicted = prediction(disk_files(SHIM, next_image=GRUB))
    assert "rtmr0" in open_registers(predicted)
    assert names(predicted, "rtmr2")[:3] == ["MokList", "MokListX", "MokListTrusted"]


def test_files_beside_a_uki_leave_rtmr2_open() -> None:
    predicted = prediction(disk_files(beside=("/loader/addons",)))
    (event,) = [each for each in predicted.unpredicted if each.register == "rtmr2"]
    assert isinstance(event, UnpredictedEvent)
    assert "/loader/addons" in event.reason


@pytest.mark.parametrize("change", [{"initrd": b"initrd"}, {"command_line": "quiet"}])
def test_what_a_disk_boot_cannot_take_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(DocumentError, match="disk: an initrd or a command line"):
        Measurer(replace(disk_files(), **change))  # type: ignore[arg-type]


def test_a_partition_table_that_is_none_is_refused() -> None:
    files = BootFiles(FIRMWARE, UKI, None, "", DiskFiles(TABLE[:-1]))
    with pytest.raises(DocumentError, match="GPT event"):
        prediction(files)


# secure boot

SIGNER = signer("signer")
DB = signature_list(CERT_X509, SIGNER.der)
ENFORCING = SecureBootKeys(pk=DB, db=DB)
SIGNED_UKI, SIGNED_MENU = signed_image(UKI, SIGNER), signed_image(MENU, SIGNER)


def secured(files: BootFiles, *, edk2: str = "202502") -> Prediction:
    """With a firmware that enforces secure boot with the key of the signer, and has no shell."""
    drivers = [ffs_file(name, b"driver") for name in (TD_TCG2_DXE, SECURE_BOOT_CONFIG_DXE)]
    content = volume([ffs_file(SOME_FILE, b"core", kind=DXE_CORE), *drivers])
    files = replace(files, firmware=Firmware(extra={0x2000: content}, filler=bytes(16)).encode())
    (profile,) = launch_profiles(files, vmm=VMM, edk2=edk2, shapes=[(1, GIB)], keys=ENFORCING)
    return Measurer(files, keys=ENFORCING).predict(profile, ACPI)


def test_who_vouches_for_a_uki_is_measured_where_the_firmware_loads_it() -> None:
    """In a kernel's place before it takes the boot option, from a disk afterwards."""
    as_kernel = names(secured(uki_files(SIGNED_UKI)), "rtmr0")
    assert as_kernel[-3:] == ["db", "BootOrder", "Boot0000"]
    on_disk = secured(disk_files(SIGNED_UKI))
    assert names(on_disk, "rtmr0")[-4:] == ["BootOrder", "Boot0000", "Boot0001", "db"]
    assert not on_disk.unpredicted


def test_a_key_that_vouches_for_menu_and_uki_is_measured_once() -> None:
    for both in ((SIGNED_MENU, SIGNED_UKI), (SIGNED_UKI, None)):
        predicted = secured(disk_files(both[0], next_image=both[1]))
        authorities = [event for event in predicted.events if event.type_name == "EV_EFI_VARIABLE_AUTHORITY"]
        assert len(authorities) == 1


@pytest.mark.parametrize(
    "files",
    [uki_files(), disk_files(), disk_files(SIGNED_MENU, next_image=UKI), disk_files(MENU, next_image=SIGNED_UKI)],
    ids=["uki", "disk", "uki of a menu", "menu"],
)
def test_a_program_that_nothing_vouches_for_is_refused(files: BootFiles) -> None:
    with pytest.raises(DocumentError, match="secure boot is on"):
        secured(files)


def test_a_stub_under_secure_boot_starts_its_kernel_unmeasured() -> None:
    assert "kernel of the UKI" in names(prediction(disk_files()), "rtmr1")
    assert "kernel of the UKI" not in names(secured(disk_files(SIGNED_UKI)), "rtmr1")


def test_the_document_says_how_is_booted_and_gives_the_values_back() -> None:
    for files in (uki_files(), disk_files(SHIM, next_image=GRUB), disk_files()):
        predicted = prediction(files)
        values = ReferenceValues(Measurer(files).mrtd, (predicted,))
        document = parse_json(encode_canonical(reference_values_document(values)), what="document")
        assert document["profiles"][0]["launch"]["boot"] == predicted.profile.boot
        assert parse_reference_values(document, what="document") == values
        del document["profiles"][0]["launch"]["boot"]
        with pytest.raises(DocumentError, match="boot"):
            parse_reference_values(document, what="document")
