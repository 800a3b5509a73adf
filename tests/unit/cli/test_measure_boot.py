"""`measure` of what is no Linux kernel, and of what the firmware finds besides its own file."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from builder.measure import Measurer, launch_profiles, parse_reference_values
from builder.measure.acpi.generator import generate_acpi
from builder.measure.acpi.machine import acpi_machine
from builder.measure.firmware.build import SECURE_BOOT_CONFIG_DXE
from builder.measure.firmware.efi_variables import SecureBootKeys
from builder.measure.firmware.signature_database import CERT_X509
from builder.measure.firmware.smbios import SmbiosStructure, with_processor_id
from builder.measure.firmware.volume import TD_TCG2_DXE
from builder.model.launch_profile import BootFiles
from builder.model.recipe import VmmSpec
from builder.model.reference_values import ReferenceValues
from builder.pipeline.boot_disk import LOADER
from tests.fakes.boot_files import DXE_CORE, SOME_FILE, Firmware, bzimage, ffs_file, volume
from tests.fakes.command_line import Run
from tests.fakes.efi_images import Section, uki
from tests.fakes.gpt_disks import make_disk
from tests.fakes.variable_stores import signature_list

GIB = 1 << 30
VMM = VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off,hpet=off", "Skylake-Server,phys-bits=46", ("serial",))
UKI = uki("257", Section(".cmdline", b"quiet"), Section(".initrd", b"initrd"))
PROCESSOR = "a306090078fbf70f"
SMBIOS = (
    SmbiosStructure(0, 0, bytes(20), (b"vendor",)).encode()
    + SmbiosStructure(4, 1, bytes(44), (b"CPU",)).encode()
    + bytes.fromhex("7f04007f0000")
)
KEY = signature_list(CERT_X509, b"certificate")


def firmware_with_secure_boot() -> bytes:
    files = [ffs_file(SOME_FILE, b"core", kind=DXE_CORE)]
    files += [ffs_file(name, b"driver") for name in (TD_TCG2_DXE, SECURE_BOOT_CONFIG_DXE)]
    return Firmware(extra={0x2000: volume(files)}, filler=bytes(16)).encode()


FIRMWARE = Firmware().encode()


@pytest.fixture
def options(tmp_path: Path) -> dict[str, str]:
    """Options of a UKI; its files are beside those of the tests."""
    for name, content in {
        "OVMF.fd": FIRMWARE,
        "uki.efi": UKI,
        "vmlinuz": bzimage(),
        "initrd": b"initrd",
        "smbios": SMBIOS,
        "key": KEY,
    }.items():
        (tmp_path / name).write_bytes(content)
    names = {"firmware": str(tmp_path / "OVMF.fd"), "kernel": str(tmp_path / "uki.efi")}
    return {**names, "vcpus": "2", "memory": "2G", "qemu": "10.0.2", "edk2": "202502"}


def words(options: Mapping[str, str], **changes: str | None) -> list[str]:
    changed = {**options, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return [word for name, value in changed.items() if value is not None for word in (f"--{name}", value)]


def expected(
    files: BootFiles,
    *,
    edk2: str = "202502",
    vmm: VmmSpec = VMM,
    smbios: bytes | None = None,
    keys: SecureBootKeys | None = None,
) -> ReferenceValues:
    (profile,) = launch_profiles(files, vmm=vmm, edk2=edk2, shapes=[(2, 2 * GIB)], keys=keys)
    machine = acpi_machine(vmm, vcpus=2, memory=2 * GIB, edk2=edk2)
    acpi = replace(generate_acpi(machine).digests(), sources=("generated",))
    given = {} if smbios is None else {profile.name: smbios}
    return Measurer(files, keys=keys).reference_values([(profile, acpi)], smbios=given)


def values_of(ran: object) -> ReferenceValues:
    return parse_reference_values(ran.result["reference_values"], what="result")  # type: ignore[attr-defined]


def test_a_uki_needs_no_command_line_and_takes_one(tdx: Run, options: dict[str, str]) -> None:
    files = BootFiles(FIRMWARE, UKI, None, "")
    assert values_of(tdx("measure", *words(options))) == expected(files)
    assert values_of(tdx("measure", *words(options, cmdline=""))) == expected(files)
    given = tdx("measure", *words(options, cmdline="debug"))
    assert values_of(given) == expected(replace(files, command_line="debug"))


def test_a_kernel_still_needs_a_command_line(tdx: Run, options: dict[str, str], tmp_path: Path) -> None:
    ran = tdx("measure", *words(options, kernel=str(tmp_path / "vmlinuz")))
    assert ran.status == 2
    assert "plain files need --cmdline too" in ran.message


def test_an_initrd_with_a_uki_is_refused(tdx: Run, options: dict[str, str], tmp_path: Path) -> None:
    ran = tdx("measure", *words(options, initrd=str(tmp_path / "initrd")))
    assert ran.status == 2
    assert "beside a UKI" in ran.message


def test_a_disk_is_measured_from_its_image(tdx: Run, options: dict[str, str], tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.img", {LOADER: UKI})
    ran = tdx("measure", *words(options, kernel=None, disk=str(disk), device="virtio-blk-pci,addr=0x4"))
    assert ran.status == 0
    (profile,) = ran.result["reference_values"]["profiles"]
    assert profile["launch"]["boot"] == "disk"
    assert ran.result["rtmr1"] is not None
    assert ran.result["rtmr2"] is not None
    assert ran.result["rtmr0"] is None, "this firmware does not tell whether it has a shell"


@pytest.mark.parametrize("change", [{"kernel": "k"}, {"initrd": "i"}, {"cmdline": "quiet"}, {"cmdline": ""}])
def test_nothing_of_a_kernel_goes_with_a_disk(tdx: Run, options: dict[str, str], change: dict[str, str]) -> None:
    ran = tdx("measure", *words({**options, "disk": "disk.img"}, **{"kernel": None, **change}))
    assert ran.status == 2
    assert f"--{next(iter(change))} does not go with --disk" in ran.message


def test_a_disk_that_is_none_is_refused(tdx: Run, options: dict[str, str], tmp_path: Path) -> None:
    ran = tdx("measure", *words(options, kernel=None, disk=str(tmp_path / "OVMF.fd")))
    assert ran.status == 2
    assert "GPT" in ran.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"uki_path": "/EFI/Linux/a.efi"}, "--uki-path names a file on --disk"),
        ({"processor_id": PROCESSOR}, "--processor-id is put into the tables of --smbios"),
    ],
)
def test_an_option_that_means_nothing_alone_is_refused(
    tdx: Run, options: dict[str, str], change: dict[str, str], message: str
) -> None:
    ran = tdx("measure", *words(options, **change))
    assert ran.status == 2
    assert message in ran.message


def test_smbios_tables_predict_rtmr0_of_new_firmware(tdx: Run, options: dict[str, str], tmp_path: Path) -> None:
    new = {**options, "edk2": "202505"}
    files = BootFiles(FIRMWARE, UKI, None, "")
    assert tdx("measure", *words(new)).result["rtmr0"] is None
    smbios = str(tmp_path / "smbios")
    as_given = tdx("measure", *words(new, smbios=smbios))
    assert values_of(as_given) == expected(files, edk2="202505", smbios=SMBIOS)
    other = tdx("measure", *words(new, smbios=smbios, processor_id=PROCESSOR))
    patched = with_processor_id(SMBIOS, bytes.fromhex(PROCESSOR))
    assert values_of(other) == expected(files, edk2="202505", smbios=patched)
    assert None not in (as_given.result["rtmr0"], other.result["rtmr0"])
    assert as_given.result["rtmr0"] != other.result["rtmr0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"processor_id": "a306"}, "wanted 16 hexadecimal digits"),
        ({"processor_id": "g" * 16}, "wanted 16 hexadecimal digits"),
        ({"edk2": "202502"}, "does not measure them"),
        ({"memory": "2G --memory 4G"}, "one machine for 2"),
        ({"smbios": "key"}, "SMBIOS tables"),
    ],
)
def test_smbios_tables_that_say_nothing_are_refused(
    tdx: Run, options: dict[str, str], tmp_path: Path, change: dict[str, str], message: str
) -> None:
    given = {**options, "edk2": "202505", **change, "smbios": str(tmp_path / change.get("smbios", "smbios"))}
    arguments = [word for text in words({k.replace("_", "-"): v for k, v in given.items()}) for word in text.split()]
    ran = tdx("measure", *arguments)
    assert ran.status == 2
    assert message in ran.message


def test_keys_are_those_that_the_firmware_measures(tdx: Run, options: dict[str, str], tmp_path: Path) -> None:
    """Keys without a PK do not make the firmware enforce anything."""
    firmware = firmware_with_secure_boot()
    (tmp_path / "OVMF.fd").write_bytes(firmware)
    ran = tdx("measure", *words(options, db=str(tmp_path / "key")))
    assert values_of(ran) == expected(BootFiles(firmware, UKI, None, ""), keys=SecureBootKeys(db=KEY))
    assert ran.result["rtmr0"] != tdx("measure", *words(options)).result["rtmr0"]


def test_with_a_pk_a_program_that_nothing_vouches_for_is_refused(
    tdx: Run, options: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "OVMF.fd").write_bytes(firmware_with_secure_boot())
    ran = tdx("measure", *words(options, pk=str(tmp_path / "key")))
    assert ran.status == 2
    assert "secure boot is on" in ran.message


def test_keys_for_a_firmware_that_uses_none_are_refused(tdx: Run, options: dict[str, str], tmp_path: Path) -> None:
    ran = tdx("measure", *words(options, pk=str(tmp_path / "key")))
    assert ran.status == 2
    assert "built without secure boot" in ran.message


def test_a_key_file_that_is_no_signature_list_is_refused(tdx: Run, options: dict[str, str], tmp_path: Path) -> None:
    ran = tdx("measure", *words(options, dbx=str(tmp_path / "uki.efi")))
    assert ran.status == 2
    assert "uki.efi" in ran.message
