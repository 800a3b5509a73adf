"""Fetches pinned files over HTTP, several at a time, resuming what an earlier run left behind.

The pin is what makes this safe, not the server: a body longer than the pinned size is not read on, and only the pinned
digest makes an object. Resumed bytes that turn out to be wrong are fetched once more from the start.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder import __version__
from builder.backends.http_transfer import (
    Connection,
    Target,
    TryAgainError,
    UnreachableError,
    transfer,
)
from builder.errors import FetchError
from builder.model.location import without_credentials
from builder.ports import ArtifactStore, Progress, RemoteFile

if TYPE_CHECKING:
    from requests import Session


_TASK = "fetch"


@dataclass(frozen=True)
class HttpSettings:
    """How to fetch: files at a time, attempts per address, seconds before the second one (doubled for each further).

    A server that asks for a wait longer than `longest_wait` seconds is given up. `proxies` maps a scheme, or
    scheme://host, to a proxy address, or to an empty text for a direct connection; where it says nothing the
    environment's proxies hold. `sleep` replaces the waiting.
    """

    workers: int = 4
    attempts: int = 4
    pause: float = 1.0
    longest_wait: float = 120.0
    proxies: Mapping[str, str] = field(default_factory=dict)
    sleep: Callable[[float], object] | None = None


class HttpFetcher:
    """A Fetcher for http and https addresses. Not used: the credentials of apt's auth.conf."""

    def __init__(self, settings: HttpSettings | None = None) -> None:
        self._settings = settings or HttpSettings()

    def fetch(self, files: Sequence[RemoteFile], store: ArtifactStore, progress: Progress) -> int:
        """Fetch what is missing; gives the number of files fetched.

        FetchError names every file that failed, and why at each of its addresses. A disk that takes no more ends
        everything with MissingError. What is complete stays, what is not is resumed by the next call.
        """
        missing = {file.sha256: file for file in files if store.path(file.sha256) is None}
        if not missing:
            return 0
        progress.start(_TASK, sum(file.size for file in missing.values()))
        with _session() as session:
            failures = _run_all(_Job(self._settings, session, store, progress), list(missing.values()))
        progress.finish(_TASK, f"{len(missing) - len(failures)} of {len(missing)} files")
        if failures:
            listed = "".join(f"\n  {failure}" for failure in sorted(failures))
            raise FetchError(f"{len(failures)} of {len(missing)} files could not be fetched:{listed}")
        return len(missing)


class _StoppedError(Exception):
    """Another file's failure, or an interruption, ends the whole fetch."""


@contextmanager
def _session() -> Iterator["Session"]:
    import requests  # heavy to import, and not needed for --help

    with requests.Session() as session:
        session.headers.update({"User-Agent": f"tdx-builder/{__version__}", "Accept-Encoding": "identity"})
        yield session


class _Job:
    """What all files of one call share."""

    def __init__(self, settings: HttpSettings, session: "Session", store: ArtifactStore, progress: Progress) -> None:
        self.settings = settings
        self.connection = Connection(session, settings.proxies)
        self.store = store
        self.progress = progress
        self.unreachable: dict[str, str] = {}
        self._stop = threading.Event()

    def stop(self) -> None:
        """End every file's thread at its next step."""
        self._stop.set()

    def check(self) -> None:
        """End this thread's file if everything stops."""
        if self._stop.is_set():
            raise _StoppedError

    def pause(self, seconds: float) -> None:
        """Wait, unless everything stops meanwhile."""
        if self.settings.sleep is not None:
            self.settings.sleep(seconds)
        else:
            self._stop.wait(seconds)
        self.check()


def _run_all(job: _Job, files: list[RemoteFile]) -> list[str]:
    with ThreadPoolExecutor(max_workers=job.settings.workers, thread_name_prefix="fetch") as pool:
        futures = [pool.submit(_Download(job, file).run) for file in files]
        try:
            return [failure for future in as_completed(futures) if (failure := _failure(future)) is not None]
        except BaseException:
            job.stop()
            pool.shutdown(cancel_futures=True)
            raise


def _failure(future: Future[None]) -> str | None:
    try:
        future.result()
    except FetchError as error:
        return error.message
    return None


class _Download:
    """One file: its addresses in order, each tried several times."""

    def __init__(self, job: _Job, file: RemoteFile) -> None:
        self._job = job
        self._file = file
        self._shown = 0

    def run(self) -> None:
        reasons = []
        for url in self._file.urls:
            try:
                self._from_address(url)
            except FetchError as error:
                reasons.append(f"{without_credentials(url)}: {error.message}")
            else:
                return
        raise FetchError(f"{self._file.name}: {'; '.join(reasons) or 'no address to fetch it from'}")

    def _from_address(self, url: str) -> None:
        origin = "/".join(url.split("/", 3)[:3])
        failures: list[TryAgainError] = []
        while len(failures) < self._job.settings.attempts:
            if origin in self._job.unreachable:
                raise FetchError(self._job.unreachable[origin])
            if failures:
                self._pause_after(failures)
            try:
                return self._attempt(url)
            except TryAgainError as error:
                failures.append(error)
        text = f"{failures[-1]} ({len(failures)} attempts)"
        if isinstance(failures[-1], UnreachableError):
            self._job.unreachable[origin] = text
        raise FetchError(text)

    def _pause_after(self, failures: list[TryAgainError]) -> None:
        asked = failures[-1].wait
        if asked is not None and asked > self._job.settings.longest_wait:
            raise FetchError(f"{failures[-1]}; the server asks to wait {asked:.0f} s")
        self._job.pause(self._job.settings.pause * 2 ** (len(failures) - 1) if asked is None else asked)

    def _attempt(self, url: str) -> None:
        resumed = False
        try:
            with self._job.store.partial(self._file.sha256) as path:
                if self._job.store.path(self._file.sha256) is not None:
                    return  # another process fetched it while this one waited for the lock
                beginning = path.stat().st_size
                transfer(self._job.connection, url, target=Target(path, self._file.size), received=self._received)
                resumed = beginning > 0
        except FetchError as error:
            if resumed:  # the beginning may be at fault, and is gone now
                raise TryAgainError(error.message, wait=0) from error
            raise

    def _received(self, size: int) -> None:
        self._job.check()
        self._job.progress.advance(_TASK, size - self._shown)  # less than nothing when the file starts over
        self._shown = size
