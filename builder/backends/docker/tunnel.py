"""Daemons behind ssh: a socket on this machine that the `ssh` program connects with the daemon's.

With `ssh` itself the user's own configuration, keys and known hosts apply; questions are never asked. A tunnel lives as
long as this process: it ends with its standard input, so even killing this process ends it.
"""

import atexit
import os
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from builder.backends import process
from builder.errors import DocumentError, MissingError

_OPENING_SECONDS = 60.0
_POLL_SECONDS = 0.05
_REMOTE_SOCKET = "/var/run/docker.sock"
_OPTIONS = ("BatchMode=yes", "ExitOnForwardFailure=yes", "ServerAliveInterval=15", "ConnectTimeout=20")

_mutex = threading.Lock()
_tunnels: dict[str, str] = {}
_open = ExitStack()
atexit.register(_open.close)


def local_end(url: str) -> str:
    """An address of the daemon that needs no ssh: `url` itself, or the local end of a tunnel, opened once."""
    if not url.startswith("ssh://"):
        return url
    with _mutex:
        if url not in _tunnels:
            _tunnels[url] = _open_tunnel(url)
        return _tunnels[url]


def ssh_arguments(url: str, socket: str) -> list[str]:
    """The command that connects `socket` with the daemon of `ssh://[USER@]HOST[:PORT][/SOCKET]`.

    Its remote command `cat` ends when our end of its standard input does. DocumentError if there is no host.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise DocumentError(f"{url!r} is not the address of a daemon behind ssh: {error}") from error
    if not parts.hostname or parts.password or parts.query or parts.fragment:
        raise DocumentError(f"{url!r} is not the address of a daemon behind ssh, wanted ssh://[USER@]HOST[:PORT]")
    remote = parts.path if parts.path not in ("", "/") else _REMOTE_SOCKET
    words = ["ssh", "-T", *(word for option in _OPTIONS for word in ("-o", option))]
    words += ["-l", parts.username] if parts.username else []
    words += ["-p", str(port)] if port else []
    return [*words, "-L", f"{socket}:{remote}", "--", parts.hostname, "cat"]


def _open_tunnel(url: str) -> str:
    directory = _open.enter_context(tempfile.TemporaryDirectory(prefix="tdx-builder-ssh-"))
    socket = Path(directory) / "docker.sock"
    # with the user's own environment: ssh finds keys, agent and configuration by it
    program = _open.enter_context(
        process.start(ssh_arguments(url, str(socket)), environment=dict(os.environ), interactive=True)
    )
    deadline = time.monotonic() + _OPENING_SECONDS
    while not socket.exists():
        if not program.running() or time.monotonic() > deadline:
            raise MissingError(
                f"no way to the docker daemon of {url}: {program.end_of_output() or 'ssh did not connect in time'}",
                hint="`ssh` has to reach that machine without asking anything, and its user the socket of the daemon",
            )
        time.sleep(_POLL_SECONDS)
    return f"unix://{socket}"
