"""`measure` of plain files and of recipes, from its arguments to its one document."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.cli.main import run
from builder.cli.measure import measure
from builder.cli.measure_target import GROUPS
from builder.measure import AcpiBlobs, Measurer, blobs_for, launch_profiles, parse_reference_values
from builder.measure.acpi.generator import generate_acpi
from builder.measure.acpi.machine import acpi_machine
from builder.model.recipe import VmmSpec
from builder.model.reference_values import AcpiDigests, ReferenceValues
from tests.fakes.boot_files import acpi_tables
from tests.fakes.command_line import Run
from tests.fakes.dstack_images import image_files, write_image
from tests.fakes.recipe_directory import locked_recipe, make_recipe_directory
from tests.fakes.small_release import FILES

DEFAULT = VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off,hpet=off", "Skylake-Server,phys-bits=46", ("serial",))
GIB = 1 << 30


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Firmware, kernel, initrd and the ACPI blobs of two vCPUs, as files."""
    (tmp_path / "OVMF.fd").write_bytes(FILES.firmware)
    (tmp_path / "vmlinuz").write_bytes(FILES.kernel)
    (tmp_path / "initrd.img").write_bytes(FILES.initrd or b"")
    write_acpi(tmp_path / "acpi", blobs_for(acpi_tables(2)))
    return tmp_path


def write_acpi(directory: Path, blobs: AcpiBlobs) -> None:
    directory.mkdir(exist_ok=True)
    for name, blob in (("table-loader", blobs.loader), ("rsdp", blobs.rsdp), ("tables", blobs.tables)):
        (directory / name).write_bytes(blob)


def plain(files: Path, **changes: str | None) -> list[str]:
    """The options of `measure` for plain files; a change adds or replaces an option, None leaves it out."""
    options: dict[str, str | None] = {
        "firmware": str(files / "OVMF.fd"),
        "kernel": str(files / "vmlinuz"),
        "initrd": str(files / "initrd.img"),
        "cmdline": FILES.command_line,
        "vcpus": "2",
        "memory": "2G",
        "qemu": "10.0.2",
        "edk2": "202502",
        **changes,
    }
    return [
        word for name, value in options.items() if value is not None for word in (f"--{name.replace('_', '-')}", value)
    ]


def given(files: Path, **changes: str | None) -> list[str]:
    """The same with ACPI tables from files."""
    return plain(files, **{"acpi": str(files / "acpi"), **changes})


def generated_digests(vmm: VmmSpec, vcpus: int = 2, memory: int = 2 * GIB) -> AcpiDigests:
    machine = acpi_machine(vmm, vcpus=vcpus, memory=memory, edk2="202502")
    return replace(generate_acpi(machine).digests(), sources=("generated",))


def expected_values(vmm: VmmSpec = DEFAULT, acpi: AcpiDigests | None = None) -> ReferenceValues:
    (profile,) = launch_profiles(FILES, vmm=vmm, edk2="202502", shapes=[(2, 2 * GIB)])
    return Measurer(FILES).reference_values([(profile, acpi or generated_digests(vmm))])


def values_of(result: dict[str, Any]) -> ReferenceValues:
    return parse_reference_values(result["reference_values"], what="result")


# what comes out


def test_tables_are_generated_unless_they_are_given(tdx: Run, files: Path) -> None:
    ran = tdx("measure", *plain(files))
    assert ran.status == 0
    assert values_of(ran.result) == expected_values()


def test_given_tables_are_those_of_the_result(tdx: Run, files: Path) -> None:
    ran = tdx("measure", *given(files))
    assert ran.status == 6  # they are not those of this machine, or the generator is wrong
    acpi = replace(blobs_for(acpi_tables(2)).digests(), sources=("given",))
    assert values_of(ran.result) == expected_values(acpi=acpi)
    (note,) = ran.result["notes"]
    assert "are not those that are generated for this machine" in note


def test_given_tables_that_are_the_generated_ones_are_said_to_be(tdx: Run, files: Path) -> None:
    machine = acpi_machine(DEFAULT, vcpus=2, memory=2 * GIB, edk2="202502")
    write_acpi(files / "acpi", generate_acpi(machine))
    ran = tdx("measure", *given(files))
    assert ran.status == 0
    (note,) = ran.result["notes"]
    assert "are those that are generated for this machine" in note


