"""Directories that are ours to fill and to remove, whatever modes were set inside them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.errors import DocumentError


@contextmanager
def scratch_directory(path: Path) -> Iterator[Path]:
    """Make the directory `path`, which must not exist; what is left of it at the end of the block is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError as error:
        raise DocumentError(f"{path}: exists, wanted a directory to make", hint="remove it or name another") from error
    try:
        yield path
    finally:
        if path.exists():
            remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove a directory tree that we own, read-only directories included. Links are removed, never followed."""
    if path.is_symlink():
        path.unlink()
        return
    _make_writable(path)
    shutil.rmtree(path)


def _make_writable(directory: Path) -> None:
    directory.chmod(0o700)
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            _make_writable(entry)


def move_into_place(source: Path, target: Path) -> None:
    """Rename the directory `source` to `target`; nothing happens if someone else has made `target` meanwhile."""
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def copy_below(source: Path, directory: Path, path: str, *, mode: int) -> None:
    """Copy a file to `path` below `directory`, with directories on the way; no mode depends on our own umask."""
    place = directory / path
    try:
        for parent in reversed(place.relative_to(directory).parents):
            make_directory(directory / parent)
    except FileExistsError as error:
        raise DocumentError(f"{path}: {error.filename} is a file already, wanted a directory") from error
    shutil.copyfile(source, place)
    place.chmod(mode)


def make_directory(path: Path) -> None:
    """Make a directory, mode 0755 whatever the umask is, unless it is there."""
    path.mkdir(exist_ok=True)
    path.chmod(0o755)
