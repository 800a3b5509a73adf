"""The root hash of a dm-verity tree: SHA-256, 4096-byte blocks, no salt (`determinism.md` 3.8).

This is the second, independent way to the value on the measured command line; `veritysetup` is the first.
"""

import hashlib
from collections.abc import Iterable, Iterator

from builder.errors import DocumentError

BLOCK = 4096
DIGEST = 32


def verity_root_hash(chunks: Iterable[bytes]) -> str:
    """The root hash, 64 hex digits, over data in chunks of any size.

    DocumentError if the data is empty or not a whole number of blocks.
    """
    level = [hashlib.sha256(block).digest() for block in _blocks(chunks)]
    if not level:
        raise DocumentError("dm-verity: no data to hash")
    while len(level) > 1:
        level = [hashlib.sha256(block).digest() for block in _hash_blocks(level)]
    return level[0].hex()


def _hash_blocks(level: list[bytes]) -> Iterator[bytes]:
    per_block = BLOCK // DIGEST
    for start in range(0, len(level), per_block):
        yield b"".join(level[start : start + per_block]).ljust(BLOCK, b"\0")


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        whole = len(rest) - len(rest) % BLOCK
        for start in range(0, whole, BLOCK):
            yield rest[start : start + BLOCK]
        rest = rest[whole:]
    if rest:
        raise DocumentError(f"dm-verity: {len(rest)} bytes after the last whole block of {BLOCK}")
