"""A TD on Google Compute Engine as a whole: MRTD, events and registers, with what has to be known of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from builder.errors import DocumentError
from builder.measure.firmware.mrtd import mrtd_for
from builder.measure.firmware.state import variable_store
from builder.measure.firmware.tdvf import parse_tdvf
from builder.measure.platforms.gce import (
    GCE_ENDORSED_MRTDS,
    GceMachine,
    gce_mrtd,
    gce_mrtd_of_all_sections,
    gce_rtmr0_events,
)
from builder.measure.platforms.gce_td_hob import EarlyAccept
from builder.measure.platforms.registers import platform_registers
from builder.model.digest import sha384_hex
from builder.model.event import (
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_VARIABLE_AUTHORITY,
    EV_IPL,
    ExpectedEvent,
    UnpredictedEvent,
)
from builder.model.launch_profile import PageOrder
from builder.model.platform_values import Fact, Platform, PlatformPrediction

GCE_CAVEATS: Mapping[str, str] = {
    "gce_mrtd_unverified": (
        "MRTD of GCE firmware was not confirmed by a quote here: its page order is that of google/gce-tcb-verifier, "
        "and the known pairs of firmware and MRTD are those that flashbots/dstack-mr-gcp states."
    ),
    "gce_firmware_unknown": (
        "This firmware is not among those whose endorsement is known here; MRTD was computed from the file. Whether "
        "Google runs it, only Google's endorsement says: `ovmf_x64_csm/tdx/<MRTD>.binarypb` in its bucket "
        "`gce_tcb_integrity`."
    ),
    "gce_layout_assumed": (
        "No firmware file was given: the TD HOB event is that of the section layout behind every published digest of "
        "GCE."
    ),
    "gce_numa_unverified": (
        "Machine types with several NUMA nodes follow google/gce-tcb-verifier; no digest of such a TD is public."
    ),
    "gce_variable_store_unverified": (
        "The variable store is taken to be that of the firmware file; no log with its firmware was at hand."
    ),
    "gce_boot_variables_assumed": (
        "BootOrder and Boot#### hold for a VM whose persistent disks are on the NVMe controller stated, and that has "
        "nothing else to start from; they agree with the published digests of one and two disks."
    ),
    "gce_every_section_unverified": (
        "The VMM that extended every section is modelled as google/gce-tcb-verifier does; no value of such a TD is "
        "public."
    ),
}

_NO_FIRMWARE = "neither the firmware nor its digest was given"
_NO_DISK = "what the VM starts from was not given"


@dataclass(frozen=True)
class GceBoot:
    """What is measured of the disk that the VM starts from: all events of RTMR[1] and RTMR[2], and of RTMR[0] those
    after the boot variables, each register's in order; with the caveats of the modules that predicted them."""

    events: tuple[ExpectedEvent, ...]
    caveats: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GceLaunch:
    """A VM, its firmware as a file or by SHA-384 (hex), and what it starts from; None for what is not known.

    `every_section_measured` means the old VMM whose MRTD has all sections (`measurement.md` 3.3).
    """

    machine: GceMachine
    firmware: bytes | None = None
    firmware_sha384: str | None = None
    every_section_measured: bool = False
    boot: GceBoot | None = None


def gce_prediction(launch: GceLaunch, *, endorsed: Mapping[str, str] = GCE_ENDORSED_MRTDS) -> PlatformPrediction:
    """The prediction for one VM.

    DocumentError for a firmware digest that is not the file's or, without a file, not among the `endorsed`, and for the
    old VMM without a file; RegisterDiffersError for a file whose MRTD is not the endorsed one.
    """
    mrtd = _mrtd(launch, endorsed)
    events = (*_rtmr0_events(launch), *_boot_events(launch.boot))
    return PlatformPrediction(
        name=launch.machine.machine_type.name,
        platform=Platform.GCE,
        machine=_facts(launch),
        mrtd={} if mrtd is None else {PageOrder.SINGLE_PASS: mrtd},
        registers=platform_registers(mrtd, events),
        events=events,
        caveats={**{key: GCE_CAVEATS[key] for key in _caveats(launch, endorsed)}, **_boot_caveats(launch.boot)},
        unknown_mrtd=_NO_FIRMWARE if mrtd is None else None,
    )


