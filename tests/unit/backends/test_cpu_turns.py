"""Steps that may use one CPU get different ones as long as there are any."""

import pytest

from builder.backends.cpu_turns import CpuTurns


def test_two_steps_side_by_side_get_different_cpus() -> None:
    turns = CpuTurns([4, 7])
    with turns.turn() as first, turns.turn() as second:
        assert (first, second) == (4, 7)


def test_the_cpu_with_the_fewest_steps_comes_next() -> None:
    turns = CpuTurns([0, 1])
    with turns.turn() as first:
        for _ in range(3):
            with turns.turn() as other:
                assert other != first
        with turns.turn(), turns.turn() as third:
            assert third == first


def test_a_step_that_fails_gives_its_cpu_back() -> None:
    turns = CpuTurns([0, 1])
    with pytest.raises(KeyError), turns.turn():
        raise KeyError
    with turns.turn() as cpu:
        assert cpu == 0


def test_no_cpu_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no CPU"):
        CpuTurns([])
