"""What an app's description adds to a dstack guest's registers: RTMR[3], and the identities over all of them.

Everything here is predicted: what only the running guest decides is known if whoever asks states it, and otherwise
named as not known (`quotes.md` 5, 6).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from builder.measure.dstack.compose import parse_app_compose
from builder.measure.dstack.identities import mr_aggregated, mr_system
from builder.measure.dstack.runtime import (
    RuntimeInputs,
    RuntimeRules,
    known_key_provider,
    predicted_rtmr3,
    predicted_runtime_events,
    stated_app_id,
)
from builder.model.event import ExpectedEvent, UnpredictedEvent
from builder.model.reference_values import Registers

ZERO_REGISTER = "00" * 48
_GUEST_UNKNOWN = "which events the guest emits depends on its software, and nobody said it"


@dataclass(frozen=True)
class TdConfiguration:
    """What the VMM configured the TD with, 96 hex digits each; None is unknown. dstack's VMM sets MRCONFIGID alone."""

    mrconfigid: str | None = None
    mrowner: str = ZERO_REGISTER
    mrownerconfig: str = ZERO_REGISTER


@dataclass(frozen=True)
class AppPrediction:
    """What the description decides. `key_provider` is the payload of that event, None if it is not known.

    `events` are those of RTMR[3], empty if the guest's software is not known; `rtmr3` is None unless all are predicted.
    """

    compose_hash: str
    app_id: str
    key_provider: bytes | None
    events: tuple[ExpectedEvent, ...]
    rtmr3: str | None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why RTMR[3] is not predicted; empty if it is."""
        unknown = tuple(event.reason for event in self.events if isinstance(event, UnpredictedEvent))
        return unknown if self.events else (_GUEST_UNKNOWN,)


@dataclass(frozen=True)
class Identities:
    """dstack's identities of one launch profile, SHA-256 in hex; None where an input is not known, with the reasons."""

    mr_system: str | None
    mr_aggregated: str | None
    reasons: tuple[str, ...]


def predict_app(app_compose: bytes, inputs: RuntimeInputs, *, rules: RuntimeRules | None) -> AppPrediction:
    """Prediction for the bytes of app-compose.json as delivered; `rules` None is a guest whose software is not known.

    DocumentError for what `parse_app_compose` and `predicted_runtime_events` refuse.
    """
    compose = parse_app_compose(app_compose)
    events = () if rules is None else predicted_runtime_events(compose, inputs, rules=rules)
    return AppPrediction(
        compose_hash=compose.digest,
        app_id=stated_app_id(compose, inputs).hex(),
        key_provider=known_key_provider(compose, inputs),
        events=events,
        rtmr3=predicted_rtmr3(events) if events else None,
    )


def identities_of(registers: Registers, app: AppPrediction, configuration: TdConfiguration) -> Identities:
    """mr_system and mr_aggregated of a TD with these registers, or why they are not known."""
    boot = _BootedTd.of(registers)
    system = None if boot is None or app.key_provider is None else mr_system(boot, app.key_provider)
    aggregated = None
    if boot is not None and app.rtmr3 is not None and configuration.mrconfigid is not None:
        owner = (configuration.mrconfigid, configuration.mrowner, configuration.mrownerconfig)
        aggregated = mr_aggregated(_RunningTd(boot.mrtd, boot.rtmr0, boot.rtmr1, boot.rtmr2, app.rtmr3, *owner))
    return Identities(system, aggregated, tuple(_reasons(registers, app, configuration)))


@dataclass(frozen=True)
class _BootedTd:
    mrtd: str
    rtmr0: str
    rtmr1: str
    rtmr2: str

    @classmethod
    def of(cls, registers: Registers) -> "_BootedTd | None":
        """None if one of the registers is not predicted."""
        if registers.rtmr0 is None or registers.rtmr1 is None or registers.rtmr2 is None:
            return None
        return cls(registers.mrtd, registers.rtmr0, registers.rtmr1, registers.rtmr2)


@dataclass(frozen=True)
class _RunningTd(_BootedTd):
    rtmr3: str
    mrconfigid: str
    mrowner: str
    mrownerconfig: str


def _reasons(registers: Registers, app: AppPrediction, configuration: TdConfiguration) -> Iterator[str]:
    for name in ("rtmr0", "rtmr1", "rtmr2"):
        if getattr(registers, name) is None:
            yield f"mr_system, mr_aggregated: {name} is not predicted"
    if app.key_provider is None:
        yield "mr_system: which key provider answers is not known"
    if app.rtmr3 is None:
        yield "mr_aggregated: rtmr3 is not predicted"
    if configuration.mrconfigid is None:
        yield "mr_aggregated: mrconfigid is not known"
