"""One HTTP transfer into a file of known size, which may already hold the beginning.

Nothing here decides whether the bytes are right: that is the digest's job, afterwards. What is decided here is how much
is read (never more than the pinned size), where it is written, and whether a failure may pass.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from builder.backends.atomic_file import storage_errors
from builder.errors import FetchError

if TYPE_CHECKING:
    from requests import Response, Session

_CHUNK = 1 << 16
_TIMEOUTS = (15.0, 60.0)  # seconds to connect, and between two reads
_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})


class TryAgainError(Exception):
    """A failure that may pass, after `wait` seconds if the server named them."""

    def __init__(self, message: str, *, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class UnreachableError(TryAgainError):
    """No connection to the server: the same holds for every other file of that server."""


@dataclass(frozen=True)
class Target:
    """The file to complete, and the size that is pinned for it."""

    path: Path
    size: int


@dataclass(frozen=True)
class Connection:
    """A session and the proxies of each of its requests (`requests` lets the environment win over a session's own)."""

    session: "Session"
    proxies: Mapping[str, str]


def transfer(connection: Connection, url: str, *, target: Target, received: Callable[[int], None]) -> None:
    """Complete the target from `url`; `received` hears how many bytes are there, again and again.

    FetchError for what will not pass (not there, another size), TryAgainError for what may; the bytes that came are
    kept where they can be resumed.
    """
    offset = _usable_beginning(target)
    received(offset)
    if offset == target.size:
        return
    with _network_errors(), _get(connection, url, offset) as response:
        offset = _checked_start(response, target, offset)
        _receive(response, target, offset=offset, received=received)


def _usable_beginning(target: Target) -> int:
    offset = target.path.stat().st_size
    if offset > target.size:
        _empty(target)
        return 0
    return offset


def _empty(target: Target) -> None:
    with storage_errors(target.path), target.path.open("r+b") as file:
        file.truncate(0)


def _get(connection: Connection, url: str, offset: int) -> "Response":
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    proxies = dict(connection.proxies)
    return connection.session.get(url, headers=headers, stream=True, timeout=_TIMEOUTS, proxies=proxies)


def _checked_start(response: "Response", target: Target, offset: int) -> int:
    """Where the body begins in the file; an error if this answer has no body of ours."""
    status = response.status_code
    if status == 416 or (status == 206 and not _is_asked_range(response, target, offset)):
        _empty(target)
        raise TryAgainError(f"the server cannot continue at byte {offset}", wait=0)
    if status in _MAY_PASS:
        raise TryAgainError(f"HTTP status {status} {response.reason}", wait=_retry_after(response))
    if status not in (200, 206):
        raise FetchError(f"HTTP status {status} {response.reason}")
    start = offset if status == 206 else 0
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and start + int(length) != target.size:
        raise FetchError(f"size is {start + int(length)} bytes, pinned is {target.size}")
    return start


def _is_asked_range(response: "Response", target: Target, offset: int) -> bool:
    """RFC 9110 14.4: a 206 says which bytes it has; one that answers no range of ours must not be spliced in."""
    wanted = rf"bytes {offset}-{target.size - 1}/({target.size}|\*)"
    return offset > 0 and re.fullmatch(wanted, response.headers.get("Content-Range", "")) is not None


def _receive(response: "Response", target: Target, *, offset: int, received: Callable[[int], None]) -> None:
    with target.path.open("r+b") as file:
        file.seek(offset)
        with storage_errors(target.path):
            file.truncate()
        for chunk in response.raw.stream(_CHUNK, decode_content=False):
            offset += len(chunk)
            if offset > target.size:
                file.truncate(0)
                raise FetchError(f"the body is longer than the pinned {target.size} bytes")
            with storage_errors(target.path):
                file.write(chunk)
                file.flush()
            received(offset)
    if offset < target.size:
        raise TryAgainError(f"the connection ended after {offset} of {target.size} bytes")


def _retry_after(response: "Response") -> float | None:
    """Seconds that the server asks to wait (RFC 9110 10.2.3); a date counts from the server's own clock."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    then, now = _http_date(text), _http_date(response.headers.get("Date", ""))
    return max(0.0, (then - now).total_seconds()) if then and now else None


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)  # "-0000" is UTC as well (RFC 5322 3.3)


@contextmanager
def _network_errors() -> Iterator[None]:
    from requests import exceptions  # heavy to import, and not needed for --help
    from urllib3.exceptions import HTTPError, MaxRetryError

    try:
        yield
    except (exceptions.InvalidURL, exceptions.InvalidSchema, exceptions.MissingSchema, exceptions.SSLError) as error:
        raise FetchError(_reason(error)) from error
    except exceptions.ConnectionError as error:
        kind = UnreachableError if error.args and isinstance(error.args[0], MaxRetryError) else TryAgainError
        raise kind(_reason(error)) from error
    except (exceptions.RequestException, HTTPError) as error:
        raise TryAgainError(_reason(error)) from error
    except ValueError as error:  # headers that the libraries choke on: no address, no text, no number
        raise FetchError(f"the server's answer makes no sense: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The innermost reason of nested network exceptions, which name themselves and an object address otherwise."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return str(text)
