"""Whose a thing on a daemon is: only what certainly nobody uses any more is removed."""

import sys
from pathlib import Path

import pytest

from builder.backends.docker.owner import is_gone, own_label
from builder.backends.process import run


def test_a_process_that_runs_is_not_gone() -> None:
    assert not is_gone(own_label())


PRINT_LABEL = """
import sys
sys.path.insert(0, sys.argv[1])
from builder.backends.docker.owner import own_label
print(own_label())
"""


def test_a_process_that_ended_is_gone() -> None:
    output = run([sys.executable, "-c", PRINT_LABEL, str(Path(__file__).parents[3])]).stdout
    assert is_gone(output.decode().strip())


def test_another_process_with_the_same_id_does_not_stand_in_for_it() -> None:
    place, _, _ = own_label().rpartition("/")
    assert is_gone(f"{place}/1")


@pytest.mark.parametrize("part", [0, 1])
def test_what_another_boot_or_namespace_made_may_still_be_in_use(part: int) -> None:
    words = own_label().split("/")
    words[part] += "1"
    words[2] = "999999999"
    assert not is_gone("/".join(words))


@pytest.mark.parametrize("label", ["", "/", "///", "x", "a/b/c/d", "a/b/c/d/e"])
def test_a_label_that_is_not_ours_names_nobody(label: str) -> None:
    assert not is_gone(label)
