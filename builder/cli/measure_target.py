"""What `measure` is asked to measure, and which options belong to it: none that is given is ever ignored."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import click

from builder.cli.option_groups import Groups
from builder.errors import DocumentError

RECIPE_FILE = "recipe.yaml"
METADATA_FILE = "metadata.json"

_RECIPE = "The artefacts of a recipe"
_FETCHING = "What the recipe locks"
_PLAIN = "Plain files"
_MACHINE = "The machine of plain files"
_SHAPE = "The machine of plain files or of a dstack image"
_DSTACK = "A dstack image"
_OUTPUT = "Output"

GROUPS: Groups = {
    _PLAIN: ("firmware", "kernel", "initrd", "cmdline", "acpi"),
    _SHAPE: ("vcpus", "memory", "qemu", "edk2"),
    _MACHINE: ("machine", "cpu", "devices", "pci_hole64", "bridge_hotplug", "numa_nodes"),
    _DSTACK: ("vm_configs", "app_compose", "runtime_events", "runtime_values", "app_events"),
    _RECIPE: ("artifacts",),
    _FETCHING: ("store", "mirrors", "snapshot", "offline"),
    _OUTPUT: ("events", "as_json"),
}


class Target(StrEnum):
    """What is measured, in words for people."""

    RECIPE = "the artefacts of a recipe"
    DSTACK = "a dstack image"
    PLAIN = "plain files"
    PLAIN_BESIDE_RECIPE = "plain files beside a recipe"


_GROUPS_OF: Mapping[Target, tuple[str, ...]] = {
    Target.RECIPE: (_RECIPE, _FETCHING),
    Target.DSTACK: (_SHAPE, _DSTACK),
    Target.PLAIN: (_PLAIN, _SHAPE, _MACHINE),
    Target.PLAIN_BESIDE_RECIPE: (_PLAIN, _SHAPE, _MACHINE, _FETCHING),
}


def target_of(path: Path | None, given: Mapping[str, str]) -> Target:
    """What is measured, from TARGET and the given options (spelling by parameter name).

    UsageError for an option that does not belong to it, and for nothing at all; DocumentError for a TARGET that is
    neither a recipe nor a dstack image, or both.
    """
    target = _target(path, given)
    allowed = {name for group in (*_GROUPS_OF[target], _OUTPUT) for name in GROUPS[group]}
    wrong = [spelling for name, spelling in given.items() if name not in allowed]
    if wrong:
        raise click.UsageError(f"{', '.join(wrong)} does not go with {target}")
    return target


def _target(path: Path | None, given: Mapping[str, str]) -> Target:
    if path is not None and _is_dstack(path):
        return Target.DSTACK
    plain = any(name in given for group in (_PLAIN, _SHAPE, _MACHINE) for name in GROUPS[group])
    if path is not None:
        return Target.PLAIN_BESIDE_RECIPE if plain else Target.RECIPE
    if not plain:
        raise click.UsageError("name a TARGET (a recipe or a dstack image), or plain files with --firmware and so on")
    return Target.PLAIN


def _is_dstack(path: Path) -> bool:
    """Whether TARGET is a dstack image; otherwise it is a recipe."""
    if path.name == RECIPE_FILE and path.is_file():
        return False
    found = [name for name in (RECIPE_FILE, METADATA_FILE) if (path / name).is_file()]
    if len(found) != 1:
        raise DocumentError(
            f"{path}: {'both' if found else 'neither'} {RECIPE_FILE} {'and' if found else 'nor'} {METADATA_FILE} there",
            hint=f"name a directory with a {RECIPE_FILE}, or with the {METADATA_FILE} of an unpacked dstack image",
        )
    return found == [METADATA_FILE]
