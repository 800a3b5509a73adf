"""Unified kernel images of Debian's stubs and kernel, booted under emulation, measure what is predicted: given to QEMU
in the place of a kernel, and on a disk, by themselves and from the menu of systemd-boot.

What a stub measures goes to the TPM of the emulated machine; that a TD extends RTMRs with the same is another claim.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest

from builder.backends.emulator.boot import QemuTpmBoot
from builder.backends.esp import MtoolsPartition
from builder.errors import DocumentError
from builder.measure import Measurer, launch_profiles
from builder.measure.boot.systemd_stub import stub_version
from builder.measure.evidence.guest_log import proven_log
from builder.measure.images.uki import parse_uki
from builder.model.event import EV_EFI_VARIABLE_BOOT, EV_EVENT_TAG, EV_SEPARATOR, ParsedEvent, PredictedEvent
from builder.model.launch_profile import BootFiles
from builder.model.recipe import VmmSpec
from builder.model.reference_values import AcpiDigests, Prediction
from builder.pipeline.boot_disk import LOADER, read_boot_disk
from builder.ports import DirectBoot, MachineShape
from tests.fakes.efi_images import Section, with_sections
from tests.fakes.gpt_disks import make_disk
from tests.integration.debian import debian_files, debian_root

pytestmark = [pytest.mark.slow, pytest.mark.network]

LIMIT = 900.0
LINE = b" console=ttyS0 panic=-1  \tuki\n"
GIVEN = "console=ttyS0 panic=-1 given"
NO_FILES = (
    b"070701" + b"00000000" * 4 + b"00000001" + b"00000000" * 6 + b"0000000B" + b"00000000" + b"TRAILER!!!\0\0\0\0"
)
INITRD = NO_FILES + b"\0\0\0"  # whose size is no multiple of four


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> QemuTpmBoot:
    """Debian 13's QEMU (10.0) and swtpm; a guest is stopped as soon as it has left boot services."""
    packages = ["qemu-system-x86", "qemu-system-data", "seabios", "swtpm"]
    return QemuTpmBoot(debian_root(tmp_path_factory, "qemu-swtpm-13", suites=["trixie"], packages=packages), staying=0)


def systemd_files(factory: pytest.TempPathFactory, suite: str) -> Path:
    """Stub and boot menu of this suite."""
    return (
        debian_files(factory, f"stub-{suite}", suites=[suite], packages=["systemd-boot-efi"])
        / "usr/lib/systemd/boot/efi"
    )


def uki_of(factory: pytest.TempPathFactory, suite: str, kernel: Path) -> bytes:
    """A UKI with the stub of this suite."""
    stub = (systemd_files(factory, suite) / "linuxx64.efi.stub").read_bytes()
    sections = [(".osrel", b"ID=test\n"), (".cmdline", LINE), (".initrd", INITRD), (".linux", kernel.read_bytes())]
    image = with_sections(stub, [Section(name, content) for name, content in sections])
    stub_text = parse_uki(image).stub
    try:
        stub_version(stub_text)  # a suite may have moved on to a stub whose rules nobody has looked at
    except DocumentError as error:
        pytest.skip(f"{suite}: {error.message}")
    return image


def observed(log: Iterable[ParsedEvent], *, stub_measures: bool) -> list[tuple[str, int, str]]:
    """What a TD would extend RTMR[1] and [2] with: one separator, and nothing that stub and menu tell a TPM only.

    The menu's configuration in PCR 5 is of that kind before systemd 260.
    """
    kept = (event for event in log if event.event_type != EV_SEPARATOR or event.index == 4)
    kept = (event for event in kept if event.index < 10 or stub_measures)
    kept = (event for event in kept if (event.index, event.event_type) != (5, EV_EVENT_TAG))
    pairs = [(event.register or "", event.event_type, event.digest) for event in kept]
    return sorted((pair for pair in pairs if pair[0] in ("rtmr1", "rtmr2")), key=lambda pair: pair[0])


def predicted(prediction: Prediction) -> list[tuple[str, int, str]]:
    events = [event for event in prediction.events if isinstance(event, PredictedEvent)]
    return [(event.register, event.event_type, event.digest) for event in events if event.register != "rtmr0"]


def boot(emulator: QemuTpmBoot, files: BootFiles, directory: Path, *, disk: Path | None = None) -> bool:
    """Boot and compare; gives whether all of RTMR[1] and [2] was predicted."""
    (directory / "OVMF.fd").write_bytes(files.firmware)
    (directory / "uki.efi").write_bytes(files.kernel)
    devices = () if disk is None else ("virtio-blk-pci,addr=0x4,drive=disk0",)
    version = emulator.programs()["qemu"]
    vmm = VmmSpec("qemu", version, "q35,smm=off,pic=off", "Skylake-Server,phys-bits=46", devices=devices)
    (profile,) = launch_profiles(files, vmm=vmm, edk2="202502", shapes=[(1, 1 << 30)])
    order = DirectBoot(
        shape=MachineShape(vmm, vcpus=1, memory=1 << 30, edk2="202502"),
        firmware=directory / "OVMF.fd",
        kernel=None if disk else directory / "uki.efi",
        initrd=None,
        disk=disk,
        command_line=files.command_line,
        until=None,
        limit=LIMIT,
        serial_log=directory / "serial.log",
    )
    observation = emulator.boot(order)
    log = proven_log(observation.candidates, observation.pcrs)
    prediction = Measurer(files).predict(profile, AcpiDigests("0" * 96, "0" * 96, "0" * 96))
    variables = [event.digest for event in log if event.event_type == EV_EFI_VARIABLE_BOOT]
    assert variables == [
        event.digest
        for event in prediction.of_register("rtmr0")
        if isinstance(event, PredictedEvent) and event.event_type == EV_EFI_VARIABLE_BOOT
    ]
    image = parse_uki(files.disk.next_image if files.disk and files.disk.next_image else files.kernel)
    assert observed(log, stub_measures=stub_version(image.stub) >= 256) == predicted(prediction)
    return None not in (prediction.registers.rtmr1, prediction.registers.rtmr2)


@pytest.mark.parametrize(("suite", "given"), [("trixie", ""), ("sid", GIVEN)])
def test_a_uki_given_as_kernel_measures_what_is_predicted(
    suite: str,
    given: str,
    debian_13_firmware: bytes,
    debian_13_kernel: Path,
    emulator: QemuTpmBoot,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    image = uki_of(tmp_path_factory, suite, debian_13_kernel)
    assert boot(emulator, BootFiles(debian_13_firmware, image, None, given), tmp_path)


@pytest.mark.parametrize(("suite", "menu"), [("bookworm", False), ("trixie", True)], ids=["UKI", "systemd-boot"])
def test_a_uki_on_a_disk_measures_what_is_predicted_from_the_image(
    suite: str,
    menu: bool,
    debian_13_firmware: bytes,
    debian_13_kernel: Path,
    emulator: QemuTpmBoot,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    image = uki_of(tmp_path_factory, suite, debian_13_kernel)
    loader = (systemd_files(tmp_path_factory, suite) / "systemd-bootx64.efi").read_bytes()
    content = {LOADER: loader, "/EFI/Linux/test.efi": image, "/loader/loader.conf": b"timeout 0\n"}
    disk = make_disk(tmp_path / "disk.img", content if menu else {LOADER: image})
    found = read_boot_disk(disk, MtoolsPartition)
    files = BootFiles(debian_13_firmware, found.loader, None, "", found.disk)
    assert boot(emulator, files, tmp_path, disk=disk)
