"""Files by path: read whole, or hashed piece by piece."""

import hashlib
from pathlib import Path

from builder.errors import DocumentError


def read_document(path: Path) -> bytes:
    """The bytes of a document; DocumentError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read: {error.strerror}") from error


def hash_file(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file, read once. OSError if it cannot be read."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()
