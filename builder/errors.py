"""Layer 0: what can go wrong, and the exit status each kind of failure ends with.

An error names the thing, the value found and the value wanted; `hint` is the next step for the reader.
The statuses are those of design §7 (`formats.md` 14): 1, 6 and 7 are negative verdicts, and no other code
may be read as one.
"""

from enum import IntEnum
from typing import Any


class ExitStatus(IntEnum):
    """Exit status of every command."""

    OK = 0
    BYTES_DIFFER = 1
    USAGE = 2
    BUILD_FAILED = 3
    FETCH_FAILED = 4
    MISSING = 5
    REGISTER_DIFFERS = 6
    NOT_VERIFIED = 7
    NOT_PROVEN = 8
    BUG = 70
    INTERRUPTED = 130


_PRECEDENCE = (
    ExitStatus.BUG,
    ExitStatus.NOT_VERIFIED,
    ExitStatus.BYTES_DIFFER,
    ExitStatus.REGISTER_DIFFERS,
    ExitStatus.NOT_PROVEN,
)


def worst_status(statuses: list[ExitStatus]) -> ExitStatus:
    """The one status that speaks for several (`formats.md` 14): the first that holds of 70, 7, 1, 6, 8.

    Any other failure wins over OK; an empty list means that nothing was checked, which is never a pass.
    """
    for status in _PRECEDENCE:
        if status in statuses:
            return status
    failures = [status for status in statuses if status is not ExitStatus.OK]
    if failures:
        return failures[0]
    return ExitStatus.OK if statuses else ExitStatus.NOT_PROVEN


class BuilderError(Exception):
    """Base of every error that is not a bug: a message for people, a hint, and an exit status."""

    status = ExitStatus.USAGE

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: a step may fail in another process. Also of subclasses whose own arguments are others."""
        return _restored_error, (type(self), self.message), self.__dict__


def _restored_error(kind: type[BuilderError], message: str) -> BuilderError:
    """An error as it was pickled; its attributes come after it."""
    return kind.__new__(kind, message)


class DocumentError(BuilderError):
    """A recipe, lock, manifest, key, firmware, kernel or log that is not what it claims to be (exit 2)."""


class BuildFailedError(BuilderError):
    """A step of a leg failed (exit 3)."""

    status = ExitStatus.BUILD_FAILED


class FetchError(BuilderError):
    """An input could not be fetched as pinned: unreachable, wrong size or wrong digest (exit 4)."""

    status = ExitStatus.FETCH_FAILED


class MissingError(BuilderError):
    """A tool, key, engine or resource is absent (exit 5)."""

    status = ExitStatus.MISSING


class BytesDifferError(BuilderError):
    """Two legs, or an artefact and its published digest, are not the same bytes (exit 1)."""

    status = ExitStatus.BYTES_DIFFER


class RegisterDiffersError(BuilderError):
    """A computed register is not the published one (exit 6)."""

    status = ExitStatus.REGISTER_DIFFERS


class VerificationError(BuilderError):
    """A signature, threshold or policy check failed (exit 7)."""

    status = ExitStatus.NOT_VERIFIED


class NotProvenError(BuilderError):
    """A required check could not run, or the legs did not differ as required (exit 8)."""

    status = ExitStatus.NOT_PROVEN
