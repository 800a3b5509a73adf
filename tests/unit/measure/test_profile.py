"""Which rules follow from versions and files, and which caveats say how well they are known."""

import dataclasses

import pytest

from builder.errors import DocumentError
from builder.measure import CAVEATS, BootFiles, CcMeasurement, KernelForm, PageOrder, SecureBootVariable
from builder.measure.firmware.edk2 import NEWEST
from builder.measure.profile import firmware_rules, kernel_form_for, launch_profiles, parse_version, vmm_rules
from builder.model.launch_profile import (
    BootOptions,
    FirmwareRules,
    InitrdArgument,
    LaunchProfile,
    launch_profile_document,
    parse_launch_profile,
)
from builder.model.recipe import VmmSpec
from tests.fakes.boot_files import Firmware, bzimage

FILES = BootFiles(Firmware().encode(), bzimage(), b"initrd", "console=ttyS0")
VMM = VmmSpec("qemu", "10.2.1", "q35,smm=off,pic=off", "Skylake-Server,phys-bits=46", ())
GIB = 1 << 30


def rules(edk2: str, cc_measurement: CcMeasurement = CcMeasurement.PRESENT) -> FirmwareRules:
    return firmware_rules(edk2, secure_boot_variable=SecureBootVariable.ABSENT, cc_measurement=cc_measurement)


def profile(*, files: BootFiles = FILES, vmm: VmmSpec = VMM, edk2: str = "202502") -> LaunchProfile:
    (only,) = launch_profiles(files, vmm=vmm, edk2=edk2, shapes=[(2, 2 * GIB)])
    return only


@pytest.mark.parametrize(
    ("edk2", "acpi", "separator", "fw_cfg", "options", "argument"),
    [
        ("202211", False, "rtmr0", False, BootOptions.UI_APP, InitrdArgument.SUFFIX),
        ("202302", True, "rtmr0", False, BootOptions.UI_APP, InitrdArgument.SUFFIX),
        ("202408", True, "rtmr0", False, BootOptions.UI_APP, InitrdArgument.SUFFIX),
        ("202411", True, "rtmr1", False, BootOptions.UI_APP, InitrdArgument.SUFFIX),
        ("202502", True, "rtmr1", False, BootOptions.UI_APP, InitrdArgument.SUFFIX),
        ("202505", True, "rtmr1", True, BootOptions.BOOT_MANAGER_MENU_APP, InitrdArgument.SUFFIX),
        ("202508", True, "rtmr1", True, BootOptions.BOOT_MANAGER_MENU_APP, InitrdArgument.PREFIX),
        ("202605", True, "rtmr1", True, BootOptions.BOOT_MANAGER_MENU_APP, InitrdArgument.PREFIX),
    ],
)
def test_the_columns_follow_the_edk2_tag(
    edk2: str, acpi: bool, separator: str, fw_cfg: bool, options: BootOptions, argument: InitrdArgument
) -> None:
    found = rules(edk2)
    assert (found.acpi_measured, found.boot_separator_register, found.fw_cfg_events) == (acpi, separator, fw_cfg)
    assert (found.boot_options, found.initrd_argument) == (options, argument)


def test_the_first_tdx_driver_put_boot_variables_elsewhere() -> None:
    assert rules("202211").boot_variables_register == "rtmr1"
    assert rules("202302").boot_variables_register == "rtmr0"
    assert rules("202211", CcMeasurement.ABSENT).boot_variables_register == "rtmr0"


@pytest.mark.parametrize("edk2", ["", "2025", "202513", "202500", "edk2-stable202502", "202502\n", "199902", "202501"])
def test_what_is_no_edk2_tag_is_refused(edk2: str) -> None:
    with pytest.raises(DocumentError, match="not of the form YYYYMM"):
        rules(edk2)


def test_a_release_that_nobody_has_looked_at_is_refused() -> None:
    assert rules(NEWEST).edk2 == NEWEST
    with pytest.raises(DocumentError, match=f"the newest release whose rules are known is {NEWEST}"):
        rules("209911")


@pytest.mark.parametrize(
    ("version", "page_order", "pic"),
    [
        ("7.2.22", PageOrder.SINGLE_PASS, True),
        ("8.0.0", PageOrder.TWO_PASS, True),
        ("8.2.2", PageOrder.TWO_PASS, True),
        ("9.0.0", PageOrder.SINGLE_PASS, False),
        ("9.2.1", PageOrder.SINGLE_PASS, False),
        ("10.0.2", PageOrder.SINGLE_PASS, False),
        ("11.1.3", PageOrder.SINGLE_PASS, False),
    ],
)
def test_page_order_and_pic_follow_the_vmm(version: str, page_order: PageOrder, pic: bool) -> None:
    assert (vmm_rules(version).page_order, vmm_rules(version).pic) == (page_order, pic)


def test_only_the_page_order_of_8_2_is_confirmed() -> None:
    confirmed = [
        version
        for version in ("7.2.22", "8.1.0", "8.2.0", "8.2.2", "9.0.0", "10.2.1", "11.1.3")
        if "page_order_unverified" not in vmm_rules(version).caveats
    ]
    assert confirmed == ["8.2.0", "8.2.2"]


@pytest.mark.parametrize("version", ["7.1.9", "0.0.0", "6.2.0"])
def test_older_vmms_are_refused(version: str) -> None:
    with pytest.raises(DocumentError, match=r"before 7\.2\.0"):
        vmm_rules(version)


