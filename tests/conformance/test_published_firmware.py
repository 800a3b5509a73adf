"""Firmware files and what is measured of them, against published values and real TDs (`measurement.md` 3, 5, 7)."""

import hashlib
import json
from pathlib import Path

import pytest

from builder.measure import (
    AcpiDigests,
    BootFiles,
    CcMeasurement,
    KernelForm,
    Measurer,
    PageOrder,
    SecureBootVariable,
    cc_measurement_of,
    encode_load_options,
    launch_profiles,
    mrtd_for,
    parse_ccel,
    parse_tdvf,
)
from builder.measure.firmware.efi_variables import (
    boot_variable_digest,
    boot_variables,
    secure_boot_variables,
    variable_digest,
)
from builder.measure.firmware.tdvf import SectionType
from builder.model.digest import sha384_hex
from builder.model.launch_profile import BootOptions, InitrdArgument
from builder.model.recipe import VmmSpec
from tests.fakes.boot_files import Firmware, bzimage
from tests.fakes.section_layouts import MIB, VIRTEE

COVERS = (VIRTEE, "expected_registers.json", "tdhob/oasis_subset.json", "pairs/qemu-direct-2g/ccel.bin")

# `measurement.md` 3.4: SHA-256 of the file -> single pass, two pass; three independent programs agree
MRTD = {
    "7b456907dd0786d415999e801a1ac4637b8ed4d7cf5378cfc6edbe5e574dd773": (  # Debian 12
        "4c7206f0f483c524f12c366c711e9049030a8d47c471ee5aa9c4999a08de4057fb887fed0744d5631a212967fb231c47",
        "acccbcc870a381adab0d3919d90a7f268ac3b0364771f202ed4bb4e892d045b33db3b32e6924cba830a724eed443f7e1",
    ),
    "14954040cc754ade0c625ac3470ea46d4c14318b5b1396de4ef77090203d76db": (  # Debian 13
        "bdc6fb145880f06f30c8b346b8dce2a99d9351b56892df22f80fcf6574caa9f9c31df8e8576d53b4d0cd1c3f28910e11",
        "456f07902150d008bb913c3e1e84e9297f735a6c83cd2a957a1f0a8bbedb06df188e3837ae48d32c73d473d097dc0db2",
    ),
    "11fe83527f079a4d8e25bca4fe66ea0bfd0cc4bda7ed462bf1d9f6fa6d181244": (  # virtee
        "88c63708f207ab01a46b4d9424ea92ab11f8826be30d208afbb58f174f2a19cdcfafb2b12a6a2c98be0740b808894d55",
        "307c9a6831bdd6e6f56d9305f9598d238d42e864a9144f11c0a46ee42e62ed81eb9845511a80fa77b200743d85d977e3",
    ),
}

# `measurement.md` 5.3: an empty variable store
EMPTY_STORE_2M = "f87302177b059d54a2cf0c5f13340dbabf5c9dd60dc3f996c68b776fbe4de959769443a3d8ef6538b97d7e151c8298e8"


def known_mrtd(firmware: bytes) -> tuple[str, str]:
    digest = hashlib.sha256(firmware).hexdigest()
    if digest not in MRTD:
        pytest.skip(f"no published MRTD for the firmware with SHA-256 {digest}")
    return MRTD[digest]


def test_mrtd_of_the_vectors_firmware(vectors: Path) -> None:
    firmware = (vectors / VIRTEE).read_bytes()
    found = tuple(mrtd_for(firmware, order).hex() for order in (PageOrder.SINGLE_PASS, PageOrder.TWO_PASS))
    assert found == known_mrtd(firmware)


def test_mrtd_of_debians_firmware(debian_ovmf: bytes) -> None:
    found = tuple(mrtd_for(debian_ovmf, order).hex() for order in (PageOrder.SINGLE_PASS, PageOrder.TWO_PASS))
    assert found == known_mrtd(debian_ovmf)


def test_the_published_mrtds_are_those_of_the_vectors(vectors: Path) -> None:
    document = json.loads((vectors / "expected_registers.json").read_text())
    for entry in document["firmware_mrtd"].values():
        assert MRTD[entry["sha256"]] == (entry["single_pass"], entry["two_pass"])


def test_a_firmware_for_tdx_has_the_measuring_driver(vectors: Path) -> None:
    assert cc_measurement_of((vectors / VIRTEE).read_bytes()) is CcMeasurement.PRESENT


def test_debian_12s_firmware_has_no_measuring_driver_and_the_profile_says_so(debian_ovmf: bytes) -> None:
    known_mrtd(debian_ovmf)
    if hashlib.sha256(debian_ovmf).hexdigest() != next(iter(MRTD)):
        pytest.skip("the firmware is not Debian 12's")
    files = BootFiles(debian_ovmf, bzimage(), None, "")
    vmm = VmmSpec("qemu", "7.2.22", "q35", "cpu", ())
    (profile,) = launch_profiles(files, vmm=vmm, edk2="202211", shapes=[(1, 1024 * MIB)])
    assert profile.firmware.cc_measurement is CcMeasurement.ABSENT
    assert profile.firmware.secure_boot_variable is SecureBootVariable.DISABLED
    assert "cc_measurement_absent" in profile.caveats
    registers = Measurer(files).predict(profile, AcpiDigests(*("ab" * 48,) * 3)).registers
    assert "00" * 48 not in (registers.rtmr0, registers.rtmr1, registers.rtmr2)


