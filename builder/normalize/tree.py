"""A tree of files as values: what the archive writers write, and what packages and recipes are merged into.

Times are not part of a member: every writer sets SOURCE_DATE_EPOCH, so that no clock can reach an artefact. Extended
attributes, device nodes and hard links are not part of it either.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from builder.errors import DocumentError
from builder.normalize.deb import MERGED_DIRECTORIES, merged_usr_path
from builder.normalize.paths import MAX_LINKS, TOP, link_path, parent, path_bytes


class Kind(StrEnum):
    """What a member is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"


@dataclass(frozen=True)
class Member:
    """One file, directory or symbolic link. `content` is `size` bytes in chunks and can be read more than once."""

    path: str
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    content: Iterable[bytes] = ()
    target: str = ""

    def read(self) -> bytes:
        """The whole content in memory."""
        return b"".join(self.content)


def file_member(path: str, data: bytes, *, executable: bool = False) -> Member:
    """A file owned by root, 0755 if executable, else 0644, whatever the mode it was checked out with."""
    return Member(path, Kind.FILE, 0o755 if executable else 0o644, size=len(data), content=(data,))


def directory_member(path: str, mode: int = 0o755) -> Member:
    """A directory owned by root."""
    return Member(path, Kind.DIRECTORY, mode)


def symlink_member(path: str, target: str) -> Member:
    """A symbolic link owned by root."""
    return Member(path, Kind.SYMLINK, 0o777, target=target)


class Tree:
    """Members by path, each with the origin it came from. Several origins may ship a path only if they agree on it."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._origins: dict[str, str] = {}

    def add(self, member: Member, *, origin: str) -> None:
        """Add what `origin` ships; DocumentError naming both origins if another one ships something else there."""
        known = self._members.get(member.path)
        if known is not None and not _same(known, member):
            raise DocumentError(
                f"/{member.path}: {self._origins[member.path]} and {origin} differ on it:"
                f" {_description(known)}, and {_description(member)}",
                hint="these packages cannot be in one tree; take one of them out of the recipe",
            )
        self._store(member, origin)

    def put(self, member: Member, *, origin: str) -> None:
        """Add a member in place of whatever is there; a directory is only ever replaced by a directory."""
        known = self._members.get(member.path)
        if known is not None and (known.kind is Kind.DIRECTORY) != (member.kind is Kind.DIRECTORY):
            raise DocumentError(
                f"/{member.path}: a {member.kind} of {origin} cannot replace"
                f" a {known.kind} of {self._origins[member.path]}"
            )
        self._store(member, origin)

    def remove(self, path: str) -> None:
        """Forget the member at `path`."""
        del self._members[path], self._origins[path]

    def get(self, path: str) -> Member | None:
        """The member at exactly this path; links are not followed."""
        return self._members.get(path)

    def below(self, directory: str) -> Iterator[Member]:
        """All members below `directory`, which need not be a member itself, sorted."""
        prefix = f"{directory}/" if directory else ""
        return iter(sorted((m for p, m in self._members.items() if p.startswith(prefix) and p != TOP), key=_order))

    def file(self, path: str, *, what: str) -> tuple[Member, ...]:
        """The file that `path` leads to, last, and before it every link on the way; `path` may use `/bin` and `/lib`.

        DocumentError, naming the tree `what`, if there is no file at the end. Links among the directories on the way
        are not followed, except those of the merged `/usr`.
        """
        found: list[Member] = []
        current = merged_usr_path(path)
        while (member := self._members.get(current)) is not None and len(found) <= MAX_LINKS:
            found.append(member)
            if member.kind is Kind.FILE:
                return tuple(found)
            if member.kind is Kind.DIRECTORY:
                break
            current = link_path(current, member.target, what=what)
        missing = "" if current == merged_usr_path(path) else f" (it leads to {current})"
        raise DocumentError(f"{what}: no file {path}{missing}", hint="see what the packages hold with `dpkg-deb -c`")

    def members(self) -> tuple[Member, ...]:
        """Every member, sorted by the bytes of its path, each after its directory; missing directories are made (0755).

        The top directory is no member: whoever unpacks has it already. DocumentError if a member lies below something
        that is not a directory.
        """
        complete = dict(self._members)
        for path in self._members:
            self._complete(complete, path)
        return tuple(sorted((member for path, member in complete.items() if path != TOP), key=_order))

    def _complete(self, complete: dict[str, Member], path: str) -> None:
        while path != TOP:
            child, path = path, parent(path)
            above = complete.setdefault(path, directory_member(path))
            if above.kind is not Kind.DIRECTORY:
                raise DocumentError(
                    f"/{child} of {self._origins.get(child, 'the tree')} lies below /{path},"
                    f" which is a {above.kind} of {self._origins[path]}"
                )

    def _store(self, member: Member, origin: str) -> None:
        self._members[member.path] = member
        self._origins[member.path] = origin


def add_merged_usr_links(tree: Tree) -> None:
    """Link `/bin`, `/lib` and so on into `/usr`, as far as the tree has them there."""
    for name in MERGED_DIRECTORIES:
        if next(tree.below(f"usr/{name}"), None) is not None:
            tree.add(symlink_member(name, f"usr/{name}"), origin="the merged /usr")


def _order(member: Member) -> bytes:
    return path_bytes(member.path)


def _same(one: Member, other: Member) -> bool:
    attributes = one.kind, one.mode, one.uid, one.gid, one.size, one.target
    if attributes != (other.kind, other.mode, other.uid, other.gid, other.size, other.target):
        return False
    return one.kind is not Kind.FILE or one.read() == other.read()


def _description(member: Member) -> str:
    target = f" to {member.target}" if member.kind is Kind.SYMLINK else ""
    size = f" of {member.size} bytes" if member.kind is Kind.FILE else ""
    return f"a {member.kind}{target}{size} with mode {member.mode:04o}, owner {member.uid}:{member.gid}"
