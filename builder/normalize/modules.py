"""Kernel modules with the modules they need, in the order in which they can be inserted."""

import lzma
from collections.abc import Iterable

from builder.errors import DocumentError
from builder.normalize.elf import module_information
from builder.normalize.tree import Member, Tree, file_member

MODULES = "usr/lib/modules"
MAX_MODULE_SIZE = 64 << 20

_SUFFIXES = (".ko", ".ko.xz")


def kernel_release(tree: Tree, *, what: str) -> str:
    """The release whose modules `tree` holds; DocumentError unless there is exactly one."""
    releases = sorted({member.path.split("/")[3] for member in tree.below(MODULES)})
    if len(releases) != 1:
        raise DocumentError(f"{what}: modules of {len(releases)} kernels, wanted one: {', '.join(releases) or 'none'}")
    return releases[0]


def module_members(tree: Tree, names: Iterable[str], *, what: str) -> tuple[Member, ...]:
    """The modules `names` and all that they depend on, uncompressed, each after the ones it needs.

    `-` and `_` are the same in a module's name. A module that is built into the kernel is left out. DocumentError for
    a name that is neither. Aliases and the choices of modprobe.d are not known here: what a module asks for by an
    alias, softly, is the caller's to name, unless the kernel has it built in.
    """
    available = _Modules(tree, what)
    ordered: dict[str, Member] = {}
    for name in names:
        _insert(available, name, ordered, ())
    return tuple(ordered.values())


def _insert(available: "_Modules", name: str, ordered: dict[str, Member], above: tuple[str, ...]) -> None:
    name = _normal(name)
    if name in ordered or name in available.built_in:
        return
    if name in above:
        raise DocumentError(f"kernel modules need each other in a circle: {' -> '.join((*above, name))}")
    module = available.module(name, above)
    for needed in _needs(module, available):
        _insert(available, needed, ordered, (*above, name))
    ordered[name] = module


def _needs(module: Member, available: "_Modules") -> list[str]:
    """`depends` is what the module links to; `softdep: pre` is what it asks to find loaded, if that is a module's name
    and not an alias, such as `crc32c`. modprobe goes on without a soft dependency too."""
    needed: list[str] = []
    for field, value in module_information(module.read(), what=module.path):
        if field == "depends":
            needed += [name for name in value.split(",") if name]
        elif field == "softdep" and value.startswith("pre:"):
            asked = value.removeprefix("pre:").partition("post:")[0].split()
            needed += [name for name in asked if available.has(name)]
    return needed


class _Modules:
    """The modules of one kernel by name."""

    def __init__(self, tree: Tree, what: str) -> None:
        self._what = what
        directory = f"{MODULES}/{kernel_release(tree, what=what)}"
        self._files: dict[str, Member] = {}
        for member in tree.below(f"{directory}/kernel"):
            if member.path.endswith(_SUFFIXES):
                self._add(member)
        listed = tree.file(f"{directory}/modules.builtin", what=what)[-1].read().decode("utf-8", "replace")
        self.built_in = frozenset(_module_name(path) for path in listed.split())

    def module(self, name: str, above: tuple[str, ...]) -> Member:
        """The module as it is inserted: not compressed."""
        member = self._files.get(name)
        if member is None:
            needed = f" (needed by {above[-1]})" if above else ""
            raise DocumentError(
                f"{self._what}: no kernel module {name}{needed}", hint="see modules.order of the kernel"
            )
        if not member.path.endswith(".xz"):
            return member
        return file_member(member.path.removesuffix(".xz"), _uncompressed(member))

    def has(self, name: str) -> bool:
        """Whether there is a module of this name."""
        return _normal(name) in self._files

    def _add(self, member: Member) -> None:
        known = self._files.setdefault(_module_name(member.path), member)
        if known is not member:
            raise DocumentError(f"{self._what}: two kernel modules of one name: {known.path} and {member.path}")


def _uncompressed(member: Member) -> bytes:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    try:
        data = decompressor.decompress(member.read(), MAX_MODULE_SIZE)
    except lzma.LZMAError as error:
        raise DocumentError(f"{member.path}: not a valid xz file: {error}") from error
    if not decompressor.eof:
        raise DocumentError(f"{member.path}: cut off, or unpacks to more than {MAX_MODULE_SIZE} bytes")
    return data


def _module_name(path: str) -> str:
    return _normal(path.rpartition("/")[2].partition(".ko")[0])


def _normal(name: str) -> str:
    return name.replace("-", "_")
