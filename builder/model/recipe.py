"""The recipe: what people write to say what an image is made of.

`parse_recipe` is the only way from text to a Recipe; the format is `schemas/recipe-v1.json`. What it says about each
component is in `components.py`, what no schema can say about it is checked by `recipe_rules.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from builder.errors import DocumentError
from builder.model.components import (
    PROD,
    AppImageSpec,
    DiskImageSpec,
    FirmwarePrebuilt,
    FirmwareSource,
    FirmwareSpec,
    FlavourSpec,
    GuestOsSpec,
    InitrdSpec,
    KernelPrebuilt,
    KernelSource,
    KernelSpec,
    Prebuilt,
    RootSpec,
    frozen,
    parse_components,
    parse_flavour,
    parse_root,
)
from builder.model.digest import sha256_hex
from builder.model.recipe_rules import check_recipe
from builder.model.size import parse_size

SCHEMA = "tdx-builder/recipe/v1"
FILE_NAME = "recipe.yaml"


@dataclass(frozen=True)
class Archive:
    """One package archive: a name for its mirror, and the suites apt may resolve from.

    apt's rules choose between suites: the highest version of those that are not NotAutomatic (backports); where two
    have the same version, the one listed first. Only source packages come from `source_suites`. `root_suites` are
    further suites of this archive that roots name for themselves: only those roots come from there.
    """

    name: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    source_suites: tuple[str, ...] = ()
    root_suites: tuple[str, ...] = ()

    @property
    def every_suite(self) -> tuple[str, ...]:
        """All suites of this archive that something may come from, each once."""
        return tuple(dict.fromkeys((*self.suites, *self.root_suites, *self.source_suites)))


@dataclass(frozen=True)
class PackageGroup:
    """What is resolved together and by itself: requests such as `name`, `name=version` or `name/suite`.

    `suites` are the only ones it comes from, if there are any. With `source` the requests are `NAME=VERSION` of source
    packages, and their orig tarballs are wanted.
    """

    requests: tuple[str, ...]
    suites: tuple[str, ...] = ()
    source: bool = False


@dataclass(frozen=True)
class VmmSpec:
    """The VMM that the values are predicted for, and the machine besides vCPUs and memory.

    `devices` are values of QEMU's -device in order, `serial` for -serial; `pci_hole64` is the `pci-hole64-size` in
    bytes, None for QEMU's default; `bridge_hotplug` is ACPI hotplug of PCI bridges; `numa_nodes` share vCPUs and memory
    evenly, 0 for a machine without NUMA.
    """

    name: str
    version: str
    machine: str
    cpu: str
    devices: tuple[str, ...]
    pci_hole64: int | None = None
    bridge_hotplug: bool = True
    numa_nodes: int = 0


@dataclass(frozen=True)
class MeasureSpec:
    """The launch profiles of a recipe: every vCPU count with every memory size (bytes)."""

    vmm: VmmSpec
    vcpus: tuple[int, ...]
    memory: tuple[int, ...]


@dataclass(frozen=True)
class Recipe:
    """A parsed recipe in one of its flavours. `digest` is the SHA-256 of its bytes; `command_line`, which holds
    `{root_hash}`, is that of the flavour.

    `ready_text` is what the guest says on its serial port once it works; None if the recipe does not say. Groups, file
    trees and files are those of all flavours, so that one lock does for all of them.
    """

    image: str
    version: str
    source_date_epoch: int
    archives: tuple[Archive, ...]
    roots: Mapping[str, RootSpec]
    firmware: FirmwareSpec
    kernel: KernelSpec
    initrd: InitrdSpec
    guest_os: GuestOsSpec
    app_image: AppImageSpec
    disk_image: DiskImageSpec | None
    command_line: str
    required_axes: tuple[str, ...]
    measure: MeasureSpec
    ready_text: str | None
    flavour: str
    flavours: Mapping[str, FlavourSpec]
    digest: str

    @property
    def release_version(self) -> str:
        """The version that this flavour is published as: `0.1.0`, or `0.1.0-dev`."""
        return self.version if self.flavour == PROD else f"{self.version}-{self.flavour}"

    @property
    def guest_os_group(self) -> str:
        """The group of packages that the guest OS of this flavour is made from."""
        return "components.guest_os" if self.flavour == PROD else f"flavours.{self.flavour}"

    @property
    def guest_os_trees(self) -> tuple[str, ...]:
        """The recipe's own trees of this flavour's guest OS, each laid over the one before."""
        overlay = None if self.flavour == PROD else self.flavours[self.flavour].files
        return tuple(tree for tree in (self.guest_os.files, overlay) if tree is not None)

    def package_groups(self) -> dict[str, PackageGroup]:
        """Every group by name: `roots.NAME`, `components.NAME`, `flavours.NAME` and `sources.NAME`.

        The group of a flavour is the whole guest OS: its packages and the flavour's, resolved together.
        """
        return {
            **{f"roots.{name}": PackageGroup(root.packages, root.suites) for name, root in self.roots.items()},
            **self._component_groups(),
            **{
                f"flavours.{name}": PackageGroup(tuple(dict.fromkeys((*self.guest_os.packages, *flavour.packages))))
                for name, flavour in self.flavours.items()
            },
        }

    def _component_groups(self) -> dict[str, PackageGroup]:
        groups = {}
        for name in ("firmware", "kernel", "initrd", "app_image", "guest_os", "disk_image"):
            spec = getattr(self, name)
            if isinstance(spec, FirmwareSource | KernelSource):
                groups[f"sources.{name}"] = PackageGroup((spec.source,), source=True)
            elif hasattr(spec, "packages"):
                groups[f"components.{name}"] = PackageGroup(spec.packages)
        return groups

    def prebuilt_files(self) -> dict[str, Prebuilt]:
        """The components that are prebuilt, by name."""
        found = {}
        if isinstance(self.firmware, FirmwarePrebuilt):
            found["firmware"] = self.firmware.prebuilt
        if isinstance(self.kernel, KernelPrebuilt):
            found["kernel"] = self.kernel.prebuilt
        return found

    def file_trees(self) -> tuple[str, ...]:
        """The recipe's own directories, relative to it, whose files are inputs of the build; those of all flavours."""
        trees = [self.initrd.files, self.app_image.files, self.guest_os.files, self.guest_os.mkosi]
        if isinstance(self.firmware, FirmwareSource):
            trees.append(self.firmware.files)
        if isinstance(self.kernel, KernelSource):
            trees.append(self.kernel.patches)
        trees += [flavour.files for flavour in self.flavours.values()]
        return tuple(dict.fromkeys(tree for tree in trees if tree is not None))

    def single_files(self) -> tuple[str, ...]:
        """The recipe's own files, relative to it, that it names one by one."""
        files = [self.app_image.compose, *(prebuilt.path for prebuilt in self.prebuilt_files().values())]
        if isinstance(self.kernel, KernelSource):
            files += [*self.kernel.config, self.kernel.required]
        return tuple(dict.fromkeys(file for file in files if file is not None))


