"""The shared store: never trusted, and an object is there whole or not at all, whoever is killed or lies."""

import io
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from builder.backends.cluster.object_store import ObjectStore, absolute_location, transfer_all
from builder.backends.local_store import LocalStore
from builder.errors import DocumentError, FetchError, MissingError
from builder.model.digest import sha256_hex

fsspec = pytest.importorskip("fsspec", reason="the extra `cluster` is not installed")

DATA = b"the bytes of an artefact\n" * 1000
DIGEST = sha256_hex(DATA)
OBJECT = f"objects/{DIGEST[:2]}/{DIGEST}"


@pytest.fixture(params=["folder", "file", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder, the URL of one, and an object store without rename."""
    shared = {"folder": str(tmp_path / "shared"), "file": f"file://{tmp_path}/shared", "memory": "memory://shared"}
    yield shared[request.param]
    fsspec.filesystem("memory").store.clear()


def machine(tmp_path: Path, name: str, location: str) -> ObjectStore:
    """The shared store as a machine with a store of its own sees it."""
    return ObjectStore(location, LocalStore(tmp_path / name))


def add(store: ObjectStore, tmp_path: Path, data: bytes = DATA) -> None:
    (tmp_path / "source").write_bytes(data)
    store.add_file(tmp_path / "source")


def objects(location: str) -> list[str]:
    file_system, base = fsspec.core.url_to_fs(location)
    return sorted(path.removeprefix(f"{base}/") for path in file_system.find(base))


def overwrite(location: str, data: bytes) -> None:
    file_system, base = fsspec.core.url_to_fs(location)
    file_system.makedirs(f"{base}/{OBJECT}".rpartition("/")[0], exist_ok=True)
    file_system.pipe_file(f"{base}/{OBJECT}", data)


def test_what_one_machine_adds_another_has(tmp_path: Path, location: str) -> None:
    add(machine(tmp_path, "one", location), tmp_path)
    other = machine(tmp_path, "other", location)

    assert other.fetch(DIGEST, len(DATA)).read_bytes() == DATA
    path = other.path(DIGEST)
    assert path is not None
    assert path.is_relative_to(tmp_path / "other")


def test_nothing_but_the_object_is_left_in_the_shared_store(tmp_path: Path, location: str) -> None:
    add(machine(tmp_path, "one", location), tmp_path)
    assert objects(location) == [OBJECT]


def test_path_fetches_what_is_not_here(tmp_path: Path, location: str) -> None:
    add(machine(tmp_path, "one", location), tmp_path)
    path = machine(tmp_path, "other", location).path(DIGEST)
    assert path is not None
    assert path.read_bytes() == DATA


def test_unknown_object_is_absent_and_fetching_it_is_an_error(tmp_path: Path, location: str) -> None:
    store = machine(tmp_path, "one", location)
    assert store.path(DIGEST) is None
    with pytest.raises(FetchError, match=f"{DIGEST}: is not there"):
        store.fetch(DIGEST, len(DATA))


@pytest.mark.parametrize(
    "damaged", [b"x" + DATA[1:], DATA[:-1], b"", DATA + b"x"], ids=["byte", "short", "empty", "long"]
)
def test_damaged_object_is_refused_by_name(tmp_path: Path, location: str, damaged: bytes) -> None:
    add(machine(tmp_path, "one", location), tmp_path)
    overwrite(location, damaged)
    other = machine(tmp_path, "other", location)

    with pytest.raises(FetchError, match=f"shared.*object sha256:{DIGEST}"):
        other.fetch(DIGEST, len(DATA))
    with pytest.raises(FetchError, match=f"object sha256:{DIGEST}.*pinned is {DIGEST}"):
        other.path(DIGEST)
    assert LocalStore(tmp_path / "other").path(DIGEST) is None


def test_half_written_object_is_replaced_by_whoever_has_it(tmp_path: Path, location: str) -> None:
    overwrite(location, DATA[:100])
    add(machine(tmp_path, "one", location), tmp_path)
    assert machine(tmp_path, "other", location).fetch(DIGEST, len(DATA)).read_bytes() == DATA


def test_what_is_here_is_used_whatever_the_shared_store_says(tmp_path: Path, location: str) -> None:
    store = machine(tmp_path, "one", location)
    add(store, tmp_path)
    overwrite(location, b"lies")
    assert store.fetch(DIGEST, len(DATA)).read_bytes() == DATA


def test_what_is_nowhere_cannot_be_published(tmp_path: Path, location: str) -> None:
    with pytest.raises(MissingError, match=f"{DIGEST} is not in the store"):
        machine(tmp_path, "one", location).publish(DIGEST)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", DIGEST.upper(), DIGEST + "\n"])
def test_name_that_is_no_digest_is_refused(tmp_path: Path, location: str, name: str) -> None:
    store = machine(tmp_path, "one", location)
    for use in (store.path, store.publish, lambda name: store.fetch(name, 1)):
        with pytest.raises(DocumentError, match="not a SHA-256"):
            use(name)


def test_many_threads_fetch_one_object_once_each_whole(tmp_path: Path, location: str) -> None:
    add(machine(tmp_path, "one", location), tmp_path)
    other = machine(tmp_path, "other", location)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(other.fetch(DIGEST, len(DATA)).read_bytes())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [DATA] * 8


def test_download_goes_into_the_local_store_and_is_shared_by_publish(tmp_path: Path, location: str) -> None:
    store = machine(tmp_path, "one", location)
    with store.partial(DIGEST) as partial:
        partial.write_bytes(DATA)
    assert objects(location) == []
    store.publish(DIGEST)
    assert objects(location) == [OBJECT]


class _DisconnectedError(Exception):
    """What a library of some cloud raises; no OSError."""


class _FailingFileSystem:
    """A remote file system that breaks in the middle of each transfer, or has more bytes than it says."""

    def __init__(self, failure: Exception | None = None, *, data: bytes = DATA) -> None:
        self.failure = failure
        self.data = data

    def info(self, path: str) -> Mapping[str, Any]:  # noqa: ARG002 - the port's signature
        return {"size": len(DATA)}

    def open(self, path: str, mode: str) -> BinaryIO:  # noqa: ARG002 - the port's signature
        if self.failure:
            raise self.failure
        return io.BytesIO(self.data)


def failing(tmp_path: Path, file_system: _FailingFileSystem) -> ObjectStore:
    return ObjectStore(str(tmp_path / "shared"), LocalStore(tmp_path / "store"), file_system=file_system)


def test_remote_that_sends_more_than_it_says_is_cut_off(tmp_path: Path) -> None:
    store = failing(tmp_path, _FailingFileSystem(data=DATA * 50))
    with pytest.raises(FetchError, match=f"{DIGEST}: has more than the {len(DATA)} bytes"):
        store.fetch(DIGEST, len(DATA))


@pytest.mark.parametrize("failure", [_DisconnectedError("gone"), TimeoutError("late"), PermissionError("forbidden")])
def test_failure_of_the_remote_names_store_and_object(tmp_path: Path, failure: Exception) -> None:
    store = failing(tmp_path, _FailingFileSystem(failure))
    with pytest.raises(FetchError, match=f"{tmp_path}/shared: object sha256:{DIGEST}: {type(failure).__name__}"):
        store.path(DIGEST)


def test_url_that_nothing_serves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="shared store nothing://there"):
        machine(tmp_path, "one", "nothing://there")


def test_credentials_of_a_url_are_not_shown(tmp_path: Path) -> None:
    with pytest.raises(MissingError) as caught:
        machine(tmp_path, "one", "nothing://user:secret@there/place")
    assert "secret" not in caught.value.message
    assert "there/place" in caught.value.message


def test_folder_is_named_so_that_every_machine_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_location("shared") == f"{tmp_path}/shared"
    assert absolute_location("s3://bucket/place") == "s3://bucket/place"


def test_upload_that_is_interrupted_leaves_no_object(tmp_path: Path) -> None:
    local = LocalStore(tmp_path / "store")
    (tmp_path / "source").write_bytes(DATA)
    local.add_file(tmp_path / "source")
    file_system = _InterruptedUpload()
    store = ObjectStore(str(tmp_path / "shared"), local, file_system=file_system)

    with pytest.raises(KeyboardInterrupt):
        store.publish(DIGEST)
    assert objects(str(tmp_path / "shared")) == []
    with pytest.raises(FetchError, match="is not there"):
        machine(tmp_path, "other", str(tmp_path / "shared")).fetch(DIGEST, len(DATA))


class _InterruptedUpload(type(fsspec.filesystem("file"))):  # type: ignore[misc]
    """The local file system, interrupted after half of an upload."""

    cachable = False

    def put_file(self, lpath: str, rpath: str) -> None:  # noqa: ARG002 - the port's signature
        Path(rpath).write_bytes(DATA[: len(DATA) // 2])
        raise KeyboardInterrupt


def test_transfer_that_fails_is_an_error_whatever_became_of_the_others() -> None:
    def transfer(item: int) -> None:
        if item == 3:
            raise FetchError(f"object {item}")

    with pytest.raises(FetchError, match="object 3"):
        transfer_all(transfer, range(100))


def test_all_transfers_are_done() -> None:
    done: set[int] = set()
    transfer_all(done.add, range(100))
    assert done == set(range(100))
