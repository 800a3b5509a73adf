"""Real firmware and a real kernel measure what is predicted, and one changed input is named by its event."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from builder.backends.emulator.boot import QemuTpmBoot
from builder.backends.emulator.qemu import QemuAcpiReader
from builder.errors import ExitStatus, NotProvenError
from builder.measure.rehearsal import BootObservation
from builder.model.reference_values import Prediction
from builder.model.rehearsal import BootEnd, EventVerdict, Rehearsal
from builder.pipeline.inputs import load_recipe
from builder.pipeline.measure import LaunchMatrix, reference_values
from builder.pipeline.rehearse import BootPaths, Stage, boot_paths, read_boot_paths, rehearse
from builder.ports import DirectBoot
from tests.fakes.silent_progress import SilentProgress
from tests.integration.conftest import RECIPE, RealRelease

pytestmark = [pytest.mark.slow, pytest.mark.network]

GIB = 1 << 30
LIMIT = 900.0  # seconds; a boot takes about five on an idle machine, and a guest that hangs is a failure
NAMES = [
    ("firmware", "OVMF.fd"),
    ("kernel", "vmlinuz"),
    ("initrd", "initrd.img"),
    ("guest_os", "rootfs.img"),
    ("guest_os", "cmdline"),
]
RAN = "tdx-builder: app quickstart ran: "
ROOT = RECIPE.parents[1]


@pytest.fixture(scope="module")
def quickstart(real_release: RealRelease) -> BootPaths:
    return boot_paths(real_release.artifacts, NAMES)


@pytest.fixture(scope="module")
def debian_13(quickstart: BootPaths, debian_13_firmware: bytes, tmp_path_factory: pytest.TempPathFactory) -> BootPaths:
    """The quickstart with firmware that measures ACPI tables, and the kernel as it is."""
    firmware = tmp_path_factory.mktemp("debian-13") / "OVMF.fd"
    firmware.write_bytes(debian_13_firmware)
    return replace(quickstart, firmware=firmware)


def predict(paths: BootPaths, edk2: str, vmm_root: Path) -> Prediction:
    matrix = LaunchMatrix(load_recipe(RECIPE).measure.vmm, edk2, (1,), (GIB,))
    values = reference_values(read_boot_paths(paths), matrix, QemuAcpiReader(vmm_root), SilentProgress())
    return values.predictions[0]


@pytest.fixture(scope="module")
def prediction(debian_13: BootPaths, vmm_root: Path) -> Prediction:
    return predict(debian_13, "202502", vmm_root)


def until_boot_services_end(vmm_root: Path, directory: Path) -> Stage:
    return Stage(QemuTpmBoot(vmm_root, staying=0), directory, limit=LIMIT)


def failures(rehearsal: Rehearsal) -> list[tuple[str | None, str, EventVerdict]]:
    return [(each.register, each.name, each.verdict) for each in rehearsal.failures]


def agreeing(rehearsal: Rehearsal) -> list[str]:
    return [event.name for event in rehearsal.events if event.verdict is EventVerdict.AGREES]


def test_the_quickstart_boots_to_its_app_and_measures_what_is_predicted(
    quickstart: BootPaths, vmm_root: Path, tmp_path: Path
) -> None:
    stage = Stage(QemuTpmBoot(vmm_root), tmp_path, until=RAN, limit=LIMIT)
    rehearsal = rehearse(predict(quickstart, "202211", vmm_root), quickstart, stage, SilentProgress())
    assert failures(rehearsal) == []
    assert (rehearsal.status, rehearsal.end, rehearsal.ready) == (ExitStatus.OK, BootEnd.TEXT_SEEN, True)
    assert len(agreeing(rehearsal)) == 15
    assert not rehearsal.acpi_measured
    assert RAN in (tmp_path / "serial.log").read_text(errors="replace")


def test_tables_that_real_firmware_measures_are_those_that_were_read(
    debian_13: BootPaths, prediction: Prediction, vmm_root: Path, tmp_path: Path
) -> None:
    stage = until_boot_services_end(vmm_root, tmp_path)
    rehearsal = rehearse(prediction, debian_13, stage, SilentProgress())
    assert failures(rehearsal) == []
    assert (rehearsal.status, rehearsal.end) == (ExitStatus.OK, BootEnd.STAYED_UP)
    tables = {"etc/table-loader", "etc/acpi/rsdp", "etc/tpm/log", "etc/acpi/tables"}
    assert tables <= set(agreeing(rehearsal))
    assert len(agreeing(rehearsal)) == 19


def flipped(initrd: Path, directory: Path) -> Path:
    data = bytearray(initrd.read_bytes())
    data[-1] ^= 1
    changed = directory / "initrd.img"
    changed.write_bytes(data)
    return changed


@pytest.mark.parametrize("changed", ["command line", "initrd", "kernel"])
def test_one_changed_input_is_named_by_its_event_and_nothing_else(
    changed: str,
    debian_13: BootPaths,
    prediction: Prediction,
    debian_13_kernel: Path,
    vmm_root: Path,
    tmp_path: Path,
) -> None:
    paths, wanted = {
        "command line": (
            replace(debian_13, command_line=debian_13.command_line + " x"),
            ("rtmr2", "LOADED_IMAGE::LoadOptions", EventVerdict.DIFFERS),
        ),
        "initrd": (
            replace(debian_13, initrd=flipped(debian_13.initrd or Path(), tmp_path)),
            ("rtmr2", "Linux initrd", EventVerdict.DIFFERS),
        ),
        "kernel": (replace(debian_13, kernel=debian_13_kernel), ("rtmr1", "kernel", EventVerdict.DIFFERS)),
    }[changed]
    rehearsal = rehearse(prediction, paths, until_boot_services_end(vmm_root, tmp_path), SilentProgress())
    assert failures(rehearsal) == [wanted]
    assert rehearsal.status is ExitStatus.REGISTER_DIFFERS


def test_tables_of_another_machine_are_a_difference(
    debian_13: BootPaths, prediction: Prediction, vmm_root: Path, tmp_path: Path
) -> None:
    """The prediction is of a machine with a disk and a serial port, but the machine that boots has one device more."""

    class Widened(QemuTpmBoot):
        def boot(self, order: DirectBoot) -> BootObservation:
            observation = super().boot(order)
            vmm = replace(order.shape.vmm, devices=(*order.shape.vmm.devices, "virtio-rng-pci"))
            with self._swtpm.machine_part() as tpm:
                return replace(observation, acpi=self._qemu.read(replace(order.shape, vmm=vmm), tpm))

    stage = replace(until_boot_services_end(vmm_root, tmp_path), emulator=Widened(vmm_root, staying=0))
    rehearsal = rehearse(prediction, debian_13, stage, SilentProgress())
    assert ("rtmr0", "etc/acpi/tables", EventVerdict.DIFFERS) in failures(rehearsal)
    assert rehearsal.status is ExitStatus.REGISTER_DIFFERS


def test_a_boot_that_is_cut_off_is_not_proven(
    debian_13: BootPaths, prediction: Prediction, vmm_root: Path, tmp_path: Path
) -> None:
    stage = Stage(QemuTpmBoot(vmm_root), tmp_path, limit=0.01)
    with pytest.raises(NotProvenError):
        rehearse(prediction, debian_13, stage, SilentProgress())


def running_with(text: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if text in command and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def test_an_interrupted_rehearsal_leaves_no_process(real_release: RealRelease, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "interrupted-rehearsal"
    artifacts = tmp_path / "artifacts-of-an-interrupted-rehearsal"
    artifacts.symlink_to(real_release.artifacts)
    command = [sys.executable, "-m", "builder", "rehearse", RECIPE, "--artifacts", artifacts, "--out", out]
    process = subprocess.Popen(
        [*map(str, command), "--store", str(store), "--offline"], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + LIMIT
        while not (out / "rehearsal/serial.log").exists():
            assert process.poll() is None, f"it ended with {process.returncode}"
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert len(running_with(str(artifacts))) > 1, "the machine runs"
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == ExitStatus.INTERRUPTED
    finally:
        process.kill()
        process.wait()
    assert running_with(str(artifacts)) == []
