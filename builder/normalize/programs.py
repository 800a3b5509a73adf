"""Programs with everything the loader needs to start them, chosen out of a tree of unpacked packages."""

from collections.abc import Iterable, Iterator

from builder.errors import DocumentError
from builder.normalize.elf import interpreter, needed_libraries
from builder.normalize.tree import Member, Tree

# where the loader of Debian's amd64 looks without configuration or cache
LIBRARY_DIRECTORIES = ("usr/lib/x86_64-linux-gnu", "usr/lib")


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