def test_an_empty_variable_store_of_2_mib_firmware(vectors: Path) -> None:
    firmware = (vectors / VIRTEE).read_bytes()
    (store,) = parse_tdvf(firmware).of_type(SectionType.CFV)
    assert sha384_hex(store.data(firmware)) == EMPTY_STORE_2M


# `measurement.md` 5.4 and 5.9
VARIABLES = {
    "PK": "6f2e3cbc14f9def86980f5f66fd85e99d63e69a73014ed8a5633ce56eca5b64b692108c56110e22acadcef58c3250f1b",
    "KEK": "d607c0efb41c0d757d69bca0615c3a9ac0b1db06c557d992e906c6b7dee40e0e031640c7bfd7bcd35844ef9edeadc6f9",
    "db": "08a74f8963b337acb6c93682f934496373679dd26af1089cb4eaf0c30cf260a12e814856385ab8843e56a9acea19e127",
    "dbx": "18cc6e01f0c6ea99aa23f8a280423e94ad81d96d0aeb5180504fc0f7a40cb3619dd39bd6a95ec1680a86ed6ab0f9828d",
}
SECURE_BOOT = {
    SecureBootVariable.ABSENT: (
        "9dc3a1f80bcec915391dcda5ffbb15e7419f77eab462bbf72b42166fb70d50325e37b36f93537a863769bcf9bedae6fb"
    ),
    SecureBootVariable.DISABLED: (
        "cfa4e2c606f572627bf06d5669cc2ab1128358d27b45bc63ee9ea56ec109cfafb7194006f847a6a74b5eaed6b73332ec"
    ),
    SecureBootVariable.ENABLED: (
        "2cded0c6f453d4c6f59c5e14ec61abc6b018314540a2367cba326a52aa2b315ccc08ce68a816ce09c6ef2ac7e514ae1f"
    ),
}
BOOT = {
    BootOptions.UI_APP: {
        "BootOrder": "1dd6f7b457ad880d840d41c961283bab688e94e4b59359ea45686581e90feccea3c624b1226113f824f315eb60ae0a7c",
        "Boot0000": "23ada07f5261f12f34a0bd8e46760962d6b4d576a416f1fea1c64bc656b1d28eacf7047ae6e967c58fd2a98bfa74c298",
    },
    BootOptions.BOOT_MANAGER_MENU_APP: {
        "BootOrder": "52b9a02de946b947364b57d8210c63113b9058996e2a3ba7cead54af11ae0873b085d1e52bc01e4febe57ca05ca1332b",
        "Boot0000": "5068e6a9ded2a1c3a8ebb5d26004410ea8670742d8f444c5c3d161b76c66fa23a7b1d2fb3f9840570b675384b5818f2d",
        "Boot0001": "dd424f2eeb35f3e8a2c2f50f6cc87ff90b7577e92ce63e13a22869d07d104fd5ea9800e6e4f12c5058fc4eaa78374f20",
    },
}


@pytest.mark.parametrize("setting", SecureBootVariable)
def test_secure_boot_variables(setting: SecureBootVariable) -> None:
    found = {variable.name: variable_digest(variable).hex() for variable in secure_boot_variables(setting)}
    assert found == {"SecureBoot": SECURE_BOOT[setting], **VARIABLES}


@pytest.mark.parametrize("options", BootOptions)
def test_boot_variables(options: BootOptions) -> None:
    found = {variable.name: boot_variable_digest(variable).hex() for variable in boot_variables(options)}
    assert found == BOOT[options]


def test_load_options(vectors: Path) -> None:
    assert sha384_hex(encode_load_options("foo bar", None)) == (
        "ae062a0d46d7899081d8068d40d5035c134c77f789c7f894c4b5d92297731bbe53b41b7868edb686ba85757a9e12c5bf"
    )
    assert sha384_hex(encode_load_options("", None)).startswith("1dd6f7b457ad880d")
    (published,) = json.loads((vectors / "tdhob/oasis_subset.json").read_text())["cmdline"]
    forms = [None, InitrdArgument.SUFFIX, InitrdArgument.PREFIX]
    digests = [sha384_hex(encode_load_options(published["cmdline"], form)) for form in forms]
    assert published["sha384"] in digests


def test_a_whole_g2_boot_has_the_event_layout_of_a_real_log(vectors: Path) -> None:
    """Types and order of all three registers, and every digest that depends on no file, equal a real TD's."""
    log = [event for event in parse_ccel((vectors / "pairs/qemu-direct-2g/ccel.bin").read_bytes()) if event.register]
    files = BootFiles(Firmware().encode(), bzimage(), b"initrd", "quiet")  # the real ones are not to be had
    vmm = VmmSpec("qemu", "10.2.1", "q35,smm=off,pic=off", "cpu", ())
    (profile,) = launch_profiles(files, vmm=vmm, edk2="202502", shapes=[(2, 2048 * MIB)])
    assert profile.kernel_form is KernelForm.RAW
    predicted = Measurer(files).predict(profile, AcpiDigests(*("ab" * 48,) * 3)).events
    files_decide = {"TD HOB", "variable store", "kernel", "LOADED_IMAGE::LoadOptions", "Linux initrd"}
    for register in ("rtmr0", "rtmr1", "rtmr2"):
        ours = [event for event in predicted if event.register == register]
        theirs = [event for event in log if event.register == register]
        assert [event.event_type for event in ours] == [event.event_type for event in theirs]
        for mine, real in zip(ours, theirs, strict=True):
            if mine.name not in files_decide and not mine.name.startswith("etc/"):
                assert mine.digest == real.digest, mine.name
