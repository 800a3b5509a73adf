"""Secure boot out of a firmware file. The verdicts are those of emulated boots of Debian's OVMF."""

import dataclasses
from collections.abc import Sequence

import pytest

from builder.errors import DocumentError
from builder.measure import AcpiDigests, BootFiles, LaunchProfile, Measurer, Prediction, launch_profiles
from builder.measure.firmware.build import SECURE_BOOT_CONFIG_DXE, firmware_build
from builder.measure.firmware.efi_variables import (
    EFI_GLOBAL_VARIABLE,
    EFI_IMAGE_SECURITY_DATABASE,
    EFI_SECURE_BOOT_ENABLE,
    EfiVariable,
    SecureBootKeys,
    secure_boot_keys,
    secure_boot_setting,
    variable_digest,
)
from builder.measure.firmware.signature_database import CERT_X509, SignatureEntry
from builder.measure.firmware.state import secure_boot_of
from builder.model.event import EV_EFI_VARIABLE_AUTHORITY, PredictedEvent, UnpredictedEvent
from builder.model.launch_profile import FirmwareRules, SecureBootVariable
from builder.model.recipe import VmmSpec
from tests.fakes.boot_files import DXE_CORE, SOME_FILE, Firmware, bzimage, ffs_file, volume
from tests.fakes.signed_images import signed_image, signer
from tests.fakes.variable_stores import GONE, OWNER, Store, key_variables, signature_list, store_of

VENDOR = signer("vendor")
SIGNED = signed_image(bzimage(), VENDOR)
KEYS = key_variables(pk=b"PK", kek=b"KEK", db=signature_list(CERT_X509, VENDOR.der), dbx=b"")
ENABLE, DISABLE = (EfiVariable(EFI_SECURE_BOOT_ENABLE, "SecureBootEnable", value) for value in (b"\x01", b"\0"))
BOOT_ORDER = EfiVariable(EFI_GLOBAL_VARIABLE, "BootOrder", b"\x07\0")
BOOT_OPTION = EfiVariable(EFI_GLOBAL_VARIABLE, "Boot0000", b"an option")
VMM = VmmSpec("qemu", "10.2.1", "q35,smm=off,pic=off", "cpu", ())
ACPI = AcpiDigests(*("ab" * 48,) * 3)
ON, OFF, ABSENT = SecureBootVariable.ENABLED, SecureBootVariable.DISABLED, SecureBootVariable.ABSENT


def firmware(store: bytes, *, secure_boot: bool = True) -> bytes:
    files = [ffs_file(SOME_FILE, b"core", kind=DXE_CORE)]
    if secure_boot:
        files.append(ffs_file(SECURE_BOOT_CONFIG_DXE, b"driver"))
    return Firmware(extra={0: store, 0x2000: volume(files)}, filler=bytes(16)).encode()


def setting(variables: Sequence[EfiVariable], *, edk2: str = "202502", secure_boot: bool = True) -> object:
    image = firmware(store_of(*variables), secure_boot=secure_boot)
    return secure_boot_of(image, firmware_build(image), edk2=edk2)


def files(image: bytes, kernel: bytes = SIGNED) -> BootFiles:
    return BootFiles(image, kernel, b"initrd", "quiet")


def profile(boot: BootFiles, *, edk2: str = "202502", keys: SecureBootKeys | None = None) -> LaunchProfile:
    (only,) = launch_profiles(boot, vmm=VMM, edk2=edk2, shapes=[(1, 1 << 30)], keys=keys)
    return only


def predict(boot: BootFiles, *, edk2: str = "202502", keys: SecureBootKeys | None = None) -> Prediction:
    return Measurer(boot, keys=keys).predict(profile(boot, edk2=edk2, keys=keys), ACPI)


