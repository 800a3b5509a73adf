"""Every file that was handed out is used by a test here: a new one without a test fails."""

import importlib
import re
from pathlib import Path

import pytest

MODULES = (
    "test_collateral_form",
    "test_published_acpi",
    "test_published_firmware",
    "test_published_images",
    "test_published_td_hobs",
    "test_real_logs",
    "test_real_pairs",
    "test_real_quotes",
)
INDEX = "INDEX.md"


def covered() -> dict[str, str]:
    """Vector -> a module that uses it."""
    return {name: module for module in MODULES for name in importlib.import_module(module).COVERS}


def test_every_file_of_the_vectors_has_a_test(vectors: Path) -> None:
    files = {path.relative_to(vectors).as_posix() for path in vectors.rglob("*") if path.is_file()}
    assert files - set(covered()) == {INDEX}


def test_every_row_of_the_index_is_a_file_with_a_test(vectors: Path) -> None:
    rows = set(re.findall(r"^\| (\S+/\S+) \|", (vectors / INDEX).read_text(), re.MULTILINE))
    assert len(rows) >= 36
    assert rows <= set(covered())
    assert not [name for name in rows if not (vectors / name).is_file()]


def test_no_test_is_about_a_file_that_is_gone(vectors: Path) -> None:
    assert not [name for name in covered() if not (vectors / name).is_file()]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_covers_something(module: str) -> None:
    assert importlib.import_module(module).COVERS


def test_every_module_of_this_suite_is_listed() -> None:
    found = {path.stem for path in Path(__file__).parent.glob("test_*.py")}
    assert found - {Path(__file__).stem} == set(MODULES)