def test_given_tables_of_a_machine_that_is_not_generated_are_measured_unchecked(tdx: Run, files: Path) -> None:
    ran = tdx("measure", *given(files, cpu="host"))
    assert ran.status == 0
    (note,) = ran.result["notes"]
    assert "was not checked" in note


def test_the_registers_of_one_machine_stand_at_the_top(tdx: Run, files: Path) -> None:
    result = tdx("measure", *plain(files)).result
    registers = result["profiles"]["2cpu-2G"]
    assert {name: result[name] for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2")} == registers
    assert result["mrtd_page_orders"]["single_pass"] == registers["mrtd"]
    assert "rtmr3" not in result, "nothing is said of user space"


def test_no_register_of_several_machines_stands_at_the_top(tdx: Run, files: Path) -> None:
    result = tdx("measure", *plain(files), "--vcpus", "4").result
    assert sorted(result["profiles"]) == ["2cpu-2G", "4cpu-2G"]
    assert not {"mrtd", "rtmr0", "rtmr1", "rtmr2"} & set(result)


def test_a_register_that_is_not_predicted_is_null_and_people_are_told_why(
    tdx: Run, capsys: pytest.CaptureFixture[str], files: Path
) -> None:
    """From edk2 202505 on RTMR0 covers SMBIOS tables, which nobody gave."""
    result = tdx("measure", *plain(files, edk2="202505")).result
    assert result["rtmr0"] is None
    assert result["profiles"]["2cpu-2G"]["rtmr0"] is None
    assert result["rtmr1"] is not None
    assert run(["measure", *plain(files, edk2="202505")]) == 0
    output = capsys.readouterr().out
    assert "\nrtmr0 not predicted\n" in output
    assert "not predicted: rtmr0, SMBIOS tables: " in output


def test_people_see_whole_registers_events_and_caveats(
    tdx: Run, capsys: pytest.CaptureFixture[str], files: Path
) -> None:
    registers = tdx("measure", *plain(files)).result["profiles"]["2cpu-2G"]
    assert run(["measure", *plain(files), "--events"]) == 0
    output = capsys.readouterr().out
    assert all(f"{name} {value}\n" in output for name, value in registers.items())
    assert "Events of 2cpu-2G" in output
    assert "LOADED_IMAGE::LoadOptions" in output
    assert "caveat: " in output


def test_people_see_several_machines_as_a_table(capsys: pytest.CaptureFixture[str], files: Path) -> None:
    assert run(["measure", *plain(files), "--memory", "4G"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Reference Values"
    assert [line.split()[0] for line in lines[2:4]] == ["2cpu-2G", "2cpu-4G"]


# the machine

MACHINES: dict[str, tuple[Sequence[str], dict[str, Any]]] = {
    "machine": (["--machine", "q35,smm=off,pic=on,hpet=off"], {"machine": "q35,smm=off,pic=on,hpet=off"}),
    "cpu": (["--cpu", "host,phys-bits=46"], {"cpu": "host,phys-bits=46"}),
    "devices": (
        ["--device", "virtio-net-pci", "--device", "serial"],
        {"devices": ("virtio-net-pci", "serial")},
    ),
    "no serial port": (["--device", "virtio-net-pci"], {"devices": ("virtio-net-pci",)}),
    "PCI hole": (["--pci-hole64", "512G"], {"pci_hole64": 512 * GIB}),
    "hotplug": (["--no-bridge-hotplug"], {"bridge_hotplug": False}),
    "NUMA": (["--numa-nodes", "2"], {"numa_nodes": 2}),
}


@pytest.mark.parametrize(("options", "changes"), MACHINES.values(), ids=MACHINES)
def test_every_option_of_the_machine_reaches_its_profile(
    tdx: Run, files: Path, options: Sequence[str], changes: dict[str, Any]
) -> None:
    ran = tdx("measure", *plain(files), *options)
    assert values_of(ran.result) == expected_values(replace(DEFAULT, **changes))


@pytest.mark.parametrize("name", [name for name in MACHINES if name != "cpu"])
def test_every_option_of_the_machine_shows_in_the_tables(name: str) -> None:
    assert generated_digests(replace(DEFAULT, **MACHINES[name][1])) != generated_digests(DEFAULT)


@pytest.mark.parametrize("option", ["kernel", "cmdline", "qemu", "edk2", "vcpus", "memory", "firmware"])
def test_measure_guesses_no_option(tdx: Run, files: Path, option: str) -> None:
    ran = tdx("measure", *plain(files, **{option: None}))
    assert ran.status == 2
    assert f"plain files need --{option} too" in ran.message


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"vcpus": "0"}, "vCPU count 0"),
        ({"memory": "2"}, "memory size"),
        ({"memory": "8M"}, "memory"),
        ({"qemu": "10"}, "version '10'"),
        ({"edk2": "edk2-stable202502"}, "edk2-stable202502"),
        ({"cmdline": "quiet\n"}, "command line"),
        ({"cmdline": ""}, "plain files need --cmdline too"),
        ({"pci_hole64": "32"}, "--pci-hole64: '32' is not a memory size"),
        ({"pci_hole64": "512M"}, "64-bit PCI hole"),
        ({"numa_nodes": "-1"}, "--numa-nodes"),
        ({"numa_nodes": "two"}, "--numa-nodes"),
        ({"machine": "q35,smm=off,pic=off,hpet=off,nvdimm=on"}, "nvdimm=on"),
        ({"cpu": "EPYC,phys-bits=46"}, "EPYC"),
        ({"device": "isa-parallel"}, "isa-parallel"),
    ],
)
def test_measure_refuses_what_no_rule_covers(tdx: Run, files: Path, changes: dict[str, str], named: str) -> None:
    ran = tdx("measure", *plain(files, **changes))
    assert ran.status == 2
    assert named in ran.message