def parse_recipe(data: bytes, *, what: str, flavour: str = PROD) -> Recipe:
    """Parse and check a recipe, and choose one of its flavours.

    DocumentError names the field, the value found and the value wanted, or the flavours that there are.
    """
    from builder.encoding.schema import coerce  # both load a YAML parser, which no VmmSpec needs
    from builder.encoding.strict_yaml import parse_yaml

    document = coerce(parse_yaml(data, what=what), schema_name="recipe-v1", what=what)
    roots = {name: parse_root(entry) for name, entry in sorted(document["roots"].items())}
    recipe = Recipe(
        image=document["image"],
        version=document["version"],
        source_date_epoch=document["source_date_epoch"],
        archives=_archives(document["archives"], roots, what),
        roots=roots,
        **vars(parse_components(document["components"])),
        command_line=document["command_line"],
        required_axes=tuple(document["legs"]["require"]),
        measure=_measure(document["measure"], what),
        ready_text=document.get("rehearse", {}).get("until"),
        flavour=PROD,
        flavours={name: parse_flavour(entry) for name, entry in sorted(document.get("flavours", {}).items())},
        digest=sha256_hex(data),
    )
    check_recipe(recipe, what)
    return _in_flavour(recipe, flavour, what)


def _in_flavour(recipe: Recipe, name: str, what: str) -> Recipe:
    if name == PROD:
        return recipe
    if name not in recipe.flavours:
        known = ", ".join((PROD, *recipe.flavours))
        raise DocumentError(f"{what}: no flavour {name!r}", hint=f"flavours of this recipe: {known}")
    command_line = recipe.flavours[name].command_line
    return replace(recipe, flavour=name, command_line=command_line or recipe.command_line)


def _archives(entries: dict[str, Any], roots: Mapping[str, RootSpec], what: str) -> tuple[Archive, ...]:
    archives = {name: Archive(name=name, **frozen(entry)) for name, entry in sorted(entries.items())}
    for root, spec in roots.items():
        for suite in spec.suites:
            archive = _archive_of(suite, archives, f"{what}: $.roots.{root}.suites")
            if suite not in archive.suites + archive.root_suites:
                archives[archive.name] = replace(archive, root_suites=(*archive.root_suites, suite))
    return tuple(archives.values())


def _archive_of(suite: str, archives: Mapping[str, Archive], what: str) -> Archive:
    """The archive that lists a suite, or the only one there is."""
    listing = [archive for archive in archives.values() if suite in archive.every_suite] or list(archives.values())
    if len(listing) != 1:
        names = ", ".join(archive.name for archive in listing)
        raise DocumentError(f"{what}: {suite!r} could be of any of the archives {names}", hint="list it in one of them")
    return listing[0]


def _measure(entry: dict[str, Any], what: str) -> MeasureSpec:
    vmm = VmmSpec(**frozen(entry["vmm"]))
    if vmm.pci_hole64 is not None:
        vmm = replace(vmm, pci_hole64=parse_size(entry["vmm"]["pci_hole64"], what=f"{what}: $.measure.vmm.pci_hole64"))
    memory = tuple(
        parse_size(text, what=f"{what}: $.measure.memory[{index}]") for index, text in enumerate(entry["memory"])
    )
    return MeasureSpec(vmm, tuple(entry["vcpus"]), memory)
