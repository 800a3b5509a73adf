"""The recipe that users read first: it parses, it can be planned, and its own files are as it says."""

from pathlib import Path

import pytest

from builder.model.recipe import Recipe, parse_recipe
from builder.model.variation import AXES

DIRECTORY = Path(__file__).parents[3] / "recipes" / "quickstart"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    path = DIRECTORY / "recipe.yaml"
    return parse_recipe(path.read_bytes(), what=str(path))


def test_every_axis_that_bubblewrap_can_vary_is_required(recipe: Recipe) -> None:
    assert set(recipe.required_axes) == set(AXES) - {"fileordering"}


def test_the_root_file_system_is_bound_to_the_command_line(recipe: Recipe) -> None:
    assert "tdxb.roothash={root_hash}" in recipe.command_line
    assert "tdxb.rootsize={root_size}" in recipe.command_line


@pytest.mark.parametrize("path", ["initrd/init", "guest_os/sbin/init", "app_image/usr/bin/greet"])
def test_what_the_guest_starts_is_executable(path: str) -> None:
    file = DIRECTORY / "files" / path
    assert file.stat().st_mode & 0o111
    assert file.read_text(encoding="ascii").startswith("#!/bin/busybox sh\n")


@pytest.mark.parametrize("path", ["initrd/init", "guest_os/sbin/init"])
def test_a_guest_that_cannot_go_on_never_goes_on(path: str) -> None:
    text = (DIRECTORY / "files" / path).read_text(encoding="ascii")
    assert "\nset -eu\n" in text
    assert "poweroff -f\n    exit 1\n}" in text


def test_no_mirror_is_named(recipe: Recipe) -> None:
    text = (DIRECTORY / "recipe.yaml").read_text(encoding="ascii")
    assert "://" not in text
    assert ".org" not in text
    assert [archive.name for archive in recipe.archives] == ["debian"]