def _mrtd(launch: GceLaunch, endorsed: Mapping[str, str]) -> str | None:
    if launch.firmware is None:
        return _mrtd_by_digest(launch, endorsed)
    digest = sha384_hex(launch.firmware)
    if launch.firmware_sha384 not in (None, digest):
        raise DocumentError(f"firmware: SHA-384 {digest}, wanted {launch.firmware_sha384}")
    if launch.every_section_measured:
        machine_type = launch.machine.machine_type
        return gce_mrtd_of_all_sections(launch.firmware, machine_type, early_accept=EarlyAccept.BELOW_4_GIB)
    if digest in endorsed:
        return gce_mrtd(launch.firmware, endorsed=endorsed)
    return mrtd_for(launch.firmware, PageOrder.SINGLE_PASS).hex()


def _mrtd_by_digest(launch: GceLaunch, endorsed: Mapping[str, str]) -> str | None:
    if launch.every_section_measured:
        raise DocumentError("GCE: the MRTD of every section needs the firmware file", hint="give the file itself")
    if launch.firmware_sha384 is None:
        return None
    if launch.firmware_sha384 not in endorsed:
        raise DocumentError(
            f"firmware: SHA-384 {launch.firmware_sha384} is none of the {len(endorsed)} known ones of GCE",
            hint=f"give the file itself; known are {', '.join(endorsed)}",
        )
    return endorsed[launch.firmware_sha384]


def _rtmr0_events(launch: GceLaunch) -> tuple[ExpectedEvent, ...]:
    early_accept = EarlyAccept.BELOW_4_GIB if launch.every_section_measured else EarlyAccept.ALL
    if launch.firmware is None:
        return gce_rtmr0_events(launch.machine, early_accept=early_accept)
    return gce_rtmr0_events(
        launch.machine,
        metadata=parse_tdvf(launch.firmware),
        variable_store=variable_store(launch.firmware),
        early_accept=early_accept,
    )


def _boot_events(boot: GceBoot | None) -> tuple[ExpectedEvent, ...]:
    if boot is not None:
        return boot.events
    return (
        UnpredictedEvent("rtmr0", EV_EFI_VARIABLE_AUTHORITY, "variables of the boot loader", _NO_DISK, repeats=True),
        UnpredictedEvent(
            "rtmr1", EV_EFI_BOOT_SERVICES_APPLICATION, "partition table and boot loader", _NO_DISK, repeats=True
        ),
        UnpredictedEvent("rtmr2", EV_IPL, "boot loader and kernel", _NO_DISK, repeats=True),
    )


def _boot_caveats(boot: GceBoot | None) -> Mapping[str, str]:
    return {} if boot is None else boot.caveats


def _caveats(launch: GceLaunch, endorsed: Mapping[str, str]) -> Iterator[str]:
    if launch.firmware is not None and sha384_hex(launch.firmware) not in endorsed:
        yield "gce_firmware_unknown"
    if launch.firmware is not None or launch.firmware_sha384 is not None:
        yield "gce_mrtd_unverified"
    if launch.every_section_measured:
        yield "gce_every_section_unverified"
    yield "gce_layout_assumed" if launch.firmware is None else "gce_variable_store_unverified"
    if launch.machine.machine_type.nodes > 1:
        yield "gce_numa_unverified"
    yield "gce_boot_variables_assumed"


def _facts(launch: GceLaunch) -> Mapping[str, Fact]:
    machine = launch.machine
    return {
        "machine_type": machine.machine_type.name,
        "memory": machine.machine_type.memory,
        "numa_nodes": machine.machine_type.nodes,
        "firmware_sha384": launch.firmware_sha384 if launch.firmware is None else sha384_hex(launch.firmware),
        "every_section_measured": launch.every_section_measured,
        "secure_boot": machine.secure_boot,
        "disks": machine.disks,
        "disk_controller": machine.disk_controller,
    }
