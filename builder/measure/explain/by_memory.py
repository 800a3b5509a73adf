"""Which memory size and section layout a TD HOB digest fits (`measurement.md` 4)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from builder.errors import DocumentError
from builder.measure.explain.case import Case, memory_text
from builder.measure.firmware.td_hob import td_hob_list
from builder.measure.firmware.tdvf import SectionType, TdvfMetadata, TdvfSection, parse_tdvf
from builder.measure.platforms.gce_td_hob import GCE_MACHINE_TYPES, gce_ram_banks, gce_td_hob_list
from builder.model.digest import sha384_hex

_MIB, _GIB, _TIB = 1 << 20, 1 << 30, 1 << 40


def _layout(address: int) -> TdvfMetadata:
    """The sections that all builds of edk2 have, and the one that tells them apart, which ends at 0x820000."""
    ranges = (
        (SectionType.TEMP_MEM, address, 0x820000 - address),
        (SectionType.TEMP_MEM, 0x80B000, 0x2000),
        (SectionType.TD_HOB, 0x809000, 0x2000),
        (SectionType.TEMP_MEM, 0x800000, 0x6000),
    )
    return TdvfMetadata(
        tuple(TdvfSection(kind, 0, 0, start, size, extends=False, augments=False) for kind, start, size in ranges)
    )


# `measurement.md` 4.2, with the builds of edk2 that have it
LAYOUTS: Mapping[str, TdvfMetadata] = {
    "S (OvmfPkgX64 from 202405 to 202508)": _layout(0x811000),
    "S2 (IntelTdxX64, and OvmfPkgX64 to 202402)": _layout(0x810000),
    "S3 (OvmfPkgX64 from 202511)": _layout(0x814000),
}


@dataclass(frozen=True)
class HobFit:
    """A TD HOB list with the digest that was found: of how much memory, None for another VMM's, and as a sentence."""

    memory: int | None
    sentence: str


def memory_sizes() -> Iterator[int]:
    """Sizes worth trying, from 256 MiB to 4 TiB, the common ones first: every GiB up to 64 GiB, every MiB up to 4 GiB,
    every 128 MiB up to 64 GiB, every GiB up to 1 TiB, every 16 GiB beyond, and multiples of 1000 MiB. The same size may
    come twice."""
    yield from range(_GIB, 64 * _GIB, _GIB)
    yield from range(256 * _MIB, 4 * _GIB, _MIB)
    yield from range(4 * _GIB, 64 * _GIB, 128 * _MIB)
    yield from range(64 * _GIB, _TIB, _GIB)
    yield from range(_TIB, 4 * _TIB + 1, 16 * _GIB)
    yield from range(5000 * _MIB, 1_000_000 * _MIB, 1000 * _MIB)


def fitting_td_hob(case: Case) -> HobFit | None:
    """The list that the log's digest fits, of QEMU with the predicted layout, with another, or of GCE; None if none of
    those tried does. There is never a second one: the list says how much memory there is and where the sections are."""
    for digest, fit in _lists(case):
        if digest == case.found_digest:
            return fit
    return None


def _lists(case: Case) -> Iterator[tuple[str, HobFit]]:
    predicted = case.profile.memory
    own = _own_layout(case)
    if own is not None:
        yield from _of_layout(own, "", predicted)
    for name, layout in LAYOUTS.items():
        if _digest(layout, predicted) != case.predicted_digest:
            yield from _of_layout(layout, f"the firmware has section layout {name}, not the predicted one; ", predicted)
    yield from _gce(case)


def _own_layout(case: Case) -> TdvfMetadata | None:
    """The layout of the firmware at hand, or the known one that gives the predicted digest."""
    if case.materials.firmware is not None:
        return parse_tdvf(case.materials.firmware)
    for layout in LAYOUTS.values():
        if _digest(layout, case.profile.memory) == case.predicted_digest:
            return layout
    return None


def _of_layout(layout: TdvfMetadata, prefix: str, predicted: int) -> Iterator[tuple[str, HobFit]]:
    for memory in (predicted, *memory_sizes()):
        digest = _digest(layout, memory)
        if digest is not None:
            yield digest, HobFit(memory, prefix + _memory_sentence(memory, predicted))


def _memory_sentence(memory: int, predicted: int) -> str:
    if memory == predicted:
        return f"memory is {memory_text(memory)}, as predicted"
    return f"memory is {memory_text(memory)}, predicted for {memory_text(predicted)}"


def _digest(layout: TdvfMetadata, memory: int) -> str | None:
    try:
        return sha384_hex(td_hob_list(layout, memory))
    except DocumentError:
        return None  # this firmware does not start with so little


def _gce(case: Case) -> Iterator[tuple[str, HobFit]]:
    if case.materials.firmware is None:
        return
    metadata = parse_tdvf(case.materials.firmware)
    for machine in GCE_MACHINE_TYPES.values():
        try:
            digest = sha384_hex(gce_td_hob_list(metadata, gce_ram_banks(machine)))
        except DocumentError:
            continue
        yield digest, HobFit(None, f"the list is the one that GCE writes for machine type {machine.name}")
