"""Programs with everything the loader needs to start them, chosen out of a tree of unpacked packages."""

from collections.abc import Iterable, Iterator

from builder.errors import DocumentError
from builder.normalize.elf import interpreter, needed_libraries
from builder.normalize.tree import Kind, Member, Tree

# where the loader of Debian's amd64 looks without configuration or cache
LIBRARY_DIRECTORIES = ("usr/lib/x86_64-linux-gnu", "usr/lib")
LIBRARY_ROOT = "usr/lib"
ELF_MAGIC = b"\x7fELF"


def program_members(tree: Tree, programs: Iterable[str], *, what: str) -> tuple[Member, ...]:
    """The members for `programs` (paths, `/bin` and `/lib` allowed): files, links, loader and libraries.

    DocumentError, naming the tree `what`, for a program or library that is not there, and for a script, whose needs
    cannot be read from it. What a program opens while it runs is not known here either.
    """
    found: dict[str, Member] = {}
    waiting = list(programs)
    while waiting:
        members = tree.file(waiting.pop(), what=what)
        if members[-1].path not in found:
            waiting += _loads(tree, members[-1], what)
        found |= {member.path: member for member in members}
    return tuple(found[path] for path in sorted(found))


def check_libraries(tree: Tree, *, what: str) -> None:
    """DocumentError, naming the tree `what`, if a program or library of `tree` loads one that is nowhere in it.

    A library is looked for by name in any directory: where a program of its own looks (RUNPATH) is not read. What is
    opened while a program runs is not known here either.
    """
    names = {member.path.rpartition("/")[2] for member in tree.below(LIBRARY_ROOT)}
    missing = {
        f"{member.path} loads {name}"
        for member in tree.below("usr")
        if member.kind is Kind.FILE and _starts_as_elf(member)
        for name in needed_libraries(member.read(), what=f"{what}: {member.path}")
        if name not in names
    }
    if missing:
        shown = "; ".join(sorted(missing)[:5])
        raise DocumentError(
            f"{what}: {shown}: no package has {'it' if len(missing) == 1 else 'them'} ({len(missing)} in all)",
            hint="add the packages that ship them to the recipe, or exclude what loads them",
        )


def _starts_as_elf(member: Member) -> bool:
    return next(iter(member.content), b"").startswith(ELF_MAGIC)


def _loads(tree: Tree, member: Member, what: str) -> Iterator[str]:
    data = member.read()
    if data.startswith(b"#!"):
        raise DocumentError(f"{what}: {member.path} is a script", hint="put scripts among the recipe's own files")
    loader = interpreter(data, what=f"{what}: {member.path}")
    if loader is not None:
        yield loader.lstrip("/")
    for name in needed_libraries(data, what=f"{what}: {member.path}"):
        yield _library(tree, name, f"{what}: {member.path}")


def _library(tree: Tree, name: str, what: str) -> str:
    for directory in LIBRARY_DIRECTORIES:
        if tree.get(f"{directory}/{name}") is not None:
            return f"{directory}/{name}"
    raise DocumentError(
        f"{what} loads {name}, which no package has", hint="add the package that ships it to the recipe"
    )
