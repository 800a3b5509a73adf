"""`measure --platform`, from its arguments to its one document."""

from pathlib import Path

import pytest

from builder.cli.main import run
from builder.measure import (
    GCE_ENDORSED_MRTDS,
    CloudHypervisorLaunch,
    CloudHypervisorMachine,
    GceLaunch,
    GceMachine,
    SignatureEntry,
    cloud_hypervisor_prediction,
    gce_machine_type,
    gce_prediction,
    platform_values_document,
    td_shim_hob_list,
)
from builder.measure.firmware.signature_database import CERT_X509
from tests.fakes.boot_files import SECTIONS_S2, SECTIONS_TD_SHIM, Firmware, acpi_table, bzimage
from tests.fakes.command_line import Run

GIB = 1 << 30
OVMF = Firmware(sections=SECTIONS_S2).encode()
TD_SHIM = Firmware(sections=SECTIONS_TD_SHIM).encode()
TABLES = (acpi_table(b"DSDT", b"devices"), acpi_table(b"APIC", b"vCPUs..."))
LAUNCH = CloudHypervisorLaunch(TD_SHIM, bzimage(), "console=hvc0", GIB)
ENTRY = SignatureEntry(CERT_X509, CERT_X509, b"a certificate").encode()
SIGNATURES = (
    CERT_X509.bytes_le + b"".join(size.to_bytes(4, "little") for size in (28 + len(ENTRY), 0, len(ENTRY))) + ENTRY
)
GCE = ("measure", "--platform", "gce")
C3 = (*GCE, "--machine-type", "c3-standard-4")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The files of both platforms."""
    contents = {
        "OVMF.fd": OVMF,
        "td-shim.bin": TD_SHIM,
        "bzImage": bzimage(),
        "DSDT": TABLES[0],
        "APIC": TABLES[1],
        "hob": td_shim_hob_list(TD_SHIM, CloudHypervisorMachine(GIB, 46, TABLES)),
        "db.esl": SIGNATURES,
        "cert.der": b"0\x82 no signature list",
        "empty": b"",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def cloud_hypervisor(files: Path, *more: object, **changes: str | None) -> list[object]:
    """The arguments for Cloud Hypervisor; a change replaces an option, None leaves it out."""
    options = {
        "firmware": files / "td-shim.bin",
        "kernel": files / "bzImage",
        "cmdline": "console=hvc0",
        "memory": "1G",
    }
    given = [
        word for name, value in {**options, **changes}.items() if value is not None for word in (f"--{name}", value)
    ]
    return ["measure", "--platform", "cloud-hypervisor", *given, *more]


# GCE


def test_a_vm_of_known_firmware_has_its_mrtd_at_the_top(tdx: Run) -> None:
    digest, mrtd = next(iter(GCE_ENDORSED_MRTDS.items()))
    ran = tdx(*C3, "--firmware-sha384", digest)
    assert ran.status == 0
    assert {name: ran.result[name] for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2")} == {
        "mrtd": mrtd,
        "rtmr0": None,
        "rtmr1": None,
        "rtmr2": None,
    }
    assert ran.result["profiles"]["c3-standard-4"]["mrtd"] == mrtd
    assert "mrtd_page_orders" not in ran.result, "GCE's order is one"


def test_every_option_reaches_the_prediction(tdx: Run, files: Path) -> None:
    keys = ("--db", files / "db.esl", "--dbx", files / "empty")
    disks = ("--disks", 2, "--disk-controller", 5, "--secure-boot", "--every-section-measured")
    ran = tdx(*C3, "--firmware", files / "OVMF.fd", *keys, *disks)
    machine = GceMachine(
        gce_machine_type("c3-standard-4"),
        secure_boot=True,
        keys=(None, None, SIGNATURES, b""),
        disks=2,
        disk_controller=5,
    )
    expected = gce_prediction(GceLaunch(machine, firmware=OVMF, every_section_measured=True))
    assert ran.result["platform_values"] == platform_values_document([expected])


def test_several_machine_types_are_several_profiles(tdx: Run) -> None:
    result = tdx(*C3, "--machine-type", "c3-standard-8", "--machine-type", "c3-standard-4").result
    assert list(result["profiles"]) == ["c3-standard-4", "c3-standard-8"]
    assert "mrtd" not in result


def test_people_are_told_what_is_not_predicted_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*C3, "--events"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("Reference Values of c3-standard-4\nmrtd not predicted\nrtmr0 not predicted\n")
    assert "not predicted: mrtd: neither the firmware nor its digest was given\n" in output
    assert "not predicted: rtmr0, etc/acpi/tables: " in output
    assert "not predicted: rtmr1, " in output
    assert "caveat: " in output
    assert "Events of c3-standard-4" in output
    assert "458994daa60deac8dea19dba79748f6ff93fd0aebb8e3e0be5a65eb12309d342" in output


def test_events_are_shown_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*C3]) == 0
    assert "Events of" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (GCE, "needs --machine-type"),
        ((*GCE, "--machine-type", "n2d-standard-4"), "is unknown"),
        ((*C3, "--firmware-sha384", "ab"), "96 lower-case hex digits"),
        ((*C3, "--firmware-sha384", "AB" * 48), "96 lower-case hex digits"),
        ((*C3, "--firmware-sha384", "ab" * 48), "none of the 3 known ones"),
        ((*C3, "--every-section-measured"), "needs the firmware file"),
        ((*C3, "--disks", "0"), "--disks"),
        ((*C3, "--disk-controller", "32"), "--disk-controller"),
        ((*C3, "--firmware", "/nowhere/OVMF.fd"), "cannot be read"),
        ((*C3, "--vcpus", "2"), "--vcpus does not go with a VM on GCE"),
        ((*C3, "--kernel", "bzImage", "--hob", "hob"), "--kernel, --hob does not go with a VM on GCE"),
        ((*C3, "somewhere"), "leave out TARGET"),
        (("measure", "--platform", "azure"), "azure"),
        (("measure", "--machine-type", "c3-standard-4"), "name a TARGET"),
    ],
)
def test_what_is_no_vm_on_gce_is_refused(tdx: Run, arguments: tuple[str, ...], message: str) -> None:
    ran = tdx(*arguments)
    assert ran.status == 2
    assert message in ran.message


def test_options_of_a_platform_go_with_no_other_target(tdx: Run, files: Path) -> None:
    ran = tdx("measure", "--firmware", files / "OVMF.fd", "--machine-type", "c3-standard-4")
    assert ran.status == 2
    assert "--machine-type does not go with plain files" in ran.message


def test_a_certificate_is_not_taken_for_a_signature_list(tdx: Run, files: Path) -> None:
    ran = tdx(*C3, "--pk", files / "cert.der")
    assert ran.status == 2
    assert "cert.der" in ran.message
    assert "not a certificate" in ran.hint


# Cloud Hypervisor


def test_both_page_orders_are_given_and_rtmr0_is_open_without_tables(tdx: Run, files: Path) -> None:
    ran = tdx(*cloud_hypervisor(files))
    expected = cloud_hypervisor_prediction(LAUNCH)
    assert ran.status == 0
    assert ran.result["platform_values"] == platform_values_document([expected])
    assert ran.result["mrtd_page_orders"] == {str(order): value for order, value in expected.mrtd.items()}
    assert ran.result["mrtd"] == ran.result["mrtd_page_orders"]["single_pass"]
    assert ran.result["rtmr0"] is None
    assert ran.result["rtmr1"] == expected.registers.rtmr1
    assert ran.result["rtmr2"] == "00" * 48


def test_tables_or_the_whole_list_give_rtmr0(tdx: Run, files: Path) -> None:
    tables = ("--acpi-tables", files / "DSDT", "--acpi-tables", files / "APIC", "--cloud-hypervisor", "34.0")
    built = tdx(*cloud_hypervisor(files, *tables)).result
    given = tdx(*cloud_hypervisor(files, "--hob", files / "hob")).result
    assert built["rtmr0"] == given["rtmr0"] is not None
    swapped = ("--acpi-tables", files / "APIC", "--acpi-tables", files / "DSDT", "--cloud-hypervisor", "34.0")
    assert tdx(*cloud_hypervisor(files, *swapped)).result["rtmr0"] != built["rtmr0"]


def test_address_bits_and_version_reach_the_list(tdx: Run, files: Path) -> None:
    tables = ("--acpi-tables", files / "DSDT")
    values = {
        tdx(*cloud_hypervisor(files, *tables, "--cloud-hypervisor", version, "--physical-bits", bits)).result["rtmr0"]
        for version, bits in (("34.0", 46), ("44.0", 46), ("34.0", 48))
    }
    assert len(values) == 3


def test_several_sizes_of_memory_are_several_profiles(tdx: Run, files: Path) -> None:
    result = tdx(*cloud_hypervisor(files, "--memory", "2G")).result
    assert list(result["profiles"]) == ["cloud-hypervisor-1G", "cloud-hypervisor-2G"]
    assert "rtmr1" not in result
    assert set(result["mrtd_page_orders"]) == {"single_pass", "two_pass"}


@pytest.mark.parametrize("name", ["firmware", "kernel", "cmdline", "memory"])
def test_every_file_and_the_memory_are_needed(tdx: Run, files: Path, name: str) -> None:
    ran = tdx(*cloud_hypervisor(files, **{name: None}))
    assert ran.status == 2
    assert f"needs --{name} too" in ran.message


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--acpi-tables", "DSDT"), "needs --cloud-hypervisor"),
        (("--acpi-tables", "DSDT", "--cloud-hypervisor", "34.0", "--hob", "hob"), "leave out one of the two"),
        (("--cloud-hypervisor", "latest"), "is not a version"),
        (("--initrd", "bzImage"), "--initrd does not go with td-shim under Cloud Hypervisor"),
        (("--machine-type", "c3-standard-4"), "--machine-type does not go with td-shim"),
        (("--memory", "1000"), "is not a memory size"),
        (("--physical-bits", "53"), "--physical-bits"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    tdx: Run, files: Path, more: tuple[str, ...], message: str
) -> None:
    words = [files / word if (files / word).is_file() else word for word in more]
    ran = tdx(*cloud_hypervisor(files, *words))
    assert ran.status == 2
    assert message in ran.message


@pytest.mark.parametrize("name", ["firmware", "kernel"])
def test_files_that_are_something_else_are_refused(tdx: Run, files: Path, name: str) -> None:
    assert tdx(*cloud_hypervisor(files, **{name: str(files / "empty")})).status == 2
    assert tdx(*cloud_hypervisor(files, **{name: str(files / "hob")})).status == 2


def test_an_empty_command_line_is_one(tdx: Run, files: Path) -> None:
    assert tdx(*cloud_hypervisor(files, cmdline="")).status == 0
