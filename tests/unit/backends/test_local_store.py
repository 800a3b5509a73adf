"""The store: an object is there whole or not at all, whoever is killed, full, or writing at the same time."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from builder.backends.local_store import LocalStore
from builder.errors import DocumentError, FetchError, MissingError
from builder.model.digest import sha256_hex

DATA = b"the bytes of a package\n" * 1000
DIGEST = sha256_hex(DATA)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def add(store: LocalStore, data: bytes, path: Path) -> tuple[str, int]:
    path.write_bytes(data)
    return store.add_file(path)


def files_below(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*") if not found.is_dir())


def test_added_file_is_found_by_its_digest_and_cannot_be_written(store: LocalStore, tmp_path: Path) -> None:
    assert add(store, DATA, tmp_path / "source") == (DIGEST, len(DATA))

    path = store.path(DIGEST)
    assert path is not None
    assert path.read_bytes() == DATA
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert (tmp_path / "source").exists()


def test_unknown_digest_is_absent(store: LocalStore) -> None:
    assert store.path(DIGEST) is None


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", DIGEST.upper(), DIGEST[:-1], DIGEST + "\n", "/" * 64])
def test_name_that_is_no_digest_is_refused(store: LocalStore, name: str) -> None:
    with pytest.raises(DocumentError, match="not a SHA-256"):
        store.path(name)
    with pytest.raises(DocumentError, match="not a SHA-256"), store.partial(name):
        pass


def test_adding_the_same_bytes_twice_keeps_one_object(store: LocalStore, tmp_path: Path) -> None:
    add(store, DATA, tmp_path / "one")
    add(store, DATA, tmp_path / "two")

    assert files_below(tmp_path / "store") == [f"objects/{DIGEST[:2]}/{DIGEST}"]


def test_moved_file_is_gone_from_where_it_was(store: LocalStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)

    assert store.add_file(source, move=True) == (DIGEST, len(DATA))
    assert not source.exists()
    assert store.path(DIGEST) is not None


def test_file_moved_in_twice_is_gone_as_well(store: LocalStore, tmp_path: Path) -> None:
    add(store, DATA, tmp_path / "one")
    (tmp_path / "two").write_bytes(DATA)
    store.add_file(tmp_path / "two", move=True)

    assert not (tmp_path / "two").exists()


def test_file_moved_from_another_file_system_is_copied(store: LocalStore) -> None:
    elsewhere = Path("/dev/shm")  # a file system of its own on every Linux
    if not os.access(elsewhere, os.W_OK) or elsewhere.stat().st_dev == Path("/tmp").stat().st_dev:
        pytest.skip("this machine has no second writable file system at /dev/shm")
    source = elsewhere / f"tdx-builder-test-{os.getpid()}"
    source.write_bytes(DATA)

    assert store.add_file(source, move=True) == (DIGEST, len(DATA))
    assert not source.exists()
    assert store.path(DIGEST) is not None


def test_empty_file_is_an_object_too(store: LocalStore, tmp_path: Path) -> None:
    digest, size = add(store, b"", tmp_path / "empty")

    assert size == 0
    assert store.path(digest) is not None


def test_link_directory_and_pipe_are_not_added(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", ".", "missing"):
        with pytest.raises(DocumentError, match="cannot be read"):
            store.add_file(tmp_path / name)

    assert files_below(tmp_path / "store") == []


def test_object_that_was_changed_on_disk_is_absent(store: LocalStore, tmp_path: Path) -> None:
    add(store, DATA, tmp_path / "source")
    path = store.path(DIGEST)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(DATA[:-1] + b"!")

    assert store.path(DIGEST) is None
    assert LocalStore(tmp_path / "store").path(DIGEST) is None


def test_object_that_was_truncated_is_replaced_by_adding_it_again(store: LocalStore, tmp_path: Path) -> None:
    add(store, DATA, tmp_path / "source")
    path = store.path(DIGEST)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(b"")
    add(store, DATA, tmp_path / "source")

    assert store.path(DIGEST) == path
    assert path.read_bytes() == DATA


def test_link_in_place_of_an_object_is_not_followed(store: LocalStore, tmp_path: Path) -> None:
    add(store, DATA, tmp_path / "source")
    path = store.path(DIGEST)
    assert path is not None
    path.unlink()
    path.symlink_to(tmp_path / "source")

    assert store.path(DIGEST) is None


def test_partial_file_becomes_the_object_when_its_digest_is_right(store: LocalStore, tmp_path: Path) -> None:
    with store.partial(DIGEST) as path:
        path.write_bytes(DATA)
        assert store.path(DIGEST) is None  # not before it was hashed

    assert store.path(DIGEST) is not None
    assert files_below(tmp_path / "store" / "partial") == []


def test_partial_file_with_another_digest_never_becomes_an_object(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=f"SHA-256 is {sha256_hex(b'other')}, pinned is {DIGEST}"):
        fill(store, DIGEST, b"other")

    assert store.path(DIGEST) is None
    assert store.path(sha256_hex(b"other")) is None
    assert files_below(tmp_path / "store") == []


def fill(store: LocalStore, digest: str, data: bytes) -> None:
    with store.partial(digest) as path:
        path.write_bytes(data)


def test_partial_file_is_kept_for_resuming_after_a_failure(store: LocalStore) -> None:
    def fail() -> None:
        with store.partial(DIGEST) as path:
            path.write_bytes(DATA[:100])
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    assert store.path(DIGEST) is None
    with store.partial(DIGEST) as path:
        assert path.read_bytes() == DATA[:100]
        path.write_bytes(DATA)
    assert store.path(DIGEST) is not None


def test_failure_before_the_first_byte_leaves_nothing(store: LocalStore, tmp_path: Path) -> None:
    def fail() -> None:
        with store.partial(DIGEST):
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    assert files_below(tmp_path / "store") == []


def test_second_writer_waits_and_finds_the_object(store: LocalStore, tmp_path: Path) -> None:
    other = LocalStore(tmp_path / "store")
    events: list[str] = []
    entered = threading.Event()

    def second() -> None:
        entered.set()
        with other.partial(DIGEST):
            events.append("second" if other.path(DIGEST) is not None else "second found no object")

    thread = threading.Thread(target=second)
    with store.partial(DIGEST) as path:
        thread.start()
        entered.wait()
        path.write_bytes(DATA)
        events.append("first")
    thread.join()

    assert events == ["first", "second"]
    assert files_below(tmp_path / "store") == [f"objects/{DIGEST[:2]}/{DIGEST}"]


def test_many_threads_adding_and_fetching_the_same_bytes_leave_one_whole_object(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            store = LocalStore(tmp_path / "store")
            if number % 2:
                add(store, DATA, tmp_path / f"source{number}")
            else:
                fill(store, DIGEST, DATA)
            assert store.path(DIGEST) is not None
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert files_below(tmp_path / "store") == [f"objects/{DIGEST[:2]}/{DIGEST}"]


KILLED = """
import os, signal, sys
from pathlib import Path
from builder.backends.local_store import LocalStore

