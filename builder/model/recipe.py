"""The recipe: what people write to say what an image is made of.

`parse_recipe` is the only way from text to a Recipe; the format is `schemas/recipe-v1.json`.
"""

from dataclasses import dataclass, replace
from string import Formatter
from typing import Any

from builder.errors import DocumentError
from builder.model.digest import sha256_hex
from builder.model.size import parse_size
from builder.model.variation import AXES

SCHEMA = "tdx-builder/recipe/v1"
FILE_NAME = "recipe.yaml"
PLACEHOLDERS = ("root_hash", "root_size")


@dataclass(frozen=True)
class Archive:
    """One package archive: a name for its mirror, and the suites apt may resolve from.

    apt's rules choose between suites: the highest version of those that are not NotAutomatic (backports); where two
    have the same version, the one listed first.
    """

    name: str
    suites: tuple[str, ...]
    components: tuple[str, ...]


@dataclass(frozen=True)
class FirmwareSpec:
    """A firmware file taken out of a package, and the edk2 release it was built from (`measurement.md` 5.1)."""

    packages: tuple[str, ...]
    file: str
    edk2: str


@dataclass(frozen=True)
class KernelSpec:
    """A kernel image taken out of a package."""

    packages: tuple[str, ...]
    file: str


@dataclass(frozen=True)
class InitrdSpec:
    """An initrd: programs with the libraries they need, kernel modules, and the recipe's own files."""

    packages: tuple[str, ...]
    programs: tuple[str, ...]
    modules: tuple[str, ...]
    files: str


@dataclass(frozen=True)
class GuestOsSpec:
    """A root file system: unpacked packages and the recipe's own files, as squashfs with a dm-verity tree."""

    packages: tuple[str, ...]
    files: str
    exclude: tuple[str, ...]


@dataclass(frozen=True)
class AppImageSpec:
    """An OCI image with one layer: unpacked packages and the recipe's own files."""

    packages: tuple[str, ...]
    files: str
    programs: tuple[str, ...]
    entrypoint: tuple[str, ...]


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
    """A parsed recipe. `digest` is the SHA-256 of its bytes; `command_line` holds `{root_hash}`.

    `ready_text` is what the guest says on its serial port once it works; None if the recipe does not say.
    """

    image: str
    version: str
    source_date_epoch: int
    archives: tuple[Archive, ...]
    tools: tuple[str, ...]
    vmm_tools: tuple[str, ...]
    firmware: FirmwareSpec
    kernel: KernelSpec
    initrd: InitrdSpec
    guest_os: GuestOsSpec
    app_image: AppImageSpec
    command_line: str
    required_axes: tuple[str, ...]
    measure: MeasureSpec
    ready_text: str | None
    digest: str

    def package_groups(self) -> dict[str, tuple[str, ...]]:
        """Every group that is resolved on its own, by name: the two pinned roots and the five components."""
        return {
            "roots.tools": self.tools,
            "roots.vmm": self.vmm_tools,
            "components.firmware": self.firmware.packages,
            "components.kernel": self.kernel.packages,
            "components.initrd": self.initrd.packages,
            "components.app_image": self.app_image.packages,
            "components.guest_os": self.guest_os.packages,
        }

    def file_trees(self) -> tuple[str, ...]:
        """The recipe's own directories, relative to it, whose files are inputs of the build."""
        return (self.initrd.files, self.app_image.files, self.guest_os.files)


def parse_recipe(data: bytes, *, what: str) -> Recipe:
    """Parse and check a recipe; DocumentError names the field, the value found and the value wanted."""
    from builder.encoding.schema import coerce  # both load a YAML parser, which no VmmSpec needs
    from builder.encoding.strict_yaml import parse_yaml

    document = coerce(parse_yaml(data, what=what), schema_name="recipe-v1", what=what)
    components = document["components"]
    recipe = Recipe(
        image=document["image"],
        version=document["version"],
        source_date_epoch=document["source_date_epoch"],
        archives=tuple(_archive(name, entry) for name, entry in sorted(document["archives"].items())),
        tools=tuple(document["roots"]["tools"]),
        vmm_tools=tuple(document["roots"]["vmm"]),
        firmware=FirmwareSpec(**_frozen(components["firmware"])),
        kernel=KernelSpec(**_frozen(components["kernel"])),
        initrd=InitrdSpec(**_frozen(components["initrd"])),
        guest_os=GuestOsSpec(**_frozen({"exclude": [], **components["guest_os"]})),
        app_image=AppImageSpec(**_frozen(components["app_image"])),
        command_line=document["command_line"],
        required_axes=tuple(document["legs"]["require"]),
        measure=_measure(document["measure"], what),
        ready_text=document.get("rehearse", {}).get("until"),
        digest=sha256_hex(data),
    )
    _check(recipe, what)
    return recipe


def _archive(name: str, entry: dict[str, Any]) -> Archive:
    return Archive(name, tuple(entry["suites"]), tuple(entry["components"]))


def _frozen(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}


def _measure(entry: dict[str, Any], what: str) -> MeasureSpec:
    vmm = VmmSpec(**_frozen(entry["vmm"]))
    if vmm.pci_hole64 is not None:
        vmm = replace(vmm, pci_hole64=parse_size(entry["vmm"]["pci_hole64"], what=f"{what}: $.measure.vmm.pci_hole64"))
    memory = tuple(
        parse_size(text, what=f"{what}: $.measure.memory[{index}]") for index, text in enumerate(entry["memory"])
    )
    return MeasureSpec(vmm, tuple(entry["vcpus"]), memory)


def _check(recipe: Recipe, what: str) -> None:
    unknown = [axis for axis in recipe.required_axes if axis not in AXES]
    if unknown:
        raise DocumentError(
            f"{what}: $.legs.require: unknown axis {unknown[0]!r}", hint=f"known axes: {', '.join(AXES)}"
        )
    _check_command_line(recipe.command_line, what)
    _check_ready_text(recipe, what)


def _check_command_line(text: str, what: str) -> None:
    """Only the bare names: `str.format` would follow attributes, indexes, conversions and specifications as well."""
    try:
        fields = [field for field in Formatter().parse(text) if field[1] is not None]
    except ValueError as error:
        raise DocumentError(f"{what}: $.command_line: {text!r}: {error}", hint="write a brace twice") from error
    if any(name not in PLACEHOLDERS or spec or conversion for _, name, spec, conversion in fields):
        raise DocumentError(
            f"{what}: $.command_line: {text!r} has a placeholder other than {{root_hash}} and {{root_size}}"
        )
    if not any(name == "root_hash" for _, name, _, _ in fields):
        raise DocumentError(
            f"{what}: $.command_line: has no {{root_hash}}, so the root file system would not be measured"
        )


def _check_ready_text(recipe: Recipe, what: str) -> None:
    """Linux says its command line on the console long before anything works."""
    written = recipe.command_line.format(**{name: f"{{{name}}}" for name in PLACEHOLDERS})
    if recipe.ready_text is not None and recipe.ready_text in written:
        raise DocumentError(
            f"{what}: $.rehearse.until: {recipe.ready_text!r} is in the command line, which the kernel says by itself",
            hint="wait for a text that only the working guest says",
        )