def digest_of(prediction: Prediction, name: str) -> str:
    (event,) = [each for each in prediction.of_register("rtmr0") if each.name == name and each.event_type == 0x80000001]
    assert isinstance(event, PredictedEvent)
    return event.digest


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ((), OFF),
        (KEYS, ON),
        ((*KEYS, ENABLE), ON),
        ((*KEYS, DISABLE), OFF),
        ((ENABLE,), OFF),
        (KEYS[1:], OFF),
        ((*KEYS, EfiVariable(EFI_SECURE_BOOT_ENABLE, "SecureBootEnable", b"\x02")), OFF),
        ((*KEYS, EfiVariable(OWNER, "SecureBootEnable", b"\0")), ON),
    ],
    ids=["empty", "keys", "enabled", "disabled", "no keys", "no PK", "neither", "somebody else's"],
)
def test_secure_boot_takes_a_platform_key_and_nobody_who_turned_it_off(
    variables: tuple[EfiVariable, ...], expected: SecureBootVariable
) -> None:
    assert secure_boot_setting(variables) is expected
    assert setting(variables) is expected


@pytest.mark.parametrize("variables", [(), KEYS])
def test_a_build_without_secure_boot_has_no_such_variable_whatever_its_store_holds(
    variables: tuple[EfiVariable, ...],
) -> None:
    assert setting(variables, secure_boot=False) is ABSENT


def test_of_a_firmware_that_cannot_be_read_nothing_is_said() -> None:
    image = Firmware().encode()
    assert secure_boot_of(image, firmware_build(image), edk2="202502") is None
    assert "secure_boot_variable_assumed" in profile(files(image)).caveats
    assert "secure_boot_variable_assumed" not in profile(files(firmware(store_of()))).caveats


def test_before_202302_a_store_with_deleted_variables_leaves_secure_boot_off() -> None:
    store = Store([(BOOT_ORDER, GONE), *((key, 0x3F) for key in KEYS)]).encode()
    image = firmware(store)
    for edk2, expected in (("202211", OFF), ("202302", ON)):
        assert secure_boot_of(image, firmware_build(image), edk2=edk2) is expected


def test_enrolled_keys_are_measured_with_their_data() -> None:
    prediction = predict(files(firmware(store_of(*KEYS))))
    assert prediction.profile.firmware.secure_boot_variable is ON
    for variable in (*KEYS, EfiVariable(EFI_IMAGE_SECURITY_DATABASE, "dbx")):
        assert digest_of(prediction, variable.name) == variable_digest(variable).hex()
    assert digest_of(prediction, "SecureBoot").startswith("2cded0c6")


def test_a_build_without_secure_boot_measures_stored_keys_from_202511_on() -> None:
    boot = files(firmware(store_of(*KEYS), secure_boot=False))
    absent = variable_digest(EfiVariable(EFI_GLOBAL_VARIABLE, "PK")).hex()
    stored = variable_digest(KEYS[0]).hex()
    for edk2, expected in (("202411", absent), ("202502", absent), ("202508", absent), ("202511", stored)):
        prediction = predict(boot, edk2=edk2)
        assert digest_of(prediction, "PK") == expected
        assert digest_of(prediction, "SecureBoot").startswith("9dc3a1f8")


def test_the_entry_of_db_that_vouches_for_the_kernel_is_measured_after_acpi() -> None:
    prediction = predict(files(firmware(store_of(*KEYS))))
    names = [event.name for event in prediction.of_register("rtmr0")]
    assert names[names.index("etc/acpi/tables") :] == ["etc/acpi/tables", "db", "BootOrder", "Boot0000"]
    (event,) = [each for each in prediction.events if each.event_type == EV_EFI_VARIABLE_AUTHORITY]
    entry = SignatureEntry(CERT_X509, OWNER, VENDOR.der)
    expected = variable_digest(EfiVariable(EFI_IMAGE_SECURITY_DATABASE, "db", entry.encode())).hex()
    assert isinstance(event, PredictedEvent)
    assert event.digest == expected


@pytest.mark.parametrize(
    "kernel", [bzimage(), signed_image(bzimage(), signer("stranger"))], ids=["unsigned", "foreign"]
)
def test_a_kernel_that_db_does_not_vouch_for_is_refused(kernel: bytes) -> None:
    """Old firmware starts it by the legacy loader and measures no kernel at all; 2026.08 stops."""
    boot = files(firmware(store_of(*KEYS)), kernel)
    with pytest.raises(DocumentError, match="secure boot is on, and the firmware does not take this kernel"):
        predict(boot)
    assert predict(files(firmware(store_of(*KEYS, DISABLE)), kernel)).registers.rtmr0


