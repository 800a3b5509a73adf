"""Exit status: 1, 6 and 7 are verdicts, and nothing else may be read as one (`formats.md` 14)."""

import pickle
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import builder
from builder import errors
from builder.errors import BuilderError, ExitStatus, worst_status
from builder.model.comparison import Comparison
from builder.pipeline.release import LegsDifferError

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, BuilderError)]
STATUSES = st.sampled_from(list(ExitStatus))


def test_nothing_checked_is_never_a_pass() -> None:
    assert worst_status([]) is ExitStatus.NOT_PROVEN


def test_all_passed_is_a_pass() -> None:
    assert worst_status([ExitStatus.OK, ExitStatus.OK]) is ExitStatus.OK


def test_order_is_the_published_one() -> None:
    order = [
        ExitStatus.BUG,
        ExitStatus.NOT_VERIFIED,
        ExitStatus.BYTES_DIFFER,
        ExitStatus.REGISTER_DIFFERS,
        ExitStatus.NOT_PROVEN,
    ]
    for index in range(len(order)):
        assert worst_status(order[index:][::-1]) is order[index]


@given(st.lists(STATUSES, min_size=1))
def test_one_failure_is_never_outvoted(statuses: list[ExitStatus]) -> None:
    worst = worst_status(statuses)

    assert worst in statuses
    assert (worst is ExitStatus.OK) == all(status is ExitStatus.OK for status in statuses)


@given(st.lists(STATUSES, min_size=1))
def test_status_that_is_no_verdict_never_becomes_one(statuses: list[ExitStatus]) -> None:
    if worst_status(statuses) in (ExitStatus.BYTES_DIFFER, ExitStatus.REGISTER_DIFFERS, ExitStatus.NOT_VERIFIED):
        assert set(statuses) & {ExitStatus.BYTES_DIFFER, ExitStatus.REGISTER_DIFFERS, ExitStatus.NOT_VERIFIED}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_a_message_a_hint_and_a_failing_status(kind: type[BuilderError]) -> None:
    error = kind("what is wrong", hint="what to do")

    assert (str(error), error.message, error.hint) == ("what is wrong", "what is wrong", "what to do")
    assert kind("x").hint is None
    assert error.status not in (ExitStatus.OK, ExitStatus.BUG, ExitStatus.INTERRUPTED)


def test_each_verdict_has_one_error_and_no_other_error_has_it() -> None:
    verdicts = {
        ExitStatus.BYTES_DIFFER: {"BytesDifferError"},
        ExitStatus.REGISTER_DIFFERS: {"RegisterDiffersError"},
        ExitStatus.NOT_VERIFIED: {"VerificationError"},
    }
    for status, names in verdicts.items():
        assert {kind.__name__ for kind in CLASSES if kind.status is status} == names


def every_error() -> list[type[BuilderError]]:
    """All subclasses there are, wherever they are defined."""
    for module in pkgutil.walk_packages(builder.__path__, "builder."):
        if not module.name.startswith(("builder.inside", "builder.__main__")):
            import_module(module.name)
    found, left = [], [BuilderError]
    while left:
        kind = left.pop()
        found.append(kind)
        left += kind.__subclasses__()
    return found


def test_every_error_survives_being_sent_from_another_process() -> None:
    kinds = every_error()
    assert len(kinds) > len(CLASSES), "no error outside errors.py was found, and there are some"
    for kind in kinds:
        error = kind.__new__(kind)  # whatever its own arguments are
        BuilderError.__init__(error, "what is wrong", hint="what to do")
        error.extra = ("of a subclass",)  # type: ignore[attr-defined]
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        assert type(copy) is kind
        assert (str(copy), copy.message, copy.hint) == ("what is wrong", "what is wrong", "what to do")
        assert (copy.status, copy.extra) == (error.status, ("of a subclass",))


def test_an_error_with_arguments_of_its_own_survives_too() -> None:
    error = LegsDifferError(Comparison(()), Path("out"))
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (copy.message, copy.hint, copy.comparison) == (error.message, error.hint, error.comparison)
