"""What a recipe has to keep that its schema cannot say. `parse_recipe` calls it."""

from collections.abc import Iterator
from string import Formatter
from typing import TYPE_CHECKING

from builder.errors import DocumentError
from builder.model.components import PROD, FirmwareSource, KernelSource
from builder.model.variation import AXES

if TYPE_CHECKING:
    from builder.model.recipe import Recipe

PLACEHOLDERS = ("root_hash", "root_size")
_ALWAYS_USED = ("tools", "vmm")


def check_recipe(recipe: "Recipe", what: str) -> None:
    """DocumentError for the first rule that `recipe` breaks: axes, command lines, roots, sources, flavours, links."""
    unknown = [axis for axis in recipe.required_axes if axis not in AXES]
    if unknown:
        raise DocumentError(
            f"{what}: $.legs.require: unknown axis {unknown[0]!r}", hint=f"known axes: {', '.join(AXES)}"
        )
    for path, text in _command_lines(recipe):
        _check_command_line(text, f"{what}: {path}")
        _check_ready_text(recipe.ready_text, text, what)
    _check_roots(recipe, what)
    _check_sources(recipe, what)
    _check_flavours(recipe, what)
    _check_links(recipe, what)


def _command_lines(recipe: "Recipe") -> Iterator[tuple[str, str]]:
    yield "$.command_line", recipe.command_line
    for name, flavour in recipe.flavours.items():
        if flavour.command_line is not None:
            yield f"$.flavours.{name}.command_line", flavour.command_line


def _check_command_line(text: str, what: str) -> None:
    """Only the bare names: `str.format` would follow attributes, indexes, conversions and specifications as well."""
    try:
        fields = [field for field in Formatter().parse(text) if field[1] is not None]
    except ValueError as error:
        raise DocumentError(f"{what}: {text!r}: {error}", hint="write a brace twice") from error
    if any(name not in PLACEHOLDERS or spec or conversion for _, name, spec, conversion in fields):
        raise DocumentError(f"{what}: {text!r} has a placeholder other than {{root_hash}} and {{root_size}}")
    if not any(name == "root_hash" for _, name, _, _ in fields):
        raise DocumentError(f"{what}: has no {{root_hash}}, so the root file system would not be measured")


def _check_ready_text(ready_text: str | None, command_line: str, what: str) -> None:
    """Linux says its command line on the console long before anything works."""
    written = command_line.format(**{name: f"{{{name}}}" for name in PLACEHOLDERS})
    if ready_text is not None and ready_text in written:
        raise DocumentError(
            f"{what}: $.rehearse.until: {ready_text!r} is in the command line, which the kernel says by itself",
            hint="wait for a text that only the working guest says",
        )


def _check_roots(recipe: "Recipe", what: str) -> None:
    """A root that nothing is built in would be fetched for nothing, and most likely has its name misspelt elsewhere."""
    used = {}
    for component in ("firmware", "kernel", "guest_os"):
        root = getattr(getattr(recipe, component), "root", None)
        if root is not None:
            used[root] = f"$.components.{component}.root"
    for root, path in used.items():
        if root not in recipe.roots:
            raise DocumentError(f"{what}: {path}: no root {root!r}", hint=f"roots there are: {', '.join(recipe.roots)}")
    unused = recipe.roots.keys() - used.keys() - set(_ALWAYS_USED)
    if unused:
        raise DocumentError(f"{what}: $.roots.{min(unused)}: no component has it as its `root`", hint="remove it")


def _check_sources(recipe: "Recipe", what: str) -> None:
    from_source = [spec for spec in (recipe.firmware, recipe.kernel) if isinstance(spec, FirmwareSource | KernelSource)]
    if from_source and not any(archive.source_suites for archive in recipe.archives):
        raise DocumentError(
            f"{what}: no archive has source_suites, wanted for {from_source[0].source}",
            hint="name the suite that has this source: $.archives.debian.source_suites",
        )


def _check_flavours(recipe: "Recipe", what: str) -> None:
    """The version of a release tells its flavour, so the version of `prod` must not look like that of another one."""
    for name in recipe.flavours:
        if name == PROD:
            raise DocumentError(f"{what}: $.flavours: {PROD!r} is what the recipe says itself, and is not listed")
        if recipe.version.endswith(f"-{name}"):
            raise DocumentError(f"{what}: $.version: {recipe.version} would be taken for the flavour {name!r}")


def _check_links(recipe: "Recipe", what: str) -> None:
    """A link below another one would be made wherever that one points."""
    paths = {path for path, _ in recipe.guest_os.links}
    for path in sorted(paths):
        parts = path.split("/")
        above = {"/".join(parts[:count]) for count in range(1, len(parts))} & paths
        if above:
            raise DocumentError(f"{what}: $.components.guest_os.links: {path!r} lies below the link {min(above)!r}")
