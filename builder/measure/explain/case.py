"""What there is to explain a difference with: the event, the profile, what else was published, files at hand."""

from collections.abc import Callable
from dataclasses import dataclass

from builder.errors import DocumentError
from builder.measure.explain.difference import EventDifference
from builder.model.event import ParsedEvent
from builder.model.launch_profile import LaunchProfile
from builder.model.reference_values import AcpiDigests, Prediction

# Digests of a machine's generated ACPI tables, or why there are none: `builder.pipeline.acpi.generated_digests`.
AcpiDigester = Callable[[LaunchProfile], AcpiDigests | DocumentError]

# A digest, and what it would mean if it were the one that was found.
Candidate = tuple[str, str]


@dataclass(frozen=True)
class Materials:
    """Files and texts that candidates are computed from. Each may be absent: then fewer neighbours can be tried.

    `kernels`, `initrds` and `command_lines` are the ones to try, the predicted one among them if it is at hand.
    """

    firmware: bytes | None = None
    kernels: tuple[bytes, ...] = ()
    initrds: tuple[bytes, ...] = ()
    command_lines: tuple[str, ...] = ()
    acpi: AcpiDigester | None = None


@dataclass(frozen=True)
class Case:
    """One difference, in its surroundings: the profile compared with, all published ones, every event of the log."""

    difference: EventDifference
    prediction: Prediction
    published: tuple[Prediction, ...]
    observed: tuple[ParsedEvent, ...]
    materials: Materials

    @property
    def profile(self) -> LaunchProfile:
        """The profile that was compared with."""
        return self.prediction.profile

    @property
    def predicted_digest(self) -> str | None:
        """The digest that was predicted for the event; None if none was."""
        return getattr(self.difference.predicted, "digest", None)

    @property
    def found_digest(self) -> str | None:
        """The digest that the log has in its place; None if it has no event there."""
        return getattr(self.difference.observed, "digest", None)


def memory_text(size: int) -> str:
    """A memory size for people: `4 GiB`, `1536 MiB`."""
    unit, name = (1 << 30, "GiB") if size % (1 << 30) == 0 else (1 << 20, "MiB")
    return f"{size // unit} {name}" if size % unit == 0 else f"{size} bytes"
