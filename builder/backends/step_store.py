"""Where the step cache lies: entries by digest of their task, and a store of the files that they name.

It is bounded: when it is opened and nobody else uses it, the entries used least lately are removed until the files of
the others fit, and then every file that no entry names. `rm -r` of the whole directory is always safe while no build
runs.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from builder.backends.atomic_file import storage_errors, write_atomically
from builder.backends.local_store import LocalStore
from builder.encoding.canonical_json import parse_json
from builder.errors import BuilderError
from builder.model.digest import checked_sha256

MOST_BYTES = 20 << 30


class StepStore:
    """A StepIndex of `builder.ports`, with the store beside it. Made by `open_step_store`."""

    def __init__(self, directory: Path) -> None:
        self._entries = directory / "entries"
        with storage_errors(self._entries):
            self._entries.mkdir(parents=True, exist_ok=True)
        self.objects = LocalStore(directory / "store")

    def read(self, sha256: str) -> bytes | None:
        """The entry as it was written, or None; it counts as used now."""
        path = self._entry(sha256)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data

    def write(self, sha256: str, data: bytes) -> None:
        """Write an entry; it is there whole or not at all."""
        write_atomically(self._entry(sha256), data)

    def trim(self, most_bytes: int) -> None:
        """Remove what was used least lately until the rest fits. Nobody else may use the directory meanwhile."""
        kept: set[str] = set()
        total = 0
        with storage_errors(self._entries):
            for entry in sorted(self._entries.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True):
                named = _named_digests(entry)
                total += sum(self.objects.size(digest) for digest in named - kept)
                if not named or total > most_bytes:
                    entry.unlink()
                else:
                    kept |= named
        self.objects.prune(kept)

    def _entry(self, sha256: str) -> Path:
        return self._entries / f"{checked_sha256(sha256, what='step cache entry')}.json"


@contextmanager
def open_step_store(directory: Path, *, most_bytes: int = MOST_BYTES) -> Iterator[StepStore]:
    """The step cache in `directory`, made if it is not there, trimmed if nobody else uses it, and held by this run."""
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        store = StepStore(directory)
        with suppress(BlockingIOError):  # another run uses it
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            store.trim(most_bytes)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield store
    finally:
        os.close(descriptor)


def _named_digests(entry: Path) -> set[str]:
    """The files that an entry names; none if it is damaged."""
    try:
        document = parse_json(entry.read_bytes(), what=entry.name)
        found = {document["log"], *(output["sha256"] for output in document["outputs"].values())}
        return {checked_sha256(digest, what=entry.name) for digest in found}
    except (OSError, BuilderError, KeyError, TypeError, AttributeError):
        return set()