def test_a_kernel_that_the_vmm_rewrites_loses_its_signature() -> None:
    boot = files(firmware(store_of(*KEYS)))
    (old,) = launch_profiles(boot, vmm=dataclasses.replace(VMM, version="8.2.2"), edk2="202502", shapes=[(1, 1 << 30)])
    with pytest.raises(DocumentError, match="does not take this kernel"):
        Measurer(boot).predict(old, ACPI)


def test_what_cannot_be_told_of_a_kernel_leaves_rtmr0_open() -> None:
    keys = key_variables(pk=b"PK", db=signature_list(CERT_X509, b"no certificate"))
    prediction = predict(files(firmware(store_of(*keys))))
    (open_event,) = prediction.unpredicted
    assert isinstance(open_event, UnpredictedEvent)
    assert open_event.event_type == EV_EFI_VARIABLE_AUTHORITY
    assert prediction.registers.rtmr0 is None
    assert prediction.registers.rtmr1 is not None


def test_given_keys_stand_in_for_those_of_the_file() -> None:
    keys = secure_boot_keys(KEYS)
    boot = files(firmware(store_of()))
    given, stored = predict(boot, keys=keys), predict(files(firmware(store_of(*KEYS))))
    assert given.profile.firmware.secure_boot_variable is ON
    different = [one.name for one, two in zip(given.events, stored.events, strict=True) if one != two]
    assert different == ["variable store"]


def test_dbt_is_measured_only_where_it_is() -> None:
    names = [event.name for event in predict(files(firmware(store_of(*KEYS)))).events]
    assert "dbt" not in names
    dbt = EfiVariable(EFI_IMAGE_SECURITY_DATABASE, "dbt", b"")
    names = [event.name for event in predict(files(firmware(store_of(*KEYS, dbt)))).events]
    assert names[names.index("dbx") + 1] == "dbt"


def test_a_profile_that_contradicts_the_firmware_on_secure_boot_is_refused() -> None:
    on, off = files(firmware(store_of(*KEYS))), files(firmware(store_of()))
    for made_of, used in ((on, off), (off, on)):
        with pytest.raises(DocumentError, match="the SecureBoot variable is 0[01], the files say 0[01]"):
            Measurer(used).predict(profile(made_of), ACPI)


def test_a_stored_boot_order_is_noticed_and_stored_options_alone_change_nothing() -> None:
    plain = predict(files(firmware(store_of(*KEYS))))
    options = predict(files(firmware(store_of(*KEYS, BOOT_OPTION))))
    assert [event for event in plain.events if event.name != "variable store"] == [
        event for event in options.events if event.name != "variable store"
    ]
    ordered = predict(files(firmware(store_of(*KEYS, BOOT_ORDER))))
    assert [event.name for event in ordered.unpredicted] == ["BootOrder"]
    assert ordered.registers.rtmr0 is None


def test_a_damaged_store_is_refused_where_it_is_used() -> None:
    damaged = Store([(KEYS[0], 0x3F)], tail=b"\0").encode()
    with pytest.raises(DocumentError, match="variable store"):
        profile(files(firmware(damaged)))
    unused = files(firmware(damaged, secure_boot=False))
    assert predict(unused).registers.rtmr0
    with pytest.raises(DocumentError, match="variable store"):
        predict(unused, edk2="202511")


def test_whether_the_store_is_used_follows_from_build_and_release() -> None:
    rules = profile(files(Firmware().encode())).firmware
    used = {
        (variable, edk2)
        for variable in SecureBootVariable
        for edk2 in ("202508", "202511")
        if dataclasses.replace(rules, secure_boot_variable=variable, edk2=edk2).store_used
    }
    assert used == {(ABSENT, "202511"), (OFF, "202508"), (OFF, "202511"), (ON, "202508"), (ON, "202511")}
    assert isinstance(rules, FirmwareRules)
