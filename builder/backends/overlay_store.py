"""Two stores as one: what a build makes goes into its own, what it was given is read from the one below."""

from contextlib import AbstractContextManager
from pathlib import Path

from builder.ports import ArtifactStore


class OverlayStore:
    """An ArtifactStore that writes to `own`, and reads from there or else from `below`."""

    def __init__(self, own: ArtifactStore, below: ArtifactStore) -> None:
        self._own = own
        self._below = below

    def path(self, sha256: str) -> Path | None:
        """A read-only file with this digest, or None."""
        return self._own.path(sha256) or self._below.path(sha256)

    def add_file(self, source: Path, *, move: bool = False) -> tuple[str, int]:
        """Store a file's bytes in the own store, hashing them once; gives SHA-256 and size."""
        return self._own.add_file(source, move=move)

    def partial(self, sha256: str) -> AbstractContextManager[Path]:
        """A file to download into the own store."""
        return self._own.partial(sha256)
