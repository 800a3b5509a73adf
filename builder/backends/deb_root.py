"""A pinned root: locked .deb files unpacked without dpkg, maintainer scripts or privileges.

The result has a merged /usr, is read-only, and belongs to the user who unpacks. Modes are reduced to "may be run" and
"may be read" and times are the packages' own, so that the same packages give the same tree on every host. Packages are
pinned by digest, but their content is not trusted to stay inside the tree: every path is checked, and nothing is
written through a link.
"""

import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

from builder.backends.scratch import move_into_place, scratch_directory
from builder.errors import DocumentError
from builder.normalize.deb import (
    MERGED_DIRECTORIES,
    Entry,
    EntryKind,
    data_tar,
    is_merged_usr_link,
    merged_usr_path,
    read_entries,
)
from builder.ports import Progress

_AHEAD = 2 + (os.cpu_count() or 1)  # unpacked packages that may wait in memory

# where a sandbox mounts, and the empty directories below which build and temporary directories may lie
_MOUNT_POINTS = ("build", "dev", "home", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "var/tmp")
_FILES = MappingProxyType(
    {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n",
        "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    }
)
# what update-alternatives would have linked: name -> programs, the first that is there is taken
_ALTERNATIVES = MappingProxyType({"usr/bin/awk": ("gawk", "mawk")})


def unpack_root(debs: Sequence[Path], target: Path, progress: Progress) -> None:
    """Unpack `debs`, in this order, into the new directory `target`, which is there whole or not at all.

    An existing `target` is taken as it is: name it after the digests of `debs` and ROOT_LAYOUT, which has to grow with
    every change here that gives another tree. DocumentError for a package that is malformed, leaves the tree, or has a
    file that an earlier one has, and for no packages at all. Nothing here checks digests.
    """
    if not debs:
        raise DocumentError(f"{target}: a pinned root is made from packages, and there are none")
    if target.is_dir():
        return
    task = f"unpack {target.name}"
    progress.start(task, sum(deb.stat().st_size for deb in debs))
    partial = target.with_name(f"{target.name}.partial-{os.getpid()}-{os.urandom(4).hex()}")
    with scratch_directory(partial):
        writer = _TreeWriter(partial)
        with closing(_data_tars(debs)) as tars:
            for deb, tar in tars:
                writer.add_package(tar, deb.name)
                progress.advance(task, deb.stat().st_size)
        writer.finish()
        move_into_place(partial, target)
    progress.finish(task, f"{len(debs)} packages")


def _data_tars(debs: Sequence[Path]) -> Generator[tuple[Path, bytes], None, None]:
    """Each package with its data.tar, in order. lzma lets other threads run, so this takes all processors."""
    waiting: deque[tuple[Path, Future[bytes]]] = deque()
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="unpack") as pool:
        for deb in debs:
            waiting.append((deb, pool.submit(_data_tar, deb)))
            if len(waiting) == _AHEAD:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())


def _result(deb: Path, tar: Future[bytes]) -> tuple[Path, bytes]:
    return deb, tar.result()


def _data_tar(deb: Path) -> bytes:
    return data_tar(deb.read_bytes(), what=deb.name)


class _TreeWriter:
    """Writes entries below an empty directory and remembers what each path became, so that no link is ever followed."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._kinds: dict[str, EntryKind] = {"": EntryKind.DIRECTORY}
        self._owners: dict[str, str] = {}
        for name in MERGED_DIRECTORIES:
            self._make_directory(f"usr/{name}", "merged /usr")
            self._add(Entry(name, EntryKind.SYMLINK, 0o777, 0, target=f"usr/{name}"), name, "merged /usr")

    def add_package(self, tar: bytes, package: str) -> None:
        """Write all entries of one package."""
        for entry in read_entries(tar, what=package):
            if not is_merged_usr_link(entry):
                self._add(entry, merged_usr_path(entry.path), package)

    def finish(self) -> None:
        """Add what maintainer scripts would have made and a sandbox needs, then make every directory read-only."""
        for path in _MOUNT_POINTS:
            self._make_directory(path, "mount points")
        for path, text in _FILES.items():
            if path not in self._kinds:
                self._add(Entry(path, EntryKind.FILE, 0o644, 0, data=text.encode("ascii")), path, "accounts")
        for path, programs in _ALTERNATIVES.items():
            self._add_alternative(path, programs)
        for path, kind in self._kinds.items():
            if kind is EntryKind.DIRECTORY:
                self._seal(self._tree / path, executable=True, mtime=0)

    def _add_alternative(self, path: str, programs: Sequence[str]) -> None:
        directory = path.rpartition("/")[0]
        found = [program for program in programs if f"{directory}/{program}" in self._kinds]
        if found and path not in self._kinds:
            self._add(Entry(path, EntryKind.SYMLINK, 0o777, 0, target=found[0]), path, "alternatives")

    def _add(self, entry: Entry, path: str, package: str) -> None:
        if entry.kind is EntryKind.DIRECTORY:
            self._make_directory(path, package)
            return
        parent = path.rpartition("/")[0]
        self._make_directory(parent, package)
        if path in self._kinds:
            raise DocumentError(
                f"{package}: {path} is also in {self._owners.get(path, 'the tree')} as a {self._kinds[path]}",
                hint="these packages cannot be in one root; take one of them out of the recipe",
            )
        self._write(entry, path, package)
        self._kinds[path] = entry.kind
        self._owners[path] = package

    def _write(self, entry: Entry, path: str, package: str) -> None:
        place = self._tree / path
        match entry.kind:
            case EntryKind.FILE:
                place.write_bytes(entry.data)
                self._seal(place, executable=bool(entry.mode & 0o111), mtime=entry.mtime)
            case EntryKind.SYMLINK:
                place.symlink_to(entry.target)
                os.utime(place, (entry.mtime, entry.mtime), follow_symlinks=False)
            case _:
                self._hard_link(place, merged_usr_path(entry.target), package)

    def _hard_link(self, place: Path, existing: str, package: str) -> None:
        kind = self._kinds.get(existing)
        if kind not in (EntryKind.FILE, EntryKind.HARD_LINK):
            raise DocumentError(f"{package}: hard link to {existing}, which is {kind or 'missing'}, wanted a file")
        place.hardlink_to(self._tree / existing)

    def _make_directory(self, path: str, package: str) -> None:
        kind = self._kinds.get(path)
        if kind is EntryKind.DIRECTORY:
            return
        if kind is not None:
            raise DocumentError(
                f"{package}: directory {path} is a {kind} of {self._owners.get(path, 'the tree')}, wanted a directory"
            )
        self._make_directory(path.rpartition("/")[0], package)
        (self._tree / path).mkdir()
        self._kinds[path] = EntryKind.DIRECTORY
        self._owners[path] = package

    @staticmethod
    def _seal(place: Path, *, executable: bool, mtime: int) -> None:
        place.chmod(0o555 if executable else 0o444)
        os.utime(place, (mtime, mtime))
