"""Files by path: read whole, or hashed piece by piece."""

import errno
import hashlib
import os
import shutil
from pathlib import Path

from builder.errors import DocumentError

MAX_DOCUMENT = 1 << 30  # more than any firmware, kernel, initrd or manifest has

_CHUNK = 1 << 20
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)


def read_document(path: Path) -> bytes:
    """The bytes of a document or boot file; DocumentError if it cannot be read, or is larger than MAX_DOCUMENT.

    Read in chunks, so that a device that never ends is an error too.
    """
    chunks: list[bytes] = []
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_DOCUMENT:
                raise _too_large(path)
            while chunk := file.read(_CHUNK):
                chunks.append(chunk)
                if len(chunks) * _CHUNK > MAX_DOCUMENT:
                    raise _too_large(path)
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read: {error.strerror}") from error
    return b"".join(chunks)


def hash_file(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file, read once. OSError if it cannot be read."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()


def link_or_copy(source: Path, target: Path) -> None:
    """Show the file `source` under a second name; a copy of it where that is on another file system."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copy2(source, target)


def _too_large(path: Path) -> DocumentError:
    return DocumentError(f"{path}: more than {MAX_DOCUMENT} bytes, which no document or boot file has")
