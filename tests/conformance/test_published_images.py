"""Authenticode digests of published images (`measurement.md` 6.4)."""

from pathlib import Path

import pytest

from builder.errors import DocumentError
from builder.measure import authenticode_digest

PAYLOAD = "pe/td-payload.efi"
COVERS = (PAYLOAD,)


def test_authenticode_of_a_published_image(vectors: Path) -> None:
    assert authenticode_digest((vectors / "pe/td-payload.efi").read_bytes()).hex() == (
        "a319c2cd790a1792e98dacbf5fb89c498136f9f90bf988046acc9833b93e07d0407a09991b5577148435180750ff628b"
    )


def test_any_byte_that_a_loader_uses_changes_the_digest(vectors: Path) -> None:
    image = (vectors / PAYLOAD).read_bytes()
    digest = authenticode_digest(image)
    for offset in (0x40, len(image) // 2, len(image) - 1):
        changed = image[:offset] + bytes((image[offset] ^ 1,)) + image[offset + 1 :]
        assert authenticode_digest(changed) != digest
    assert authenticode_digest(image + b"\0") != digest


@pytest.mark.parametrize("size", [0, 1, 0x3F, 0x100, 0x1000, 160767])
def test_a_cut_image_is_refused(vectors: Path, size: int) -> None:
    with pytest.raises(DocumentError):
        authenticode_digest((vectors / PAYLOAD).read_bytes()[:size])
