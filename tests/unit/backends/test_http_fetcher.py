"""Fetching against a mirror that misbehaves: whatever it sends, only pinned bytes come into the store."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from builder.backends.http_fetcher import HttpFetcher, HttpSettings
from builder.backends.local_store import LocalStore
from builder.errors import FetchError, MissingError
from builder.model.digest import sha256_hex
from builder.ports import RemoteFile
from tests.fakes.local_mirror import Fault, LocalMirror, local_mirror
from tests.fakes.silent_progress import SilentProgress

DATA = bytes(range(256)) * 2000
DIGEST = sha256_hex(DATA)


@pytest.fixture
def mirror() -> Iterator[LocalMirror]:
    with local_mirror(file=DATA) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def remote(*urls: str, data: bytes = DATA) -> RemoteFile:
    return RemoteFile("package", len(data), sha256_hex(data), urls)


def fetch(store: LocalStore, *files: RemoteFile, waits: list[float] | None = None) -> int:
    """Fetch without waiting; the waits asked for go to `waits`."""
    settings = HttpSettings(sleep=[].append if waits is None else waits.append)
    return HttpFetcher(settings).fetch(files, store, SilentProgress())


def begin(store: LocalStore, data: bytes, digest: str = DIGEST) -> None:
    """Leave `data` behind as an interrupted run does."""

    def stop() -> None:
        with store.partial(digest) as path:
            path.write_bytes(data)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        stop()


def stored(store: LocalStore, digest: str = DIGEST) -> bytes | None:
    path = store.path(digest)
    return None if path is None else path.read_bytes()


def left_over(tmp_path: Path) -> list[bytes]:
    return [path.read_bytes() for path in (tmp_path / "store" / "partial").iterdir()]


def test_file_is_fetched_and_stored_by_its_digest(mirror: LocalMirror, store: LocalStore) -> None:
    assert fetch(store, remote(f"{mirror.url}/file")) == 1
    assert stored(store) == DATA


def test_file_in_the_store_is_not_asked_for(mirror: LocalMirror, store: LocalStore) -> None:
    fetch(store, remote(f"{mirror.url}/file"))
    mirror.requests.clear()

    assert fetch(store, remote(f"{mirror.url}/file")) == 0
    assert mirror.requests == []


def test_file_damaged_in_the_store_is_fetched_again(mirror: LocalMirror, store: LocalStore) -> None:
    fetch(store, remote(f"{mirror.url}/file"))
    path = store.path(DIGEST)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(b"damaged")

    assert fetch(store, remote(f"{mirror.url}/file")) == 1
    assert stored(store) == DATA


def test_one_file_named_twice_is_fetched_once(mirror: LocalMirror, store: LocalStore) -> None:
    assert fetch(store, remote(f"{mirror.url}/file"), remote(f"{mirror.url}/file")) == 1
    assert len(mirror.requests) == 1


def test_body_is_asked_for_as_it_is(mirror: LocalMirror, store: LocalStore) -> None:
    fetch(store, remote(f"{mirror.url}/file"))

    assert mirror.headers[0]["Accept-Encoding"] == "identity"
    assert mirror.headers[0]["User-Agent"].startswith("tdx-builder/")


def test_interrupted_file_is_resumed_where_it_stopped(mirror: LocalMirror, store: LocalStore) -> None:
    begin(store, DATA[:1000])
    fetch(store, remote(f"{mirror.url}/file"))

    assert mirror.requests == [("/file", "bytes=1000-")]
    assert stored(store) == DATA


def test_file_complete_but_not_yet_stored_is_not_asked_for(mirror: LocalMirror, store: LocalStore) -> None:
    begin(store, DATA)
    fetch(store, remote(f"{mirror.url}/file"))

    assert mirror.requests == []
    assert stored(store) == DATA


def test_connection_that_breaks_is_resumed(mirror: LocalMirror, store: LocalStore) -> None:
    mirror.faults["/file"] = [Fault(cut=70_000), Fault(cut=100_000)]
    waits: list[float] = []
    fetch(store, remote(f"{mirror.url}/file"), waits=waits)

    assert mirror.requests == [("/file", ""), ("/file", "bytes=70000-"), ("/file", "bytes=170000-")]
    assert waits == [1.0, 2.0]
    assert stored(store) == DATA


def test_server_that_ignores_the_range_is_read_from_the_start(mirror: LocalMirror, store: LocalStore) -> None:
    begin(store, b"x" * 1000)
    mirror.faults["/file"] = [Fault(ignore_range=True)]
    fetch(store, remote(f"{mirror.url}/file"))

    assert len(mirror.requests) == 1
    assert stored(store) == DATA


def test_resumed_file_with_a_wrong_beginning_is_fetched_once_more_from_the_start(
    mirror: LocalMirror, store: LocalStore
) -> None:
    begin(store, b"x" * 1000)
    fetch(store, remote(f"{mirror.url}/file"))

    assert mirror.requests == [("/file", "bytes=1000-"), ("/file", "")]
    assert stored(store) == DATA


def test_beginning_longer_than_the_pinned_size_is_dropped(mirror: LocalMirror, store: LocalStore) -> None:
    begin(store, DATA + b"more")
    fetch(store, remote(f"{mirror.url}/file"))

    assert mirror.requests == [("/file", "")]
    assert stored(store) == DATA


@pytest.mark.parametrize(
    "content_range", ["bytes 0-511999/512000", "bytes 1000-511999/999999", "bytes 1000-1999/512000", "nonsense", "*"]
)
def test_answer_with_another_range_is_never_spliced_in(
    mirror: LocalMirror, store: LocalStore, content_range: str
) -> None:
    begin(store, DATA[:1000])
    mirror.faults["/file"] = [Fault(content_range=content_range)]
    fetch(store, remote(f"{mirror.url}/file"))

    assert mirror.requests == [("/file", "bytes=1000-"), ("/file", "")]
    assert stored(store) == DATA


def test_range_that_cannot_be_satisfied_starts_over(mirror: LocalMirror, store: LocalStore) -> None:
    begin(store, DATA[:1000])
    mirror.faults["/file"] = [Fault(status=416)]
    fetch(store, remote(f"{mirror.url}/file"))

    assert [span for _, span in mirror.requests] == ["bytes=1000-", ""]
    assert stored(store) == DATA


def test_partial_content_without_a_range_asked_for_is_not_taken(mirror: LocalMirror, store: LocalStore) -> None:
    mirror.faults["/file"] = [Fault(status=206, headers={"Content-Range": "bytes 0-511999/512000"})]
    fetch(store, remote(f"{mirror.url}/file"))

    assert len(mirror.requests) == 2
    assert stored(store) == DATA


def test_wrong_bytes_of_the_right_size_never_become_an_object(
    mirror: LocalMirror, store: LocalStore, tmp_path: Path
) -> None:
    wrong = DATA[:-1] + b"!"
    mirror.files["/file"] = wrong
    with pytest.raises(FetchError, match=f"SHA-256 is {sha256_hex(wrong)}, pinned is {DIGEST}"):
        fetch(store, remote(f"{mirror.url}/file"))

    assert stored(store) is None
    assert stored(store, sha256_hex(wrong)) is None
    assert left_over(tmp_path) == []
    assert len(mirror.requests) == 1  # the same server would send the same bytes


def test_announced_size_other_than_the_pinned_one_is_refused_unread(mirror: LocalMirror, store: LocalStore) -> None:
    mirror.files["/file"] = DATA + b"!"
    with pytest.raises(FetchError, match="size is 512001 bytes, pinned is 512000"):
        fetch(store, remote(f"{mirror.url}/file"))

    assert stored(store) is None


def test_endless_body_is_not_read_on(mirror: LocalMirror, store: LocalStore, tmp_path: Path) -> None:
    mirror.faults["/file"] = [Fault(body=bytes(50_000_000), chunked=True)]
    with pytest.raises(FetchError, match="longer than the pinned 512000 bytes"):
        fetch(store, remote(f"{mirror.url}/file"))

    assert mirror.sent["/file"] < 50_000_000
    assert left_over(tmp_path) == []


def test_body_without_a_length_is_taken_when_its_digest_is_right(mirror: LocalMirror, store: LocalStore) -> None:
    mirror.faults["/file"] = [Fault(chunked=True)]
    fetch(store, remote(f"{mirror.url}/file"))

    assert stored(store) == DATA


@pytest.mark.parametrize("status", [401, 403, 404, 410, 304, 204])
def test_answer_that_will_not_change_is_not_asked_for_again(
    mirror: LocalMirror, store: LocalStore, status: int
) -> None:
    mirror.faults["/file"] = [Fault(status=status)]
    with pytest.raises(FetchError, match=f"package: {re.escape(mirror.url)}/file: HTTP status {status}"):
        fetch(store, remote(f"{mirror.url}/file"))

    assert len(mirror.requests) == 1


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(status=503), Fault(status=429), Fault(hang_up=True)])
def test_failure_that_may_pass_is_tried_again_with_longer_pauses(
    mirror: LocalMirror, store: LocalStore, fault: Fault
) -> None:
    mirror.faults["/file"] = [fault] * 3
    waits: list[float] = []
    fetch(store, remote(f"{mirror.url}/file"), waits=waits)

    assert waits == [1.0, 2.0, 4.0]
    assert stored(store) == DATA


def test_attempts_come_to_an_end(mirror: LocalMirror, store: LocalStore) -> None:
    mirror.faults["/file"] = [Fault(status=503)] * 10
    with pytest.raises(FetchError, match=r"HTTP status 503 .*\(4 attempts\)"):
        fetch(store, remote(f"{mirror.url}/file"))

    assert len(mirror.requests) == 4


def test_server_may_say_how_long_to_wait(mirror: LocalMirror, store: LocalStore) -> None:
    dated = {"Date": "Tue, 20 May 2025 14:30:00 GMT", "Retry-After": "Tue, 20 May 2025 14:30:09 GMT"}
    mirror.faults["/file"] = [
        Fault(status=429, headers={"Retry-After": "7"}),
        Fault(status=503, headers={"Retry-After": "nonsense"}),
        Fault(status=503, headers=dated),
    ]
    waits: list[float] = []
    fetch(store, remote(f"{mirror.url}/file"), waits=waits)

    assert waits == [7.0, 2.0, 9.0]


def test_server_that_asks_for_too_long_a_wait_is_given_up(mirror: LocalMirror, store: LocalStore) -> None:
    mirror.faults["/file"] = [Fault(status=429, headers={"Retry-After": "86400"})]
    with pytest.raises(FetchError, match="asks to wait 86400 s"):
        fetch(store, remote(f"{mirror.url}/file"))

    assert len(mirror.requests) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "Tue, 20 May 2025 14:30:09 -0000", "Date": "Tue, 20 May 2025 14:30:00 GMT"},
        {"Retry-After": f"Tue, 20 May 2025 14:30:09 +{'9' * 30}", "Date": "Tue, 20 May 2025 14:30:00 GMT"},
        {"Retry-After": "9" * 5000},
    ],
)
def test_wait_that_cannot_be_understood_is_no_crash(
    mirror: LocalMirror, store: LocalStore, headers: dict[str, str]
) -> None:
    mirror.faults["/file"] = [Fault(status=503, headers=headers)] * 9
    with pytest.raises(FetchError, match="503"):
        fetch(store, remote(f"{mirror.url}/file"))
    assert stored(store) is None


@pytest.mark.parametrize(
    "fault",
    [
        Fault(chunked=True, headers={"Content-Length": "9" * 5000}),
        Fault(status=302, headers={"Location": "http://[::"}),
        Fault(status=302, headers={"Location": "http://\xff\xfe../"}),
    ],
)
def test_headers_that_the_libraries_choke_on_are_no_crash(mirror: LocalMirror, store: LocalStore, fault: Fault) -> None:
    mirror.faults["/file"] = [fault]
    with pytest.raises(FetchError, match="makes no sense"):
        fetch(store, remote(f"{mirror.url}/file"))
    assert stored(store) is None


def test_next_address_is_tried_when_one_does_not_have_it(mirror: LocalMirror, store: LocalStore) -> None:
    fetch(store, remote(f"{mirror.url}/gone", f"{mirror.url}/file"))

    assert [path for path, _ in mirror.requests] == ["/gone", "/file"]
    assert stored(store) == DATA


def test_next_address_is_tried_when_one_has_other_bytes(mirror: LocalMirror, store: LocalStore) -> None:
    mirror.files["/other"] = DATA[::-1]
    fetch(store, remote(f"{mirror.url}/other", f"{mirror.url}/file"))

    assert stored(store) == DATA


def test_error_names_every_file_and_every_address(mirror: LocalMirror, store: LocalStore) -> None:
    one = RemoteFile("one", 3, sha256_hex(b"one"), (f"{mirror.url}/a", f"{mirror.url}/b"))
    two = RemoteFile("two", 3, sha256_hex(b"two"), (f"{mirror.url}/c",))
    three = RemoteFile("three", 5, sha256_hex(b"three"), ())
    with pytest.raises(FetchError) as caught:
        fetch(store, one, two, three, remote(f"{mirror.url}/file"))

    assert "3 of 4 files" in caught.value.message
    for text in ("one: ", "/a: HTTP", "/b: HTTP", "two: ", "/c: HTTP", "three: no address"):
        assert text in caught.value.message
    assert stored(store) == DATA  # the failure of others is no reason to drop what came


def test_server_that_cannot_be_reached_is_not_tried_for_every_file(store: LocalStore) -> None:
    files = [RemoteFile(str(number), 1, sha256_hex(b"%d" % number), ("http://127.0.0.1:9/x",)) for number in range(20)]
    waits: list[float] = []
    with pytest.raises(FetchError, match="20 of 20 files"):
        HttpFetcher(HttpSettings(workers=1, sleep=waits.append)).fetch(files, store, SilentProgress())

    assert waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/file", "nonsense", "http://", "http://[::1/x"])
def test_address_that_is_not_http_is_an_error_of_that_file(store: LocalStore, url: str) -> None:
    with pytest.raises(FetchError, match="package: "):
        fetch(store, remote(url))


def test_redirect_to_a_local_file_is_not_followed(mirror: LocalMirror, store: LocalStore) -> None:
    mirror.faults["/file"] = [Fault(status=302, headers={"Location": "file:///etc/hostname"})]
    with pytest.raises(FetchError):
        fetch(store, remote(f"{mirror.url}/file"))


def test_redirect_is_followed(mirror: LocalMirror, store: LocalStore) -> None:
    mirror.faults["/old"] = [Fault(status=301, headers={"Location": f"{mirror.url}/file"})]
    fetch(store, remote(f"{mirror.url}/old"))

    assert stored(store) == DATA


def test_password_in_an_address_is_not_shown(mirror: LocalMirror, store: LocalStore) -> None:
    url = mirror.url.replace("http://", "http://user:secret@")
    with pytest.raises(FetchError) as caught:
        fetch(store, remote(f"{url}/gone"))

    assert "secret" not in str(caught.value)
    assert mirror.url in str(caught.value)


def test_proxy_of_the_settings_is_used(mirror: LocalMirror, store: LocalStore) -> None:
    mirror.files["http://mirror.example/file"] = DATA  # a proxy is asked for the whole address
    settings = HttpSettings(proxies={"http": mirror.url})
    HttpFetcher(settings).fetch([remote("http://mirror.example/file")], store, SilentProgress())

    assert stored(store) == DATA


def test_progress_hears_of_every_byte_once(mirror: LocalMirror, store: LocalStore) -> None:
    begin(store, DATA[:1000])
    mirror.faults["/file"] = [Fault(cut=70_000)]
    progress = SilentProgress()
    HttpFetcher(HttpSettings(sleep=lambda _: None)).fetch([remote(f"{mirror.url}/file")], store, progress)

    assert progress.totals == {"fetch": len(DATA)}
    assert progress.done == {"fetch": len(DATA)}
    assert progress.finished == ["fetch"]


def test_progress_starts_over_when_the_file_does(mirror: LocalMirror, store: LocalStore) -> None:
    begin(store, b"x" * 1000)
    progress = SilentProgress()
    HttpFetcher(HttpSettings(sleep=lambda _: None)).fetch([remote(f"{mirror.url}/file")], store, progress)

    assert progress.done == {"fetch": len(DATA)}


def test_files_are_fetched_several_at_a_time(mirror: LocalMirror, store: LocalStore) -> None:
    """Each of four answers stalls until all four were asked for: one at a time would never end."""
    release = threading.Event()
    files = []
    for number in range(4):
        data = DATA + bytes([number])
        mirror.files[f"/{number}"] = data
        mirror.faults[f"/{number}"] = [Fault(stall=release)]
        files.append(RemoteFile(str(number), len(data), sha256_hex(data), (f"{mirror.url}/{number}",)))

    class Watcher(SilentProgress):
        def advance(self, task: str, amount: int) -> None:
            super().advance(task, amount)
            if len({path for path, _ in mirror.requests}) == 4:
                release.set()

    HttpFetcher(HttpSettings(workers=4)).fetch(files, store, Watcher())

    assert all(store.path(file.sha256) is not None for file in files)


def test_full_disk_ends_everything_at_once(mirror: LocalMirror, tmp_path: Path) -> None:
    class Full(LocalStore):
        def partial(self, sha256: str) -> AbstractContextManager[Path]:
            raise MissingError(f"{sha256}: No space left on device")

    with pytest.raises(MissingError, match="No space left"):
        fetch(Full(tmp_path / "store"), remote(f"{mirror.url}/file"))


KILLED = """
import sys
from pathlib import Path
from builder.backends.http_fetcher import HttpFetcher
from builder.backends.local_store import LocalStore
from builder.ports import RemoteFile

