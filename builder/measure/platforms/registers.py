"""The registers that the predicted events of any platform lead to."""

from collections.abc import Iterable

from builder.measure.rtmr import registers_of
from builder.model.event import ExpectedEvent
from builder.model.platform_values import PlatformRegisters


def platform_registers(mrtd: str | None, events: Iterable[ExpectedEvent]) -> PlatformRegisters:
    """MRTD as it is given; each RTMR is None with an event that could not be predicted, and zero without events."""
    found = registers_of("", events)
    return PlatformRegisters(mrtd, found.rtmr0, found.rtmr1, found.rtmr2)
