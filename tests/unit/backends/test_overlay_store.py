"""Two stores as one: what is made never goes below."""

from pathlib import Path

from builder.backends.local_store import LocalStore
from builder.backends.overlay_store import OverlayStore
from builder.model.digest import sha256_hex


def test_what_is_read_comes_from_either_and_what_is_added_goes_into_its_own(tmp_path: Path) -> None:
    own, below = LocalStore(tmp_path / "own"), LocalStore(tmp_path / "below")
    (tmp_path / "file").write_bytes(b"input")
    given, _ = below.add_file(tmp_path / "file")
    store = OverlayStore(own, below)
    assert store.path(given) == below.path(given) is not None
    (tmp_path / "file").write_bytes(b"output")
    made, size = store.add_file(tmp_path / "file", move=True)
    assert (made, size) == (sha256_hex(b"output"), 6)
    assert store.path(made) == own.path(made) is not None
    assert below.path(made) is None
    assert store.path("0" * 64) is None


def test_what_is_damaged_in_its_own_is_read_from_below(tmp_path: Path) -> None:
    own, below = LocalStore(tmp_path / "own"), LocalStore(tmp_path / "below")
    (tmp_path / "file").write_bytes(b"input")
    digest, _ = below.add_file(tmp_path / "file")
    own.add_file(tmp_path / "file")
    damaged = own.path(digest)
    assert damaged is not None
    damaged.chmod(0o644)
    damaged.write_bytes(b"other")
    assert OverlayStore(own, below).path(digest) == below.path(digest) is not None


def test_a_download_goes_into_its_own(tmp_path: Path) -> None:
    own, below = LocalStore(tmp_path / "own"), LocalStore(tmp_path / "below")
    with OverlayStore(own, below).partial(sha256_hex(b"input")) as path:
        path.write_bytes(b"input")
    assert own.path(sha256_hex(b"input")) is not None
    assert below.path(sha256_hex(b"input")) is None