class Reporting:
    def start(self, task, total=None): pass
    def finish(self, task, note=""): pass
    def advance(self, task, amount):
        if amount:
            print(amount, flush=True)

file = RemoteFile("package", int(sys.argv[2]), sys.argv[3], (sys.argv[4],))
HttpFetcher().fetch([file], LocalStore(Path(sys.argv[1])), Reporting())
"""


def test_fetch_killed_in_the_middle_leaves_no_object_and_the_next_run_resumes(
    mirror: LocalMirror, tmp_path: Path
) -> None:
    """kill -9 while the server holds back the second half; the next process asks only for what is missing."""
    release = threading.Event()
    mirror.faults["/file"] = [Fault(stall=release)]
    url = f"{mirror.url}/file"
    argv = [sys.executable, "-c", KILLED, str(tmp_path / "store"), str(len(DATA)), DIGEST, url]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        arrived = 0
        while arrived < 150_000:  # the server stalls at 256000
            arrived += int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    release.set()
    mirror.requests.clear()

    store = LocalStore(tmp_path / "store")
    assert stored(store) is None
    assert left_over(tmp_path) == [DATA[:arrived]]
    assert fetch(store, remote(url)) == 1
    assert mirror.requests == [("/file", f"bytes={arrived}-")]
    assert stored(store) == DATA
    assert left_over(tmp_path) == []


def test_two_processes_fetching_the_same_file_download_it_once(mirror: LocalMirror, tmp_path: Path) -> None:
    url = f"{mirror.url}/file"
    release = threading.Event()
    mirror.faults["/file"] = [Fault(stall=release)]
    argv = [sys.executable, "-c", KILLED, str(tmp_path / "store"), str(len(DATA)), DIGEST, url]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has the lock and the first bytes
        results: list[int] = []
        thread = threading.Thread(target=lambda: results.append(fetch(LocalStore(tmp_path / "store"), remote(url))))
        thread.start()
        release.set()
        thread.join()
        process.communicate()
        assert process.returncode == 0

    assert len(mirror.requests) == 1
    assert stored(LocalStore(tmp_path / "store")) == DATA
