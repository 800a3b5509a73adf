"""The boot that a prediction describes, as an emulated machine with a TPM would leave it, and a BootEmulator of it."""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache

from builder.measure import Measurer, blobs_for, launch_profiles
from builder.measure.acpi.blobs import AcpiBlobs
from builder.measure.evidence.guest_log import Log, replay_pcrs
from builder.measure.rehearsal import BootObservation
from builder.measure.rtmr import ZERO
from builder.model.event import (
    EV_EFI_ACTION,
    EV_EFI_HANDOFF_TABLES2,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_EVENT_TAG,
    EV_PLATFORM_CONFIG_FLAGS,
    EV_SEPARATOR,
    ParsedEvent,
    PredictedEvent,
)
from builder.model.recipe import VmmSpec
from builder.model.reference_values import Prediction
from builder.model.rehearsal import BootEnd
from builder.ports import DirectBoot
from tests.fakes.boot_files import acpi_tables, log_header, log_record
from tests.fakes.small_release import FILES

ALGORITHMS = ((4, 20), (0xB, 32), (0xC, 48), (0xD, 64))
LOG_HEADER = log_header(ALGORITHMS, index=0)
SEPARATOR = hashlib.sha384(bytes(4)).hexdigest()
VMM = VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off", "Skylake-Server,phys-bits=46", ("serial",))
TPM_LOG_DIGEST = hashlib.sha384(bytes(65536)).hexdigest()


@cache
def predicted(edk2: str = "202502") -> Prediction:
    """What a small image leads to on one machine."""
    (profile,) = launch_profiles(FILES, vmm=VMM, edk2=edk2, shapes=[(1, 1 << 30)])
    return Measurer(FILES).predict(profile, blobs_for(acpi_tables(1)))


def acpi_with_tpm(vcpus: int = 1) -> AcpiBlobs:
    """Blobs of the same machine with a TPM: other tables, and a loader that allocates the TPM's log too."""
    blobs = blobs_for(acpi_tables(vcpus, dsdt=b"shape with a TPM"))
    allocate = struct.pack("<I56sIB63x", 1, b"etc/tpm/log", 1, 1)
    return replace(blobs, loader=blobs.loader[:128] + allocate + blobs.loader[128:-128])


def event(pcr: int, event_type: int, digest: str, *, data: bytes = b"", name: str = "") -> ParsedEvent:
    register = {0: None, 1: "rtmr0", 7: "rtmr0"}.get(pcr, "rtmr1" if pcr < 8 else "rtmr2" if pcr < 16 else None)
    return ParsedEvent(0, pcr, register, event_type, digest, data, name)


def tpm_log(prediction: Prediction, acpi: AcpiBlobs) -> Log:
    """The log of a firmware that measures exactly what was predicted, into PCRs, with the tables in `acpi`."""
    return tuple(_log(prediction, acpi))


def _log(prediction: Prediction, acpi: AcpiBlobs) -> Iterator[ParsedEvent]:
    yield event(0, 0x8, "8" * 96)
    yield event(0, 0x80000008, "9" * 96)
    separated = False
    for each in _in_log_order(prediction):
        if each.event_type in (EV_EFI_HANDOFF_TABLES2, EV_EFI_PLATFORM_FIRMWARE_BLOB2):
            continue
        if each.event_type == EV_PLATFORM_CONFIG_FLAGS:
            yield from _acpi_events(acpi) if each.name == "etc/table-loader" else ()
        elif each.event_type == EV_SEPARATOR and separated:
            yield from (event(pcr, EV_SEPARATOR, each.digest, name=each.name) for pcr in range(7))
        else:
            separated = separated or each.event_type == EV_SEPARATOR
            yield event(_pcr(each), each.event_type, each.digest, name=each.name)


def _in_log_order(prediction: Prediction) -> list[PredictedEvent]:
    """RTMR2 before the last two actions, as a kernel measures before it leaves boot services."""
    events = [each for each in prediction.events if isinstance(each, PredictedEvent)]
    last = [each for each in events if each.name.startswith("Exit Boot Services")]
    return [each for each in events if each not in last] + last


def _acpi_events(acpi: AcpiBlobs) -> Iterator[ParsedEvent]:
    digests = acpi.digests()
    for digest in (digests.loader, digests.rsdp, TPM_LOG_DIGEST, digests.tables):
        yield event(1, EV_PLATFORM_CONFIG_FLAGS, digest, name="ACPI DATA")


def _pcr(each: PredictedEvent) -> int:
    if each.event_type in (EV_EFI_VARIABLE_DRIVER_CONFIG, EV_SEPARATOR):
        return 7
    if each.event_type == EV_EVENT_TAG:
        return 9
    if each.event_type == EV_EFI_ACTION and each.name.startswith("Exit"):
        return 5
    return 1 if each.register == "rtmr0" else 4


def pcrs_after(log: Iterable[ParsedEvent]) -> dict[int, str]:
    """All 24 PCRs of a TPM that was extended with these events."""
    return {**dict.fromkeys(range(24), ZERO.hex()), **replay_pcrs(log)}


def encoded_records(log: Iterable[ParsedEvent]) -> bytes:
    """Records of a log with four banks, as the firmware writes them."""
    sizes = {algorithm: size for algorithm, size in ALGORITHMS if algorithm != 0xC}
    return b"".join(
        log_record(
            each.index,
            each.event_type,
            [(4, bytes(sizes[4])), (0xB, bytes(sizes[0xB])), (0xC, bytes.fromhex(each.digest)), (0xD, bytes(64))],
            each.data,
        )
        for each in log
    )


@dataclass
class FakeEmulator:
    """Boots nothing: `leave` makes what the boot of an order leaves behind. `orders` remembers what was booted."""

    leave: Callable[[DirectBoot], BootObservation]
    orders: list[DirectBoot] = field(default_factory=list)

    def programs(self) -> dict[str, str]:
        return {"qemu": "10.0.2", "swtpm": "0.7.1"}

    def boot(self, order: DirectBoot) -> BootObservation:
        self.orders.append(order)
        order.serial_log.write_bytes(b"guest says hello\r\n")
        return self.leave(order)


def observation(log: Log, *, end: BootEnd = BootEnd.POWERED_OFF, acpi: AcpiBlobs | None = None) -> BootObservation:
    """A boot that left this log, and a TPM that agrees with it."""
    programs = {"qemu": "10.0.2", "swtpm": "0.7.1"}
    return BootObservation([log], pcrs_after(log), acpi or acpi_with_tpm(), end, programs)


def honest_observation(prediction: Prediction) -> BootObservation:
    """The boot of firmware that measures what was predicted."""
    return observation(tpm_log(prediction, acpi_with_tpm(prediction.profile.vcpus)))
