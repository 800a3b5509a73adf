"""What is predicted of TDs on platforms other than QEMU with OVMF, which have no launch profile.

The document has the members of Reference Values (`reference_values_document`), so that whoever reads one finds
registers, events and caveats of the other by the same names; the VMM's and firmware's rules are named by `platform`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from builder.model.event import ExpectedEvent, UnpredictedEvent
from builder.model.launch_profile import PageOrder
from builder.model.reference_values import PREDICTED_REGISTERS

Fact = str | int | bool | None


class Platform(StrEnum):
    """Who builds the TD, and what starts in it."""

    GCE = "gce"
    CLOUD_HYPERVISOR = "cloud-hypervisor"


@dataclass(frozen=True)
class PlatformRegisters:
    """The registers that are decided before user space runs, each 96 lower-case hex digits.

    None is a register that could not be predicted; it equals nothing, another None included, in any verdict.
    """

    mrtd: str | None
    rtmr0: str | None
    rtmr1: str | None
    rtmr2: str | None


@dataclass(frozen=True)
class PlatformPrediction:
    """What one machine of a platform shows.

    `machine` states what decides registers besides the files. `mrtd` is by page order, and empty where `unknown_mrtd`
    says why there is none. A register with an UnpredictedEvent is None. `caveats` are texts by key.
    """

    name: str
    platform: Platform
    machine: Mapping[str, Fact]
    mrtd: Mapping[PageOrder, str]
    registers: PlatformRegisters
    events: tuple[ExpectedEvent, ...]
    caveats: Mapping[str, str]
    unknown_mrtd: str | None = None

    def of_register(self, register: str) -> tuple[ExpectedEvent, ...]:
        """The events that extend `register`, in order."""
        return tuple(event for event in self.events if event.register == register)

    @property
    def unpredicted(self) -> tuple[UnpredictedEvent, ...]:
        """The events that keep registers from being predicted."""
        return tuple(event for event in self.events if isinstance(event, UnpredictedEvent))


def platform_values_document(predictions: Sequence[PlatformPrediction]) -> dict[str, Any]:
    """The predictions as plain values inside the domain of canonical JSON; events and caveats are written once."""
    positions: dict[ExpectedEvent, int] = {}
    caveats: dict[str, str] = {}
    profiles = []
    for prediction in predictions:
        caveats |= prediction.caveats
        for event in prediction.events:
            positions.setdefault(event, len(positions))
        profiles.append(_profile(prediction, positions))
    return {"caveats": caveats, "events": [_event(event) for event in positions], "profiles": profiles}


def _profile(prediction: PlatformPrediction, positions: Mapping[ExpectedEvent, int]) -> dict[str, Any]:
    return {
        "name": prediction.name,
        "platform": str(prediction.platform),
        "caveats": sorted(prediction.caveats),
        "launch": dict(prediction.machine),
        "mrtd": {str(order): value for order, value in prediction.mrtd.items()},
        "registers": asdict(prediction.registers),
        "events": {
            register: [positions[event] for event in prediction.of_register(register)]
            for register in PREDICTED_REGISTERS
        },
    }


def _event(event: ExpectedEvent) -> dict[str, Any]:
    common = {"register": event.register, "type": event.event_type, "name": event.name}
    if isinstance(event, UnpredictedEvent):
        return {**common, "digest": None, "reason": event.reason}
    return {**common, "digest": event.digest, "input": event.input}
