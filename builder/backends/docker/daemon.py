"""A Docker daemon that legs can run on: found, checked for what a leg needs, and spoken to with a limit on every call.

`docker` is imported where it is used: it takes longer to import than most commands take to run.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.backends.docker.host import DockerHost
from builder.backends.docker.tunnel import local_end
from builder.errors import BuilderError, BuildFailedError, DocumentError, MissingError

if TYPE_CHECKING:
    from docker.api import APIClient

# some storage drivers copy the whole root for each container
CALL_SECONDS = 300
# a daemon answers an upload only when it has unpacked it
TRANSFER_SECONDS = 1800
_FIRST_CALL_SECONDS = 10
_OLDEST_API = (1, 41)  # Docker 20.10: private cgroup namespaces, the result of a profile's rule
_CONTAINERD_STORE = ["driver-type", "io.containerd.snapshotter.v1"]


@dataclass(frozen=True)
class Daemon:
    """A daemon that answered. `cpus` is the number it states; `identity` tells daemons apart, whatever their address.

    `keeps_layers_apart` is false where an image has to be loaded whole although the daemon has some of its layers.
    """

    host: DockerHost
    api: str
    identity: str
    version: str
    storage: str
    cpus: int
    keeps_layers_apart: bool

    def __str__(self) -> str:
        return f"docker {self.host.name}"


def open_daemon(host: DockerHost) -> Daemon:
    """Ask a daemon who it is; MissingError if it does not answer, or if legs cannot run on it."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        with _client(host, "auto", _FIRST_CALL_SECONDS) as client:
            info = client.info()
            api = str(client.api_version)
        if not isinstance(info, dict):
            raise ValueError(f"it states {type(info).__name__} about itself, wanted an object")
    except (DockerException, RequestException, ValueError, TypeError, AttributeError) as error:
        raise MissingError(f"docker {host.name} does not answer: {error}", hint=_hint(error)) from error
    _require_usable(host, info, api)
    return Daemon(
        host=host,
        api=api,
        identity=_stated(host, info, "ID"),
        version=_stated(host, info, "ServerVersion"),
        storage=_stated(host, info, "Driver"),
        cpus=_stated_cpus(host, info),
        keeps_layers_apart=_CONTAINERD_STORE not in (info.get("DriverStatus") or []),
    )


@contextmanager
def connected(daemon: Daemon, *, timeout: int = CALL_SECONDS) -> Iterator["APIClient"]:
    """A connection for one thread; no call on it waits longer than `timeout` seconds for the daemon's next byte."""
    with _client(daemon.host, daemon.api, timeout) as client:
        yield client


@contextmanager
def api_errors(daemon: Daemon, doing: str, *, failure: type[BuilderError] = BuildFailedError) -> Iterator[None]:
    """Raise what goes wrong between us and the daemon in the block as `failure`, saying what was being done."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except APIError as error:
        raise failure(f"{daemon} refuses to {doing}: {error.explanation or error}") from error
    except (DockerException, RequestException) as error:
        raise failure(f"{daemon} did not {doing}: {error}", hint="see whether the daemon still runs") from error


@contextmanager
def _client(host: DockerHost, api: str, timeout: int) -> Iterator["APIClient"]:
    from docker import APIClient
    from docker.tls import TLSConfig

    tls: TLSConfig | bool = False
    if host.certificates is not None:
        ca, certificate, key = (str(host.certificates / f"{name}.pem") for name in ("ca", "cert", "key"))
        tls = TLSConfig(client_cert=(certificate, key), ca_cert=ca, verify=host.verify)
    client = APIClient(base_url=local_end(host.url), version=api, timeout=timeout, tls=tls)
    try:
        yield client
    finally:
        client.close()


def _require_usable(host: DockerHost, info: Mapping[str, Any], api: str) -> None:
    platform = f"{info.get('OSType')}/{info.get('Architecture')}"
    if platform not in ("linux/x86_64", "linux/amd64"):
        raise MissingError(f"docker {host.name} runs on {platform}, and legs need linux/x86_64")
    if _api_number(api) < _OLDEST_API:
        raise MissingError(f"docker {host.name} speaks API {api}, wanted at least 1.41", hint="Docker 20.10 or newer")
    if not any("name=seccomp" in str(option) for option in info.get("SecurityOptions") or []):
        raise MissingError(
            f"docker {host.name} has no seccomp, which shuts mounts and user namespaces off from a leg",
            hint="use a daemon whose `docker info` lists seccomp",
        )


def _stated(host: DockerHost, info: Mapping[str, Any], name: str) -> str:
    """A fact that goes into records, or tells daemons apart."""
    value = info.get(name)
    if not isinstance(value, str) or not value:
        raise MissingError(f"docker {host.name} states its {name} as {value!r}, wanted a text")
    return value


def _stated_cpus(host: DockerHost, info: Mapping[str, Any]) -> int:
    value = info.get("NCPU")
    if not isinstance(value, int) or value < 1:
        raise MissingError(f"docker {host.name} states its NCPU as {value!r}, wanted a number of processors")
    return value


def _api_number(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError as error:
        raise DocumentError(f"a docker daemon states its API as {text!r}, wanted a version like 1.41") from error


def _hint(error: BaseException) -> str:
    if errno.EACCES in _error_numbers(error):
        return (
            "its socket is not yours to use: run as root, or add your user to the group docker (whoever is in it is"
            " root on that machine)"
        )
    return (
        "install and start it (apt install docker.io), set DOCKER_HOST, or name a context of `docker context ls`:"
        " docker=NAME"
    )


def _error_numbers(error: BaseException) -> set[int]:
    """The numbers of all system errors that led to this one; libraries wrap them as causes, contexts and arguments."""
    numbers: set[int] = set()
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, OSError) and current.errno:
            numbers.add(current.errno)
        waiting += [current.__cause__, current.__context__, *current.args]
    return numbers
