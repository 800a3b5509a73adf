"""Unified kernel images of Debian's stubs and kernel, booted under emulation, measure what is predicted.

What a stub measures goes to the TPM of the emulated machine; that a TD extends RTMRs with the same is another claim.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest

from builder.backends.boot import QemuTpmBoot
from builder.errors import DocumentError
from builder.measure.boot.disk import image_event, kernel_boot_events
from builder.measure.boot.systemd_stub import UkiStart, stub_version, uki_events
from builder.measure.evidence.guest_log import proven_log
from builder.measure.images.uki import Uki, parse_uki
from builder.measure.profile import firmware_rules
from builder.model.event import EV_SEPARATOR, ExpectedEvent, ParsedEvent, PredictedEvent
from builder.model.launch_profile import CcMeasurement, SecureBootVariable
from builder.model.recipe import VmmSpec
from builder.ports import DirectBoot, MachineShape
from tests.fakes.efi_images import Section, with_sections
from tests.integration.debian import debian_files, debian_root

pytestmark = [pytest.mark.slow, pytest.mark.network]

LIMIT = 900.0
LINE = b" console=ttyS0 panic=-1  \tuki\n"
NO_FILES = (
    b"070701" + b"00000000" * 4 + b"00000001" + b"00000000" * 6 + b"0000000B" + b"00000000" + b"TRAILER!!!\0\0\0\0"
)
INITRD = NO_FILES + b"\0\0\0"  # whose size is no multiple of four
VMM = VmmSpec(
    name="qemu", version="10.0.2", machine="q35,smm=off,pic=off", cpu="Skylake-Server,phys-bits=46", devices=()
)
RULES = firmware_rules("202502", secure_boot_variable=SecureBootVariable.ABSENT, cc_measurement=CcMeasurement.PRESENT)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> QemuTpmBoot:
    """Debian 13's QEMU (10.0) and swtpm; a guest is stopped as soon as it has left boot services."""
    packages = ["qemu-system-x86", "qemu-system-data", "seabios", "swtpm"]
    return QemuTpmBoot(debian_root(tmp_path_factory, "qemu-swtpm-13", suites=["trixie"], packages=packages), staying=0)


@pytest.fixture(scope="module", params=["bookworm", "trixie", "sid"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, debian_13_kernel: Path) -> Uki:
    """A UKI with the stub of this suite."""
    suite = request.param
    root = debian_files(tmp_path_factory, f"stub-{suite}", suites=[suite], packages=["systemd-boot-efi"])
    stub = (root / "usr/lib/systemd/boot/efi/linuxx64.efi.stub").read_bytes()
    sections = [(".osrel", b"ID=test\n"), (".cmdline", LINE), (".initrd", INITRD)]
    kernel = (".linux", debian_13_kernel.read_bytes())
    parsed = parse_uki(with_sections(stub, [Section(name, content) for name, content in (*sections, kernel)]))
    try:
        stub_version(parsed.stub)
    except DocumentError as error:
        pytest.skip(f"{suite}: {error.message}")
    return parsed


def observed(log: Iterable[ParsedEvent], *, stub_measures: bool) -> list[tuple[str, int, str]]:
    """What a TD would extend RTMR[1] and [2] with: one separator, and nothing that the stub tells a TPM only."""
    kept = (event for event in log if event.event_type != EV_SEPARATOR or event.index == 4)
    kept = (event for event in kept if event.index < 10 or stub_measures)
    pairs = [(event.register or "", event.event_type, event.digest) for event in kept]
    return sorted((pair for pair in pairs if pair[0] in ("rtmr1", "rtmr2")), key=lambda pair: pair[0])


def predicted(events: Iterable[ExpectedEvent]) -> list[tuple[str, int, str]]:
    pairs = [(event.register, event.event_type, event.digest) for event in events if isinstance(event, PredictedEvent)]
    return sorted((pair for pair in pairs if pair[0] != "rtmr0"), key=lambda pair: pair[0])


@pytest.mark.parametrize("given", ["", "console=ttyS0 panic=-1 given"])
def test_a_uki_given_as_kernel_measures_what_is_predicted(
    image: Uki, given: str, debian_13_firmware: bytes, emulator: QemuTpmBoot, tmp_path: Path
) -> None:
    (tmp_path / "uki.efi").write_bytes(image.image)
    (tmp_path / "OVMF.fd").write_bytes(debian_13_firmware)
    version = emulator.programs()["qemu"]
    vmm = VmmSpec("qemu", version, "q35,smm=off,pic=off", "Skylake-Server,phys-bits=46", devices=())
    order = DirectBoot(
        shape=MachineShape(vmm, vcpus=1, memory=1 << 30, edk2="202502"),
        firmware=tmp_path / "OVMF.fd",
        kernel=tmp_path / "uki.efi",
        initrd=None,
        disk=None,
        command_line=given,
        until=None,
        limit=LIMIT,
        serial_log=tmp_path / "serial.log",
    )
    observation = emulator.boot(order)
    log = proven_log(observation.candidates, observation.pcrs)
    chain = uki_events(image, UkiStart(given, from_disk=False))
    expected = kernel_boot_events(RULES, kernel=image_event("UKI", image.image), chain=chain)
    assert observed(log, stub_measures=stub_version(image.stub) >= 256) == predicted(expected)
