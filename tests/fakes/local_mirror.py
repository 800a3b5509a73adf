"""A mirror on the loopback interface that misbehaves on demand, one fault a request, then behaves."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """What one answer does wrong.

    `status` and `headers` replace the answer; `body` replaces the file; `cut` sends only so many bytes of it and hangs
    up; `ignore_range` sends the whole file for a range; `content_range` claims another range; `chunked` sends no
    length; `hang_up` closes the connection instead of answering; `stall` waits for the event in the middle of the body.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    ignore_range: bool = False
    content_range: str = ""
    chunked: bool = False
    hang_up: bool = False
    stall: threading.Event | None = None


@dataclass
class LocalMirror:
    """Serves `files` by path. `faults` are used up one by one; `requests` are the paths and ranges asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    url: str = ""
    mutex: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, path: str) -> Fault:
        with self.mutex:
            faults = self.faults.get(path)
            return faults.pop(0) if faults else Fault()


@contextmanager
def local_mirror(**files: bytes) -> Iterator[LocalMirror]:
    """A running mirror of `files`."""
    mirror = LocalMirror({f"/{name}": data for name, data in files.items()})
    server = _Server(("127.0.0.1", 0), _handler(mirror))
    mirror.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news here."""


def _handler(mirror: LocalMirror) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's names
            pass

        def do_GET(self) -> None:
            mirror.requests.append((self.path, self.headers.get("Range", "")))
            mirror.headers.append(dict(self.headers))
            fault = mirror.next_fault(self.path)
            if fault.hang_up:
                self.close_connection = True
                return
            _Answer(self, mirror, fault).send()

    return Handler


class _Answer:
    def __init__(self, handler: BaseHTTPRequestHandler, mirror: LocalMirror, fault: Fault) -> None:
        self._handler = handler
        self._mirror = mirror
        self._fault = fault

    def send(self) -> None:
        body = self._mirror.files.get(self._handler.path) if self._fault.body is None else self._fault.body
        if self._fault.status or body is None:
            self._start(self._fault.status or 404, {"Content-Length": "0", **self._fault.headers})
            return
        start = self._start_of_range()
        if start > 0 and start >= len(body):
            self._start(416, {"Content-Length": "0", "Content-Range": f"bytes */{len(body)}"})
            return
        self._send_body(body, start)

    def _start_of_range(self) -> int:
        text = self._handler.headers.get("Range", "")
        return 0 if self._fault.ignore_range or not text else int(text.removeprefix("bytes=").removesuffix("-"))

    def _send_body(self, body: bytes, start: int) -> None:
        headers = dict(self._fault.headers)
        if start:
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            headers["Content-Range"] = self._fault.content_range or span
        if not self._fault.chunked:
            headers["Content-Length"] = str(len(body) - start)
        else:
            headers["Connection"] = "close"
        self._start(206 if start else 200, headers)
        self._write(body[start:][: self._fault.cut])

    def _start(self, status: int, headers: Mapping[str, str]) -> None:
        if "Date" in headers:
            self._handler.send_response_only(status)
        else:
            self._handler.send_response(status)
        for name, value in headers.items():
            self._handler.send_header(name, value)
        self._handler.end_headers()

    def _write(self, body: bytes) -> None:
        path = self._handler.path
        if self._fault.stall is not None:
            half = len(body) // 2
            self._handler.wfile.write(body[:half])
            self._handler.wfile.flush()
            self._fault.stall.wait(30)
            body = body[half:]
        if self._fault.cut is not None or self._fault.chunked:
            self._handler.close_connection = True
        for position in range(0, len(body), 1 << 16):
            try:
                self._handler.wfile.write(body[position : position + (1 << 16)])
            except OSError:
                return
            self._mirror.sent[path] = self._mirror.sent.get(path, 0) + len(body[position : position + (1 << 16)])
