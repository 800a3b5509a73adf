"""Authenticode digests of programs that Debian and Microsoft signed, against their signatures and another library."""

from collections.abc import Iterator
from pathlib import Path

import lief
import pytest

from builder.measure.boot.shim import default_shim_lists
from builder.measure.images.authenticode import authenticode_digest
from tests.integration.debian import debian_files

pytestmark = pytest.mark.network

SUITES = ["bookworm", "trixie"]
SIGNED = ["shim-signed", "grub-efi-amd64-signed", "linux-image-cloud-amd64"]
KEPT = r"shim-signed|grub-efi-amd64-signed|linux-image-[0-9].*"
PATTERNS = ["usr/lib/shim/shimx64.efi.signed", "usr/lib/grub/*/grubx64.efi.signed", "boot/vmlinuz-*"]


@pytest.fixture(scope="module", params=SUITES)
def signed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """shim, GRUB and the kernel of a suite."""
    root = debian_files(tmp_path_factory, f"signed-{request.param}", suites=[request.param], packages=SIGNED, keep=KEPT)
    found = [path.read_bytes() for pattern in PATTERNS for path in root.glob(pattern)]
    assert len(found) == 3
    return found


def signed_digests(image: bytes) -> Iterator[bytes]:
    """The digests inside the signatures of an image, which are SHA-256."""
    parsed = lief.PE.parse(list(image))
    for signature in parsed.signatures:
        assert signature.content_info.digest_algorithm == lief.PE.ALGORITHMS.SHA_256
        yield bytes(signature.content_info.digest)


def test_the_digest_is_the_one_that_was_signed(signed: list[bytes]) -> None:
    for image in signed:
        digests = set(signed_digests(image))
        assert digests == {authenticode_digest(image, algorithm="sha256")}


def test_one_changed_byte_is_not_what_was_signed(signed: list[bytes]) -> None:
    for image in signed:
        middle = len(image) // 2
        changed = image[:middle] + bytes((image[middle] ^ 1,)) + image[middle + 1 :]
        assert authenticode_digest(changed, algorithm="sha256") not in set(signed_digests(image))


def test_another_library_computes_the_same(signed: list[bytes]) -> None:
    for image in signed:
        parsed = lief.PE.parse(list(image))
        assert bytes(parsed.authentihash(lief.PE.ALGORITHMS.SHA_384)) == authenticode_digest(image)


def test_debians_shim_has_debians_certificate_and_revoked_hashes(signed: list[bytes]) -> None:
    lists = default_shim_lists(signed[0])
    assert b"Debian Secure Boot CA" in lists.mok_list
    assert len(lists.mok_list_x) > 48, "more than the placeholder of an empty list"


@pytest.fixture(scope="module", params=SUITES)
def unsigned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """systemd-boot and systemd-stub of a suite; those of bookworm have sizes that are no multiple of eight."""
    suite = request.param
    root = debian_files(tmp_path_factory, f"stub-{suite}", suites=[suite], packages=["systemd-boot-efi"])
    return sorted((root / "usr/lib/systemd/boot/efi").glob("*.efi*"))


def test_another_library_agrees_on_unsigned_programs(unsigned: list[Path]) -> None:
    assert len(unsigned) >= 2
    for path in unsigned:
        parsed = lief.PE.parse(str(path))
        assert bytes(parsed.authentihash(lief.PE.ALGORITHMS.SHA_384)) == authenticode_digest(path.read_bytes())
