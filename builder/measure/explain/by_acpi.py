"""Which machine a set of ACPI digests fits (`acpi.md` 5 to 9): one thing changed, then vCPUs and memory together."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product

from builder.errors import DocumentError
from builder.measure.explain.case import AcpiDigester, Candidate, Case, memory_text
from builder.model.event import EV_PLATFORM_CONFIG_FLAGS
from builder.model.launch_profile import LaunchProfile
from builder.model.reference_values import AcpiDigests

_GIB = 1 << 30
_SWITCHES = ("pic", "smm", "hpet")
_SERIAL = "serial"
_SOME_DEVICE = "virtio-rng-pci"
# one version of each generation of tables, and of each default (`acpi.md` 8, `measurement.md` 9.1)
_VERSIONS = ("7.2.22", "8.2.2", "9.1.0", "9.2.1", "10.0.2", "10.1.0", "10.2.1", "11.0.0", "11.1.3")
_VCPUS = (*range(1, 65), 72, 80, 88, 96, 112, 120, 128, 144, 160, 176, 192, 224, 240, 255, 256)
_MEMORY = (*(_GIB * gibibytes for gibibytes in (*range(1, 17), 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)),)
_COMMON_VCPUS = (1, 2, 4, 8, 16, 32, 64)
_COMMON_MEMORY = tuple(_GIB * gibibytes for gibibytes in (1, 2, 4, 8, 16, 32, 64, 128))

_Neighbour = tuple[str, LaunchProfile]


def acpi_candidates(case: Case) -> Iterator[Candidate]:
    """Machines whose three ACPI files were all measured by the log, each as the digest of the event in question.

    All three have to be there, because the loader script alone says little: many machines share one.
    """
    found = case.found_digest
    if found is not None:
        measured = _measured(case)
        yield from ((found, text) for text, profile in acpi_neighbours(case.profile) if _fits(case, profile, measured))


def tables_at(case: Case, memory: int) -> Iterator[str]:
    """Whether the log's ACPI tables are those of a machine with this much memory, and of how many vCPUs."""
    profile, measured = replace(case.profile, memory=memory), _measured(case)
    for vcpus in (profile.vcpus, *_VCPUS):
        if _fits(case, replace(profile, vcpus=vcpus), measured):
            what = f"{vcpus} vCPUs, as predicted" if vcpus == profile.vcpus else _vcpus_text(profile, vcpus)
            yield f"the ACPI tables are those of this memory, too, with {what}"
            return


def _measured(case: Case) -> set[str]:
    return {
        event.digest
        for event in case.observed
        if event.register == "rtmr0" and event.event_type == EV_PLATFORM_CONFIG_FLAGS
    }


def _fits(case: Case, profile: LaunchProfile, measured: set[str]) -> bool:
    digests = _digests(case.materials.acpi, profile) if case.materials.acpi else None
    return digests is not None and {digests.loader, digests.rsdp, digests.tables} <= measured


def _digests(acpi: AcpiDigester, profile: LaunchProfile) -> AcpiDigests | None:
    digests = acpi(profile)
    return None if isinstance(digests, DocumentError) else digests


def acpi_neighbours(profile: LaunchProfile) -> Iterator[_Neighbour]:
    """Other machines, nearest first, each with what is different about it."""
    yield from _other_vcpus(profile, _VCPUS)
    yield from _other_memory(profile, _MEMORY)
    yield from _other_switches(profile)
    yield from _other_devices(profile)
    yield from _other_versions(profile)
    for vcpus, memory in product(_COMMON_VCPUS, _COMMON_MEMORY):
        if vcpus != profile.vcpus and memory != profile.memory:
            text = f"{_vcpus_text(profile, vcpus)}; {_memory_text(profile, memory)}"
            yield text, replace(profile, vcpus=vcpus, memory=memory)


def _other_vcpus(profile: LaunchProfile, counts: Iterable[int]) -> Iterator[_Neighbour]:
    for vcpus in counts:
        if vcpus != profile.vcpus:
            yield _vcpus_text(profile, vcpus), replace(profile, vcpus=vcpus)


def _other_memory(profile: LaunchProfile, sizes: Iterable[int]) -> Iterator[_Neighbour]:
    for memory in sizes:
        if memory != profile.memory:
            yield _memory_text(profile, memory), replace(profile, memory=memory)


def _other_switches(profile: LaunchProfile) -> Iterator[_Neighbour]:
    """Machine options one by one; what the option says now decides what is tried."""
    vmm = profile.vmm
    for name, value in product(_SWITCHES, ("on", "off")):
        machine = _with_switch(vmm.machine, name, value)
        if machine != vmm.machine:
            yield (
                f"{name} is {value}, predicted for {vmm.machine!r}",
                replace(profile, vmm=replace(vmm, machine=machine)),
            )
    other = not vmm.bridge_hotplug
    state = "on" if other else "off"
    yield f"ACPI hotplug of bridges is {state}", replace(profile, vmm=replace(vmm, bridge_hotplug=other))
    if vmm.pci_hole64 is not None:
        yield "the 64-bit PCI hole has QEMU's default size", replace(profile, vmm=replace(vmm, pci_hole64=None))


def _with_switch(machine: str, name: str, value: str) -> str:
    options = [option for option in machine.split(",") if option.partition("=")[0] != name]
    return ",".join([*options, f"{name}={value}"]) if f"{name}={value}" not in machine.split(",") else machine


def _other_devices(profile: LaunchProfile) -> Iterator[_Neighbour]:
    devices = profile.vmm.devices
    for index, device in enumerate(devices):
        what = "no serial port" if device == _SERIAL else f"no {device}"
        yield f"{what}, predicted with it", _with_devices(profile, (*devices[:index], *devices[index + 1 :]))
    if _SERIAL not in devices:
        yield "a serial port, predicted without", _with_devices(profile, (*devices, _SERIAL))
    yield "one PCI device more than predicted", _with_devices(profile, (*devices, _SOME_DEVICE))


def _with_devices(profile: LaunchProfile, devices: tuple[str, ...]) -> LaunchProfile:
    return replace(profile, vmm=replace(profile.vmm, devices=devices))


def _other_versions(profile: LaunchProfile) -> Iterator[_Neighbour]:
    vmm = profile.vmm
    for version in _VERSIONS:
        if version != vmm.version:
            text = f"the tables are those of QEMU {version}, predicted for {vmm.version}"
            yield text, replace(profile, vmm=replace(vmm, version=version))


def _vcpus_text(profile: LaunchProfile, vcpus: int) -> str:
    return f"{vcpus} vCPU{'' if vcpus == 1 else 's'}, predicted for {profile.vcpus}"


def _memory_text(profile: LaunchProfile, memory: int) -> str:
    return f"memory is {memory_text(memory)}, predicted for {memory_text(profile.memory)}"