@pytest.mark.parametrize("text", ["", "10.0", "10.0.0-rc1", "10.0.0.1", "v10.0.0", "010.0.0", "10.0.0\n", "10.0.x"])
def test_a_version_is_three_numbers(text: str) -> None:
    with pytest.raises(DocumentError, match="three decimal numbers"):
        parse_version(text)


@pytest.mark.parametrize(
    ("vmm", "edk2", "form", "confirmed"),
    [
        ("7.2.22", "202211", KernelForm.PATCHED, True),
        ("7.2.22", "202502", KernelForm.PATCHED, True),
        ("8.2.2", "202502", KernelForm.PATCHED, True),
        ("9.2.1", "202502", KernelForm.PATCHED, False),
        ("10.0.13", "202211", KernelForm.PATCHED, True),
        ("10.1.0", "202411", KernelForm.PATCHED, True),
        ("10.0.13", "202502", KernelForm.RAW, True),
        ("11.1.3", "202502", KernelForm.RAW, True),
        ("10.2.0", "202411", KernelForm.RAW, False),
    ],
)
def test_it_takes_both_versions_to_know_the_kernel_form(vmm: str, edk2: str, form: KernelForm, confirmed: bool) -> None:
    assert kernel_form_for(vmm, edk2) == (form, confirmed)


def test_shapes_get_names_and_all_share_the_rules() -> None:
    shapes = [(1, 2 * GIB), (2, 2 * GIB), (64, 512 << 20)]
    profiles = launch_profiles(FILES, vmm=VMM, edk2="202502", shapes=shapes)
    assert [each.name for each in profiles] == ["1cpu-2G", "2cpu-2G", "64cpu-512M"]
    assert [(each.vcpus, each.memory) for each in profiles] == shapes
    assert len({(each.firmware, each.vmm, each.caveats) for each in profiles}) == 1


@pytest.mark.parametrize("shape", [(0, GIB), (4097, GIB), (-1, GIB), (1, GIB + 1)])
def test_impossible_shapes_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(DocumentError):
        launch_profiles(FILES, vmm=VMM, edk2="202502", shapes=[shape])


def test_every_caveat_has_its_text() -> None:
    every = set(
        profile(vmm=dataclasses.replace(VMM, version="7.2.22", machine="q35")).caveats
        + profile(vmm=dataclasses.replace(VMM, version="9.2.1")).caveats
    )
    assert every
    assert every <= set(CAVEATS)
    assert all(text.endswith(".") for text in CAVEATS.values())


def test_a_firmware_of_which_nothing_is_known_gets_its_caveats() -> None:
    caveats = profile().caveats
    assert "cc_measurement_unknown" in caveats
    assert "secure_boot_variable_assumed" in caveats


def test_a_stated_secure_boot_variable_is_not_assumed() -> None:
    (stated,) = launch_profiles(
        FILES, vmm=VMM, edk2="202502", shapes=[(1, GIB)], secure_boot_variable=SecureBootVariable.DISABLED
    )
    assert stated.firmware.secure_boot_variable is SecureBootVariable.DISABLED
    assert "secure_boot_variable_assumed" not in stated.caveats


@pytest.mark.parametrize(
    ("release", "caveat"),
    [
        (b"6.1.0-18-amd64", "linux_stub_without_cc"),
        (b"6.8.12", "linux_stub_without_cc"),
        (b"5.15.0", "linux_stub_without_cc"),
        (b"6.9.0", None),
        (b"6.12.1", None),
        (b"7.0.0", None),
        (b"mine", "linux_stub_unknown"),
    ],
)
def test_the_kernels_release_decides_what_is_said_of_its_stub(release: bytes, caveat: str | None) -> None:
    files = dataclasses.replace(FILES, kernel=bzimage(release=release))
    found = [each for each in profile(files=files).caveats if each.startswith("linux_stub")]
    assert found == ([caveat] if caveat else [])


@pytest.mark.parametrize(
    ("machine", "open_question"),
    [
        ("q35", True),
        ("q35,smm=off", True),
        ("q35,pic=off", True),
        ("q35,pic=off,smm=off", False),
        ("q35,xpic=off", True),
    ],
)
def test_a_machine_that_leaves_pic_or_smm_open_is_reported(machine: str, open_question: bool) -> None:
    caveats = profile(vmm=dataclasses.replace(VMM, machine=machine)).caveats
    assert ("machine_defaults" in caveats) is open_question


def test_an_upstream_vmm_without_tdx_is_reported() -> None:
    versions = {version: dataclasses.replace(VMM, version=version) for version in ("7.2.22", "10.0.13", "10.1.0")}
    reported = [version for version, vmm in versions.items() if "vmm_without_tdx" in profile(vmm=vmm).caveats]
    assert reported == ["7.2.22", "10.0.13"]


def test_a_profile_survives_its_document() -> None:
    document = launch_profile_document(profile())
    assert parse_launch_profile(document) == profile()


def test_what_is_known_of_debians_firmware_is_not_taken_for_another_of_the_same_tag() -> None:
    found = profile(edk2="202211")
    assert found.firmware.secure_boot_variable is SecureBootVariable.ABSENT
    assert "secure_boot_variable_assumed" in found.caveats