def test_a_machine_that_is_not_generated_is_refused_with_the_ways_that_are_left(tdx: Run, files: Path) -> None:
    ran = tdx("measure", *plain(files, cpu="host"))
    assert ran.status == 2
    assert "'2cpu-2G'" in ran.message
    assert "--acpi" in ran.hint
    assert "recipe" in ran.hint


def test_a_machine_is_measured_once(tdx: Run, files: Path) -> None:
    assert tdx("measure", *plain(files), "--vcpus", "2").status == 2


# the files


@pytest.mark.parametrize("data", [b"", b"\0" * 5000, FILES.firmware[:-1], FILES.firmware[: len(FILES.firmware) // 2]])
def test_measure_refuses_what_is_no_firmware(tdx: Run, files: Path, data: bytes) -> None:
    (files / "OVMF.fd").write_bytes(data)
    ran = tdx("measure", *plain(files))
    assert ran.status == 2
    assert "firmware" in ran.message


@pytest.mark.parametrize("data", [b"", b"MZ", b"\xff" * 5000, FILES.kernel[:4000], FILES.kernel[:-1]])
def test_measure_refuses_what_is_no_kernel(tdx: Run, files: Path, data: bytes) -> None:
    (files / "vmlinuz").write_bytes(data)
    ran = tdx("measure", *plain(files))
    assert ran.status == 2
    assert ran.message.startswith(("kernel: ", "EFI image: "))


@pytest.mark.parametrize("name", ["OVMF.fd", "vmlinuz", "initrd.img", "acpi/tables"])
def test_measure_names_a_file_that_is_not_there(tdx: Run, files: Path, name: str) -> None:
    (files / name).unlink()
    ran = tdx("measure", *given(files))
    assert ran.status == 2
    assert name in ran.message


def test_a_directory_in_place_of_a_kernel_is_refused(tdx: Run, files: Path) -> None:
    ran = tdx("measure", *plain(files, kernel=str(files)))
    assert ran.status == 2
    assert str(files) in ran.message


@pytest.mark.parametrize("name", ["table-loader", "rsdp", "tables"])
@pytest.mark.parametrize("data", [b"", b"\xff" * 4096, bytes(131072)], ids=len)
def test_measure_refuses_what_are_no_tables(tdx: Run, files: Path, name: str, data: bytes) -> None:
    (files / "acpi" / name).write_bytes(data)
    assert tdx("measure", *given(files)).status == 2


def test_measure_refuses_the_tables_of_a_machine_with_a_tpm(tdx: Run, files: Path) -> None:
    """They come with one event more, which nobody would have predicted."""
    blobs = blobs_for(acpi_tables(2))
    log = blobs.loader[128:256].replace(b"etc/acpi/tables", b"etc/tpm/log\0\0\0\0")
    write_acpi(files / "acpi", replace(blobs, loader=blobs.loader[:128] + log + blobs.loader[128:-128]))
    ran = tdx("measure", *given(files))
    assert ran.status == 2
    assert "etc/tpm/log" in ran.message


def test_given_tables_of_another_vcpu_count_are_refused(tdx: Run, files: Path) -> None:
    ran = tdx("measure", *given(files, vcpus="3"))
    assert ran.status == 2
    assert "MADT lists 2 processors" in ran.message


def test_tables_of_one_machine_do_not_stand_for_two(tdx: Run, files: Path) -> None:
    for option in (("--memory", "4G"), ("--vcpus", "4")):
        ran = tdx("measure", *given(files), *option)
        assert ran.status == 2
        assert "one machine" in ran.message


# what is measured


def test_nothing_to_measure_is_an_error(tdx: Run) -> None:
    ran = tdx("measure")
    assert ran.status == 2
    assert "TARGET" in ran.message


@pytest.mark.parametrize("path", ["empty", "absent", "file"])
def test_a_target_that_is_neither_recipe_nor_image_is_named(tdx: Run, tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    ran = tdx("measure", tmp_path / path)
    assert ran.status == 2
    assert f"{tmp_path / path}: neither recipe.yaml nor metadata.json there" in ran.message


def test_a_target_that_is_both_is_refused(tdx: Run, tmp_path: Path) -> None:
    directory = make_recipe_directory(tmp_path / "recipe")
    write_image(directory, image_files())
    ran = tdx("measure", directory)
    assert ran.status == 2
    assert "both recipe.yaml and metadata.json there" in ran.message


@pytest.mark.parametrize(
    "arguments",
    [["--kernel", "k"], ["--device", "serial"], ["--acpi", "d"], ["--machine", "q35"], ["--numa-nodes", "0"]],
)
def test_no_option_of_plain_files_is_ignored_beside_a_recipe(tdx: Run, tmp_path: Path, arguments: list[str]) -> None:
    ran = tdx("measure", locked_recipe(tmp_path), *arguments)
    assert ran.status == 2
    assert "plain files need --firmware" in ran.message


def test_tables_that_are_given_are_not_read_as_well(tdx: Run, files: Path, tmp_path: Path) -> None:
    ran = tdx("measure", locked_recipe(tmp_path), *given(files))
    assert ran.status == 2
    assert "--acpi" in ran.message


RECIPE_OPTIONS = (
    ("--artifacts", "d"),
    ("--flavour", "dev"),
    ("--store", "s"),
    ("--mirror", "http://mirror"),
    ("--snapshot", "http://s"),
    ("--offline",),
)
DSTACK_OPTIONS = (
    ("--vm-config", "c"),
    ("--app-compose", "c"),
    ("--runtime-events", "none"),
    ("--runtime", "app-id=00"),
    ("--app-event", "a=00"),
)


@pytest.mark.parametrize("option", [*RECIPE_OPTIONS, *DSTACK_OPTIONS], ids=lambda option: option[0])
def test_plain_files_take_no_option_of_another_target(tdx: Run, files: Path, option: tuple[str, ...]) -> None:
    ran = tdx("measure", *plain(files), *option)
    assert ran.status == 2
    assert f"{option[0]} does not go with plain files" in ran.message


@pytest.mark.parametrize("option", DSTACK_OPTIONS, ids=lambda option: option[0])
def test_a_recipe_takes_no_option_of_a_dstack_image(tdx: Run, tmp_path: Path, option: tuple[str, ...]) -> None:
    ran = tdx("measure", locked_recipe(tmp_path), *option)
    assert ran.status == 2
    assert f"{option[0]} does not go with the artefacts of a recipe" in ran.message


def test_artefacts_of_a_recipe_do_not_mix_with_plain_files(tdx: Run, files: Path, tmp_path: Path) -> None:
    ran = tdx("measure", locked_recipe(tmp_path), *plain(files), "--artifacts", files)
    assert ran.status == 2
    assert "--artifacts does not go with plain files beside a recipe" in ran.message


def test_every_option_stands_in_one_group_of_the_help() -> None:
    names = [parameter.name for parameter in measure.params if parameter.param_type_name == "option"]
    grouped = [name for group in GROUPS.values() for name in group]
    assert sorted(grouped) == sorted(str(name) for name in names)


def test_the_help_shows_every_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["measure", "--help"]) == 0
    output = capsys.readouterr().out
    assert all(f"\n{title}:\n" in output for title in GROUPS)
    assert "what its sender claims" in " ".join(output.split())
