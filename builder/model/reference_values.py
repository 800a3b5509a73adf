"""Reference Values: the registers predicted for every launch profile, with the events and inputs behind them.

The document is made for matrices of thousands of shapes: events, firmware rules, VMMs and caveats are written once and
referred to by position or key. The format is `schemas/reference-values-v1.json`.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from builder.errors import DocumentError
from builder.model.event import ExpectedEvent, PredictedEvent, UnpredictedEvent
from builder.model.launch_profile import (
    CAVEATS,
    LaunchProfile,
    PageOrder,
    launch_profile_document,
    parse_launch_profile,
)

PREDICTED_REGISTERS = ("rtmr0", "rtmr1", "rtmr2")

T = TypeVar("T")


@dataclass(frozen=True)
class Registers:
    """The registers that are decided before user space runs, each 96 lower-case hex digits.

    None is a register that could not be predicted; it equals nothing, another None included, in any verdict.
    """

    mrtd: str
    rtmr0: str | None
    rtmr1: str | None
    rtmr2: str | None


@dataclass(frozen=True)
class AcpiDigests:
    """SHA-384 (hex) of `etc/table-loader`, `etc/acpi/rsdp` and `etc/acpi/tables`, measured in this order.

    `sources` says how they were found, each way giving the same: `generated` from the specification, `read` from the
    stopped VMM, `given` by whoever asked.
    """

    loader: str
    rsdp: str
    tables: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What a TD launched by `profile` shows.

    `acpi` is stated even where the firmware does not measure it, and None for platforms that build their tables
    otherwise. A register with an UnpredictedEvent is None.
    """

    profile: LaunchProfile
    registers: Registers
    events: tuple[ExpectedEvent, ...]
    acpi: AcpiDigests | None

    def of_register(self, register: str) -> tuple[ExpectedEvent, ...]:
        """The events that extend `register`, in order."""
        return tuple(event for event in self.events if event.register == register)

    @property
    def unpredicted(self) -> tuple[UnpredictedEvent, ...]:
        """The events that keep registers from being predicted."""
        return tuple(event for event in self.events if isinstance(event, UnpredictedEvent))


@dataclass(frozen=True)
class ReferenceValues:
    """MRTD in both page orders, because not every VMM's is known, and a prediction for every profile."""

    mrtd: Mapping[PageOrder, str]
    predictions: tuple[Prediction, ...]


