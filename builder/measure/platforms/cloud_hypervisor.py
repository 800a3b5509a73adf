"""A TD that Cloud Hypervisor starts with td-shim and a Linux kernel, as a whole."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from builder.errors import DocumentError
from builder.measure.firmware.hob import parse_hob_list
from builder.measure.firmware.tdvf import parse_tdvf
from builder.measure.images.kernel_image import check_kernel
from builder.measure.platforms.registers import platform_registers
from builder.measure.platforms.td_shim import TdShimBoot, td_shim_events, td_shim_mrtd
from builder.measure.platforms.td_shim_hob import CloudHypervisorMachine, acpi_tables_of, td_shim_hob_list
from builder.model.digest import sha384_hex
from builder.model.launch_profile import PageOrder
from builder.model.platform_values import Fact, Platform, PlatformPrediction
from builder.model.size import format_size

TD_SHIM_CAVEATS: Mapping[str, str] = {
    "td_shim_mrtd_unverified": (
        "No quote of a td-shim image was at hand: its MRTD was not confirmed on hardware, and the single pass given is "
        "what td-shim's own tools compute; MRTD is published in both page orders."
    ),
    "td_shim_payload_unverified": (
        "The payload event covers the kernel with zeros up to the end of its section, as td-shim's source has it; the "
        "kernel behind the one log at hand is not public, so that nothing confirmed it. RTMR1 depends on it."
    ),
    "td_shim_rtmr2_at_handover": (
        "RTMR2 is given as td-shim hands over to the kernel: zero. What kernel and user space extend is not covered."
    ),
    "td_shim_hob_version": (
        "The HOB list was built by the source of Cloud Hypervisor; one real list, of a version before 44.0, confirmed "
        "it. RTMR0 depends on it."
    ),
    "td_shim_hob_of_another_machine": (
        "The HOB list given is not the one that Cloud Hypervisor writes for this image, memory and number of address "
        "bits with the ACPI tables in it; RTMR0 is that of the list given."
    ),
}

OLDEST_VERSION = (29, 0)
_RAM_SECTIONS = 2 << 30
_PACKED_SINCE = (44, 0)
_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})(?:\.[0-9]{1,4})?")


@dataclass(frozen=True)
class CloudHypervisorLaunch:
    """Files and machine; `memory` in bytes, `physical_bits` of the CPU's addresses.

    The HOB list is `hob_list`, whole; or it is built from `acpi_tables` in the VMM's order, for which the VMM's
    `version` has to be known; with neither, RTMR[0] is not predicted.
    """

    firmware: bytes
    kernel: bytes
    command_line: str
    memory: int
    physical_bits: int = 46
    acpi_tables: tuple[bytes, ...] = ()
    version: str | None = None
    hob_list: bytes | None = None


def cloud_hypervisor_prediction(launch: CloudHypervisorLaunch) -> PlatformPrediction:
    """The prediction for one machine; RTMR[2] is what td-shim leaves, zero.

    DocumentError for files that are not what they should be, a list and tables at once, tables without a version, and
    what `td_shim_hob_list` and `td_shim_events` refuse.
    """
    check_kernel(launch.kernel)
    _check_memory(launch)
    if launch.version is not None:
        packs_payload_info(launch.version)
    boot = TdShimBoot(launch.kernel, launch.command_line, _hob_list(launch))
    events = td_shim_events(launch.firmware, boot)
    mrtd = td_shim_mrtd(launch.firmware, launch.kernel)
    return PlatformPrediction(
        name=f"cloud-hypervisor-{format_size(launch.memory)}",
        platform=Platform.CLOUD_HYPERVISOR,
        machine=_facts(launch),
        mrtd=mrtd,
        registers=platform_registers(mrtd[PageOrder.SINGLE_PASS], events),
        events=events,
        caveats={key: TD_SHIM_CAVEATS[key] for key in _caveats(launch)},
    )


def _check_memory(launch: CloudHypervisorLaunch) -> None:
    """The image's own sections in RAM lie below 2 GiB; the rest is mapped below 4 GiB whatever the memory is."""
    end = max((each.end for each in parse_tdvf(launch.firmware).sections if each.end <= _RAM_SECTIONS), default=0)
    if launch.memory < end:
        raise DocumentError(
            f"memory of {launch.memory} bytes, the image has sections up to {end:#x}",
            hint="give the machine more memory, or check that the image is this one",
        )


def packs_payload_info(version: str) -> bool:
    """Whether a version of Cloud Hypervisor, such as `44.0`, leaves out padding in its list (`td_shim_hob`).

    DocumentError for what is no version, and for versions before 29.0, whose list was not read.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise DocumentError(f"Cloud Hypervisor {version!r} is not a version", hint="write for example 44.0")
    number = int(match[1]), int(match[2])
    if number < OLDEST_VERSION:
        raise DocumentError(f"Cloud Hypervisor {version}: wanted 29.0 or later")
    return number >= _PACKED_SINCE


def _hob_list(launch: CloudHypervisorLaunch) -> bytes | None:
    if launch.hob_list is not None:
        if launch.acpi_tables:
            raise DocumentError("ACPI tables beside a HOB list that has its own", hint="give one of the two")
        parse_hob_list(launch.hob_list)
        return launch.hob_list
    if not launch.acpi_tables:
        return None
    if launch.version is None:
        raise DocumentError(
            "the HOB list depends on the version of Cloud Hypervisor, which was not given",
            hint="the list has another form from 44.0 on",
        )
    packed = packs_payload_info(launch.version)
    return td_shim_hob_list(launch.firmware, _machine(launch, launch.acpi_tables, packed=packed))


def _machine(launch: CloudHypervisorLaunch, tables: tuple[bytes, ...], *, packed: bool) -> CloudHypervisorMachine:
    return CloudHypervisorMachine(launch.memory, launch.physical_bits, tables, packed_payload_info=packed)


def _is_of_this_machine(launch: CloudHypervisorLaunch, hob_list: bytes) -> bool:
    """Whether the list is what is built for this machine from the tables in it, by any version it can be of."""
    tables = acpi_tables_of(parse_hob_list(hob_list))
    forms = (False, True) if launch.version is None else (packs_payload_info(launch.version),)
    machines = (_machine(launch, tables, packed=packed) for packed in forms)
    return any(td_shim_hob_list(launch.firmware, machine) == hob_list for machine in machines)


def _caveats(launch: CloudHypervisorLaunch) -> Iterator[str]:
    yield from ("td_shim_mrtd_unverified", "td_shim_payload_unverified", "td_shim_rtmr2_at_handover")
    if launch.hob_list is not None and not _is_of_this_machine(launch, launch.hob_list):
        yield "td_shim_hob_of_another_machine"
    elif launch.acpi_tables:
        yield "td_shim_hob_version"


def _facts(launch: CloudHypervisorLaunch) -> Mapping[str, Fact]:
    return {
        "memory": launch.memory,
        "physical_bits": launch.physical_bits,
        "version": launch.version,
        "hob_list": "given" if launch.hob_list is not None else "built" if launch.acpi_tables else None,
        "firmware_sha384": sha384_hex(launch.firmware),
    }