class Dying(LocalStore):
    def _adopt(self, descriptor, path, sha256):
        os.kill(os.getpid(), signal.SIGKILL)

store = Dying(Path(sys.argv[1]))
if sys.argv[2] == "add":
    store.add_file(Path(sys.argv[3]))
else:
    with store.partial(sys.argv[4]) as path:
        path.write_bytes(Path(sys.argv[3]).read_bytes())
"""


@pytest.mark.parametrize("way", ["add", "partial"])
def test_kill_just_before_the_rename_leaves_no_object_and_the_next_run_succeeds(tmp_path: Path, way: str) -> None:
    (tmp_path / "source").write_bytes(DATA)
    argv = [sys.executable, "-c", KILLED, str(tmp_path / "store"), way, str(tmp_path / "source"), DIGEST]
    assert subprocess.run(argv, check=False).returncode == -signal.SIGKILL
    assert files_below(tmp_path / "store") != []  # it did get as far as writing

    store = LocalStore(tmp_path / "store")
    assert store.path(DIGEST) is None
    assert files_below(tmp_path / "store" / "tmp") == []
    with store.partial(DIGEST) as path:
        assert path.read_bytes() == (DATA if way == "partial" else b"")
        path.write_bytes(DATA)
    assert files_below(tmp_path / "store") == [f"objects/{DIGEST[:2]}/{DIGEST}"]


def test_file_in_use_by_another_process_is_not_swept(tmp_path: Path) -> None:
    LocalStore(tmp_path / "store")
    held = tmp_path / "store" / "tmp" / "held"
    script = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", script, str(held)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        LocalStore(tmp_path / "store")
        assert held.exists()
        process.communicate()
    LocalStore(tmp_path / "store")
    assert not held.exists()


FULL = """
import sys
from pathlib import Path
from builder.backends.local_store import LocalStore
from builder.errors import BuilderError

store = LocalStore(Path(sys.argv[1]))
try:
    store.add_file(Path(sys.argv[2]))
except BuilderError as error:
    print(error.message, error.hint, sep="\\n")
    print(sorted(path.name for path in Path(sys.argv[1]).rglob("*") if path.is_file()))
    sys.exit(error.status)
"""


def test_full_disk_names_the_path_and_leaves_nothing(tmp_path: Path) -> None:
    """On a real file system of 64 KiB, mounted in a mount namespace of its own."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this machine does not let the test make a mount namespace")
    (tmp_path / "source").write_bytes(bytes(1 << 20))
    (tmp_path / "small").mkdir()
    script = 'mount -t tmpfs -o size=64k none "$1" && exec "$2" -c "$3" "$1/store" "$4"'
    argv = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path / "small"), sys.executable, FULL]
    result = subprocess.run([*argv, str(tmp_path / "source")], capture_output=True, check=False, text=True)

    assert result.returncode == 5, result.stderr
    assert str(tmp_path / "small" / "store") in result.stdout
    assert "No space left on device" in result.stdout
    assert "free some space" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


def test_store_in_a_place_that_is_no_directory_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(MissingError, match=f"{tmp_path}/file"):
        LocalStore(tmp_path / "file" / "store")


def test_file_that_was_just_stored_is_not_hashed_again(store: LocalStore, tmp_path: Path) -> None:
    """Shown by bytes that change behind its back, where nobody would look; another process does look."""
    add(store, DATA, tmp_path / "source")
    path = tmp_path / "store/objects" / DIGEST[:2] / DIGEST
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"X" + DATA[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert store.path(DIGEST) == path
    assert LocalStore(tmp_path / "store").path(DIGEST) is None


def test_pruning_keeps_what_is_named_and_nothing_else(store: LocalStore, tmp_path: Path) -> None:
    add(store, DATA, tmp_path / "source")
    other, size = add(store, b"other", tmp_path / "source")

    assert (store.size(other), store.size("0" * 64)) == (size, 0)
    store.prune({DIGEST})
    assert store.path(DIGEST) is not None
    assert store.path(other) is None
    assert add(store, b"other", tmp_path / "source") == (other, size)
    assert store.path(other) is not None