class _Once:
    """A list in which every value is written once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._positions: dict[Hashable, int] = {}

    def position(self, key: Hashable, document: Any) -> int:
        """Where the `document` of the value `key` stands."""
        if key not in self._positions:
            self._positions[key] = len(self.values)
            self.values.append(document)
        return self._positions[key]


def reference_values_document(values: ReferenceValues) -> dict[str, Any]:
    """The values as plain values inside the domain of canonical JSON; the same values give the same document."""
    events, firmware, vmms = _Once(), _Once(), _Once()
    caveats: dict[str, str] = {}
    profiles = []
    for prediction in values.predictions:
        profile = prediction.profile
        launch = launch_profile_document(profile)
        launch["firmware"] = firmware.position(profile.firmware, launch["firmware"])
        launch["vmm"] = vmms.position(profile.vmm, launch["vmm"])
        caveats |= {key: CAVEATS[key] for key in launch["caveats"]}
        profiles.append(
            {
                "name": launch.pop("name"),
                "caveats": launch.pop("caveats"),
                "launch": launch,
                "registers": asdict(prediction.registers),
                "acpi": _acpi_document(prediction),
                "events": {
                    register: [
                        events.position(event, event_document(event)) for event in prediction.of_register(register)
                    ]
                    for register in PREDICTED_REGISTERS
                },
            }
        )
    return {
        "mrtd": {str(order): value for order, value in values.mrtd.items()},
        "rules": {"firmware": firmware.values, "vmm": vmms.values},
        "caveats": caveats,
        "events": events.values,
        "profiles": profiles,
    }


def parse_reference_values(document: Any, *, what: str) -> ReferenceValues:
    """The reverse of `reference_values_document`; DocumentError names what is wrong.

    Not checked: that events replay to registers and MRTD is the stated order's (`builder.measure.check_predictions`),
    and that the registers are those of any files (`builder.measure.Measurer`).
    """
    from builder.encoding.schema import validate  # not needed for making a document

    validate(document, schema_name="reference-values-v1", what=what)
    events = [_event(entry) for entry in document["events"]]
    names = [profile["name"] for profile in document["profiles"]]
    if len(set(names)) != len(names):
        raise DocumentError(f"{what}: two profiles have the same name")
    return ReferenceValues(
        mrtd={PageOrder(order): value for order, value in document["mrtd"].items()},
        predictions=tuple(
            _prediction(profile, document["rules"], events, what=f"{what}: profile {profile['name']!r}")
            for profile in document["profiles"]
        ),
    )


def _acpi_document(prediction: Prediction) -> dict[str, Any] | None:
    if prediction.acpi is None:
        return None
    document = asdict(prediction.acpi)
    document["sources"] = list(prediction.acpi.sources)
    return {**document, "measured": prediction.profile.firmware.acpi_measured}


def event_document(event: ExpectedEvent) -> dict[str, Any]:
    """One event as plain values; its digest is None where it could not be predicted."""
    common = {"register": event.register, "type": event.event_type, "name": event.name}
    if isinstance(event, UnpredictedEvent):
        return {**common, "digest": None, "reason": event.reason, "repeats": event.repeats}
    return {**common, "digest": event.digest, "input": event.input}


def _event(entry: dict[str, Any]) -> ExpectedEvent:
    common = (entry["register"], entry["type"], entry["name"])
    if entry["digest"] is None:
        return UnpredictedEvent(*common, entry["reason"], entry["repeats"])
    return PredictedEvent(*common, entry["digest"], entry["input"])


def _prediction(
    entry: dict[str, Any], rules: dict[str, Any], events: Sequence[ExpectedEvent], *, what: str
) -> Prediction:
    launch = {
        **entry["launch"],
        "name": entry["name"],
        "caveats": entry["caveats"],
        "firmware": _at(rules["firmware"], entry["launch"]["firmware"], what=f"{what}: firmware"),
        "vmm": _at(rules["vmm"], entry["launch"]["vmm"], what=f"{what}: vmm"),
    }
    unknown = [key for key in entry["caveats"] if key not in CAVEATS]
    if unknown:
        raise DocumentError(f"{what}: unknown caveat {unknown[0]!r}", hint="a newer tdx-builder may have written this")
    profile = parse_launch_profile(launch)
    return Prediction(
        profile=profile,
        registers=Registers(**entry["registers"]),
        events=tuple(
            event for register in PREDICTED_REGISTERS for event in _register_events(entry, register, events, what=what)
        ),
        acpi=_acpi(entry["acpi"], profile, what=what),
    )


def _acpi(entry: dict[str, Any] | None, profile: LaunchProfile, *, what: str) -> AcpiDigests | None:
    if entry is None:
        return None
    if entry["measured"] != profile.firmware.acpi_measured:
        raise DocumentError(f"{what}: $.acpi.measured contradicts the firmware's rules")
    return AcpiDigests(entry["loader"], entry["rsdp"], entry["tables"], tuple(entry["sources"]))


def _register_events(
    entry: dict[str, Any], register: str, events: Sequence[ExpectedEvent], *, what: str
) -> Iterator[ExpectedEvent]:
    for position in entry["events"][register]:
        event = _at(events, position, what=f"{what}: event")
        if event.register != register:
            raise DocumentError(f"{what}: event {position} extends {event.register}, it is listed under {register}")
        yield event


def _at(values: Sequence[T], position: int, *, what: str) -> T:
    if position >= len(values):
        raise DocumentError(f"{what} {position} is not among the {len(values)} listed")
    return values[position]
