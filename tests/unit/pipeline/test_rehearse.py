"""`rehearse` boots what was predicted, keeps what the guest said, and lets nothing but a full agreement pass."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import DocumentError, NotProvenError, RegisterDiffersError
from builder.measure.evidence.guest_log import Log
from builder.measure.rehearsal import BootObservation
from builder.model.reference_values import ReferenceValues
from builder.model.rehearsal import BootEnd
from builder.pipeline.rehearse import (
    BootPaths,
    Stage,
    boot_paths,
    read_boot_paths,
    rehearse,
    require_rehearsed,
    smallest_machine,
)
from builder.ports import DirectBoot
from tests.fakes.emulated_boot import (
    FakeEmulator,
    acpi_with_tpm,
    honest_observation,
    observation,
    predicted,
    tpm_log,
)
from tests.fakes.silent_progress import SilentProgress
from tests.fakes.small_release import small_values

ARTIFACTS = [
    ("firmware", "OVMF.fd"),
    ("kernel", "vmlinuz"),
    ("initrd", "initrd.img"),
    ("app_image", "app.oci.tar"),
    ("guest_os", "rootfs.img"),
    ("guest_os", "cmdline"),
]
FILES = BootPaths(Path("OVMF.fd"), Path("vmlinuz"), Path("initrd.img"), Path("rootfs.img"), "console=ttyS0")
LOG = tpm_log(predicted(), acpi_with_tpm())


def honest(_order: DirectBoot) -> BootObservation:
    return honest_observation(predicted())


def stage_in(path: Path, emulator: FakeEmulator, *, until: str | None = None) -> Stage:
    return Stage(emulator, path / "rehearsal", until, 60)


def test_the_machine_of_the_prediction_is_booted_with_the_files_given(tmp_path: Path) -> None:
    emulator = FakeEmulator(honest)
    rehearsal = rehearse(predicted(), FILES, stage_in(tmp_path, emulator), SilentProgress())
    require_rehearsed(rehearsal, tmp_path)
    (order,) = emulator.orders
    profile = predicted().profile
    assert (order.shape.vmm, order.shape.vcpus, order.shape.memory) == (profile.vmm, profile.vcpus, profile.memory)
    assert order.shape.edk2 == "202502"
    assert (order.firmware, order.kernel, order.initrd, order.disk) == (
        FILES.firmware,
        FILES.kernel,
        FILES.initrd,
        FILES.disk,
    )
    assert (order.command_line, order.until, order.limit) == ("console=ttyS0", None, 60)


def test_document_and_serial_log_are_kept(tmp_path: Path) -> None:
    rehearse(predicted(), FILES, stage_in(tmp_path, FakeEmulator(honest)), SilentProgress())
    assert (tmp_path / "rehearsal/serial.log").read_bytes() == b"guest says hello\r\n"
    document = json.loads((tmp_path / "rehearsal/rehearsal.json").read_bytes())
    assert (document["status"], document["end"]) == (0, "powered off")


def test_the_serial_log_is_kept_where_nothing_was_proven_and_no_old_document_stays(tmp_path: Path) -> None:
    def blank(_order: DirectBoot) -> BootObservation:
        return replace(honest_observation(predicted()), candidates=[])

    rehearse(predicted(), FILES, stage_in(tmp_path, FakeEmulator(honest)), SilentProgress())
    with pytest.raises(NotProvenError):
        rehearse(predicted(), FILES, stage_in(tmp_path, FakeEmulator(blank)), SilentProgress())
    assert [path.name for path in (tmp_path / "rehearsal").iterdir()] == ["serial.log"]


def test_a_difference_is_an_error_that_names_the_first_event_and_what_decides_it(tmp_path: Path) -> None:
    place = next(place for place, each in enumerate(LOG) if each.name == "Linux initrd")
    changed = (*LOG[:place], replace(LOG[place], digest="f" * 96), *LOG[place + 1 :])
    emulator = FakeEmulator(lambda _: observation(changed))
    rehearsal = rehearse(predicted(), FILES, stage_in(tmp_path, emulator), SilentProgress())
    with pytest.raises(RegisterDiffersError, match=r"rtmr2: EV_EVENT_TAG 'Linux initrd' differs.*decided by initrd$"):
        require_rehearsed(rehearsal, tmp_path)


@pytest.mark.parametrize(
    ("log", "end", "until", "message"),
    [
        (LOG[:9], BootEnd.TIME_LIMIT, None, r"not left boot services .*\(time limit\)"),
        (LOG, BootEnd.POWERED_OFF, "ready", r"text that was waited for .*\(powered off\)"),
        (LOG, BootEnd.TIME_LIMIT, "ready", r"text that was waited for .*\(time limit\)"),
    ],
)
def test_too_little_is_not_proven(tmp_path: Path, log: Log, end: BootEnd, until: str | None, message: str) -> None:
    emulator = FakeEmulator(lambda _: observation(log, end=end))
    rehearsal = rehearse(predicted(), FILES, stage_in(tmp_path, emulator, until=until), SilentProgress())
    with pytest.raises(NotProvenError, match=message):
        require_rehearsed(rehearsal, tmp_path)


def test_the_smallest_machine_is_that_with_the_least_memory() -> None:
    values = small_values()
    assert smallest_machine(values).profile.name == "1cpu-1G"
    assert smallest_machine(ReferenceValues(values.mrtd, values.predictions[::-1])).profile.name == "1cpu-1G"


def directory_with(path: Path, names: list[tuple[str, str]]) -> Path:
    for _, name in names:
        (path / name).write_bytes(b"console=ttyS0" if name == "cmdline" else name.encode())
    return path


def test_artefacts_are_found_by_component(tmp_path: Path) -> None:
    paths = boot_paths(directory_with(tmp_path, ARTIFACTS), ARTIFACTS)
    assert (paths.firmware, paths.kernel) == (tmp_path / "OVMF.fd", tmp_path / "vmlinuz")
    assert (paths.initrd, paths.disk) == (tmp_path / "initrd.img", tmp_path / "rootfs.img")
    assert read_boot_paths(paths).command_line == "console=ttyS0"
    assert read_boot_paths(paths).firmware == b"OVMF.fd"


def test_a_guest_need_not_have_a_disk(tmp_path: Path) -> None:
    fewer = [each for each in ARTIFACTS if each[1] not in ("rootfs.img", "initrd.img")]
    paths = boot_paths(directory_with(tmp_path, fewer), fewer)
    assert (paths.disk, paths.initrd, read_boot_paths(paths).initrd) == (None, None, None)


@pytest.mark.parametrize("missing", ["OVMF.fd", "vmlinuz"])
def test_firmware_and_kernel_have_to_be_there(tmp_path: Path, missing: str) -> None:
    fewer = [each for each in ARTIFACTS if each[1] != missing]
    with pytest.raises(DocumentError, match="no (kernel|firmware) among the artefacts"):
        boot_paths(directory_with(tmp_path, fewer), fewer)


def test_two_kernels_are_not_one(tmp_path: Path) -> None:
    more = [*ARTIFACTS, ("kernel", "vmlinuz.old")]
    with pytest.raises(DocumentError, match=r"vmlinuz and vmlinuz\.old are the kernel"):
        boot_paths(directory_with(tmp_path, more), more)


def test_a_command_line_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    directory_with(tmp_path, ARTIFACTS)
    (tmp_path / "cmdline").unlink()
    with pytest.raises(DocumentError, match="cmdline: cannot be read"):
        boot_paths(tmp_path, ARTIFACTS)
