"""What `measure` is asked to measure, and which options belong to it: none that is given is ever ignored."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import click

from builder.cli.measure_boot import DISK_OPTIONS, KEY_OPTIONS, SMBIOS_OPTIONS
from builder.cli.measure_platform import (
    CLOUD_HYPERVISOR,
    CLOUD_HYPERVISOR_OPTIONS,
    GCE,
    GCE_OPTIONS,
    PLATFORM_OPTIONS,
)
from builder.cli.option_groups import Groups
from builder.errors import DocumentError

RECIPE_FILE = "recipe.yaml"
METADATA_FILE = "metadata.json"

_RECIPE = "The artefacts of a recipe"
_FETCHING = "What the recipe locks"
_PLAIN = "Plain files"
_MACHINE = "The machine of plain files"
_SMBIOS = "What the firmware of plain files finds besides"
_KEYS = "Secure boot, of plain files and of a VM on GCE"
_SHAPE = "The machine of plain files or of a dstack image"
_DSTACK = "A dstack image"
_PLATFORM = "Other platforms than QEMU"
_GCE = "A VM on Google Compute Engine"
_CLOUD_HYPERVISOR = "td-shim under Cloud Hypervisor"
_OUTPUT = "Output"

GROUPS: Groups = {
    _PLAIN: ("firmware", "kernel", "initrd", "cmdline", "acpi", *DISK_OPTIONS),
    _SHAPE: ("vcpus", "memory", "qemu", "edk2"),
    _MACHINE: ("machine", "cpu", "devices", "pci_hole64", "bridge_hotplug", "numa_nodes"),
    _SMBIOS: SMBIOS_OPTIONS,
    _KEYS: KEY_OPTIONS,
    _DSTACK: ("vm_configs", "app_compose", "runtime_events", "runtime_values", "app_events"),
    _PLATFORM: PLATFORM_OPTIONS,
    _GCE: GCE_OPTIONS,
    _CLOUD_HYPERVISOR: CLOUD_HYPERVISOR_OPTIONS,
    _RECIPE: ("artifacts", "flavour"),
    _FETCHING: ("store", "mirrors", "snapshot", "offline"),
    _OUTPUT: ("events", "as_json"),
}


class Target(StrEnum):
    """What is measured, in words for people."""

    RECIPE = "the artefacts of a recipe"
    DSTACK = "a dstack image"
    PLAIN = "plain files"
    PLAIN_BESIDE_RECIPE = "plain files beside a recipe"
    GCE = "a VM on GCE"
    CLOUD_HYPERVISOR = "td-shim under Cloud Hypervisor"


_GROUPS_OF: Mapping[Target, tuple[str, ...]] = {
    Target.RECIPE: (_RECIPE, _FETCHING),
    Target.DSTACK: (_SHAPE, _DSTACK),
    Target.PLAIN: (_PLAIN, _SHAPE, _MACHINE, _SMBIOS, _KEYS),
    Target.PLAIN_BESIDE_RECIPE: (_PLAIN, _SHAPE, _MACHINE, _SMBIOS, _KEYS, _FETCHING),
    Target.GCE: (_PLATFORM, _GCE, _KEYS),
    Target.CLOUD_HYPERVISOR: (_PLATFORM, _CLOUD_HYPERVISOR),
}
# what a platform has in common with plain files, but for the rest of their groups
_SHARED: Mapping[Target, tuple[str, ...]] = {
    Target.GCE: ("firmware",),
    Target.CLOUD_HYPERVISOR: ("firmware", "kernel", "cmdline", "memory"),
}
_PLATFORMS: Mapping[str, Target] = {GCE: Target.GCE, CLOUD_HYPERVISOR: Target.CLOUD_HYPERVISOR}


def target_of(path: Path | None, given: Mapping[str, str], *, platform: str | None) -> Target:
    """What is measured, from TARGET, the given options (spelling by parameter name) and the value of --platform.

    UsageError for an option that does not belong to it, and for nothing at all; DocumentError for a TARGET that is
    neither a recipe nor a dstack image, or both.
    """
    target = _target(path, given) if platform is None else _platform(path, platform)
    allowed = {name for group in (*_GROUPS_OF[target], _OUTPUT) for name in GROUPS[group]}
    allowed.update(_SHARED.get(target, ()))
    wrong = [spelling for name, spelling in given.items() if name not in allowed]
    if wrong:
        raise click.UsageError(f"{', '.join(wrong)} does not go with {target}")
    return target


def _platform(path: Path | None, platform: str) -> Target:
    if path is not None:
        raise click.UsageError(f"--platform {platform} measures plain files: leave out TARGET")
    return _PLATFORMS[platform]


def _target(path: Path | None, given: Mapping[str, str]) -> Target:
    if path is not None and _is_dstack(path):
        return Target.DSTACK
    plain = any(name in given for group in _GROUPS_OF[Target.PLAIN] for name in GROUPS[group])
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
