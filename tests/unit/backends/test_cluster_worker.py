"""What a worker says about itself: what must never happen are two names for one store."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.backends.cluster.worker import STORE_VARIABLE, describe_worker

pytest.importorskip("fsspec", reason="the extra `cluster` is not installed")


@dataclass
class Worker:
    """What is asked of a dask worker."""

    local_directory: str
    name: str = "one"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "store"))
    return tmp_path / "store"


def identity(directory: Path) -> str:
    return describe_worker(Worker(str(directory)))["store"]


def test_store_has_one_identity_whoever_asks_and_by_whatever_path(
    store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = identity(tmp_path)
    (tmp_path / "link").symlink_to(store)
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "link"))
    assert identity(tmp_path) == first != ""


def test_workers_that_begin_together_agree(store: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: identity(tmp_path), range(32)))) == 1
    assert [path.name for path in store.iterdir()] == ["identity"]


def test_stores_of_their_own_have_different_identities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    assert identity(tmp_path / "one") != identity(tmp_path / "two")


def test_store_that_cannot_be_had_is_no_store(store: Path, tmp_path: Path) -> None:
    store.write_text("a file")
    with pytest.raises(OSError, match="store"):
        identity(tmp_path)
