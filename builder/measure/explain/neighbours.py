"""What a difference means: trying what is near the prediction, and saying which of it fits.

Every statement was checked: the digest that the log has is the one of the neighbour named. Where nothing tried fits,
nothing is said; a statement that fits need not be the only one, so all that do are given.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

from builder.measure.explain.by_acpi import acpi_candidates, tables_at
from builder.measure.explain.by_boot import (
    boot_variable_candidates,
    covered_data_candidates,
    fw_cfg_candidates,
    initrd_candidates,
    kernel_candidates,
    load_options_candidates,
    secure_boot_candidates,
    variable_store_candidates,
)
from builder.measure.explain.by_layout import layout_statements
from builder.measure.explain.by_memory import fitting_td_hob
from builder.measure.explain.case import Candidate, Case, Materials, memory_text
from builder.model.event import (
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_HANDOFF_TABLES2,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    EV_EFI_VARIABLE_BOOT,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_EVENT_TAG,
    EV_PLATFORM_CONFIG_FLAGS,
    PredictedEvent,
)
from builder.model.launch_profile import LaunchProfile
from builder.model.reference_values import Prediction, ReferenceValues

__all__ = ["Case", "Materials", "explain", "explain_mrtd"]

_MOST_STATEMENTS = 5

_Generator = Callable[[Case], Iterator[Candidate]]
_GENERATORS: Mapping[int, tuple[_Generator, ...]] = {
    EV_EFI_PLATFORM_FIRMWARE_BLOB2: (variable_store_candidates,),
    EV_EFI_VARIABLE_DRIVER_CONFIG: (secure_boot_candidates,),
    EV_PLATFORM_CONFIG_FLAGS: (fw_cfg_candidates, acpi_candidates),
    EV_EFI_VARIABLE_BOOT: (boot_variable_candidates,),
    EV_EFI_BOOT_SERVICES_APPLICATION: (kernel_candidates,),
    EV_EVENT_TAG: (load_options_candidates, initrd_candidates),
}
# the parts of a launch profile that decide an event of this type; for any other type, all of them
_DECIDING: Mapping[int, tuple[str, ...]] = {
    EV_EFI_HANDOFF_TABLES2: ("memory", "firmware."),
    EV_EFI_VARIABLE_DRIVER_CONFIG: ("firmware.",),
    EV_PLATFORM_CONFIG_FLAGS: ("vcpus", "memory", "vmm.", "firmware.edk2"),
    EV_EFI_VARIABLE_BOOT: ("vmm.devices", "firmware."),
    EV_EFI_BOOT_SERVICES_APPLICATION: ("kernel_form", "kernel_release", "memory"),
    EV_EVENT_TAG: ("firmware.",),
}
_NOT_DECIDING = ("name", "caveats", "page_order")


def explain(case: Case) -> tuple[str, ...]:
    """Sentences that say what was found in place of the predicted event, at most five; empty if nothing tried fits.

    Nothing of the log enters a candidate but, where the digest covers it, the data of the event itself: what is said
    explains a verdict and never makes one. DocumentError for a firmware or kernel at hand that is none.
    """
    statements: dict[str, None] = {}
    for statement in _statements(case):
        statements.setdefault(statement)
        if len(statements) == _MOST_STATEMENTS:
            break
    return tuple(statements)


def _statements(case: Case) -> Iterator[str]:
    arranged = tuple(layout_statements(case))
    yield from arranged
    observed = case.difference.observed
    if arranged or observed is None or case.found_digest is None:
        return  # the whole register is explained, or there is no event to explain
    published = tuple(_published(case))
    yield from published
    if observed.event_type == EV_EFI_HANDOFF_TABLES2:
        yield from _td_hob(case, told=bool(published))
    elif not published:
        for generator in _GENERATORS.get(observed.event_type, (covered_data_candidates,)):
            fitting = (text for digest, text in generator(case) if digest == case.found_digest)
            yield from islice(fitting, _MOST_STATEMENTS)


def _td_hob(case: Case, *, told: bool) -> Iterator[str]:
    """The memory size, unless a published profile told it; then whether nothing but memory is different."""
    fit = fitting_td_hob(case)
    if fit is None:
        return
    if not told:
        yield fit.sentence
    if fit.memory is not None:
        yield from tables_at(case, fit.memory)


def _published(case: Case) -> Iterator[str]:
    """Other profiles of the same document that have the event that was found, nearest first; one for each meaning."""
    near = [(_differences(case, other.profile), other) for other in case.published if _has_found(case, other)]
    meanings: dict[str, str] = {}
    for differences, other in sorted(near, key=lambda each: len(each[0])):
        if differences:
            meanings.setdefault("; ".join(differences), other.profile.name)
    for meaning, name in meanings.items():
        yield f"{meaning} (as in the published profile {name!r})"


def _has_found(case: Case, other: Prediction) -> bool:
    """Whether another profile has what was found under the name of what was predicted.

    Of ACPI files it has to be all of them: many machines share a loader script.
    """
    predicted, observed = case.difference.predicted, case.difference.observed
    if predicted is None or observed is None:
        return False
    events = [event for event in other.of_register(case.difference.register) if isinstance(event, PredictedEvent)]
    same_type = {event.digest for event in events if event.event_type == observed.event_type}
    if observed.event_type == EV_PLATFORM_CONFIG_FLAGS and not same_type <= {event.digest for event in case.observed}:
        return False
    return any(
        (event.event_type, event.digest, event.name) == (observed.event_type, case.found_digest, predicted.name)
        for event in events
    )


def _differences(case: Case, other: LaunchProfile) -> list[str]:
    """In which deciding parts another profile is different, as sentences."""
    observed = case.difference.observed
    deciding = _DECIDING.get(observed.event_type, ("",)) if observed else ("",)
    ours, theirs = _flat(case.profile), _flat(other)
    return [
        _difference_text(name, theirs.get(name), ours.get(name))
        for name in sorted(ours.keys() | theirs.keys())
        if name.startswith(deciding) and name not in _NOT_DECIDING and ours.get(name) != theirs.get(name)
    ]


def _flat(profile: LaunchProfile) -> dict[str, Any]:
    """The profile's fields by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in asdict(profile).items():
        if isinstance(value, dict):
            flat |= {f"{name}.{member}": content for member, content in value.items()}
        else:
            flat[name] = value
    return flat


def _difference_text(name: str, found: Any, predicted: Any) -> str:
    if name == "memory":
        return f"memory is {memory_text(found)}, predicted for {memory_text(predicted)}"
    if name == "vcpus":
        return f"{found} vCPU{'' if found == 1 else 's'}, predicted for {predicted}"
    return f"{name} is {_shown(found)}, predicted for {_shown(predicted)}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return "the default" if value is None else str(value)


def explain_mrtd(values: ReferenceValues, found: str) -> tuple[str, ...]:
    """What an MRTD that was not predicted is, if it is the same firmware's under another VMM (`measurement.md` 3.2)."""
    return tuple(
        f"MRTD is that of the same firmware in page order {order}, as another VMM version builds it"
        for order, value in values.mrtd.items()
        if value == found
    )
