"""The numbered steps of a verification: what was checked, and with what outcome."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from builder.errors import ExitStatus


class Outcome(StrEnum):
    """How a step ended. `not asked` is not a pass: it says that the caller did not ask, and what that leaves open."""

    OK = "ok"
    FAILED = "failed"
    NOT_ASKED = "not asked"


@dataclass(frozen=True)
class Check:
    """One step: its name, outcome, what was found, and the exit status that a failure stands for."""

    name: str
    outcome: Outcome
    detail: str
    status: ExitStatus = ExitStatus.OK


def passed(name: str, detail: str) -> Check:
    """A step that was checked and holds."""
    return Check(name, Outcome.OK, detail)


def failed(name: str, detail: str, status: ExitStatus) -> Check:
    """A step that does not hold."""
    return Check(name, Outcome.FAILED, detail, status)


def not_asked(name: str, detail: str) -> Check:
    """A step that the caller did not ask for."""
    return Check(name, Outcome.NOT_ASKED, detail)


def statuses(checks: Sequence[Check]) -> list[ExitStatus]:
    """The exit statuses of all steps that were asked for; none at all is not a pass (`errors.worst_status`)."""
    return [check.status for check in checks if check.outcome is not Outcome.NOT_ASKED]
