"""What an installed system leaves behind besides itself: logs, caches and backups, different at every installation.

They are taken out of a tree in which maintainer scripts ran (`determinism.md` 2.3). Whatever else an installation
leaves to chance stays, and shows as a difference between the legs.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase

from builder.normalize.tree import Kind, Member, Tree

# directories that stay, without what is in them
EMPTIED = ("run", "tmp", "var/cache/apt", "var/lib/apt/lists", "var/log", "var/tmp")
# `*` is any text, slashes included
REMOVED = (
    "etc/*-",  # backups of account files
    "etc/.pwd.lock",
    "etc/ssh/ssh_host_*",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",  # inode numbers and times
    "var/lib/dpkg/*-old",
    "var/lib/systemd/random-seed",
)


def without_traces(tree: Tree) -> Iterator[Member]:
    """The members that stay, sorted. A directory is never removed by its name, so that nothing below it is lost."""
    return (member for member in tree.members() if not _is_trace(member))


def _is_trace(member: Member) -> bool:
    if any(_is_below(member.path, directory) for directory in EMPTIED):
        return True
    return member.kind is not Kind.DIRECTORY and any(fnmatchcase(member.path, pattern) for pattern in REMOVED)


def _is_below(path: str, directory: str) -> bool:
    return path.startswith(f"{directory}/")
