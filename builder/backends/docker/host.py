"""Which Docker daemon is meant: the local one, DOCKER_HOST, a named context, or an address.

The rules are those of docker's own command line: DOCKER_HOST wins over DOCKER_CONTEXT, that over the current context of
`config.json`. Contexts are read where `docker context create` writes them.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import DocumentError, MissingError

LOCAL = "unix:///var/run/docker.sock"
SCHEMES = ("unix", "tcp", "http", "https", "ssh")
_DEFAULT_CONTEXT = "default"
_LARGEST_DOCUMENT = 1 << 20


@dataclass(frozen=True)
class DockerHost:
    """A daemon's address; `name` says how it was found. `certificates` has ca.pem, cert.pem and key.pem for TLS."""

    name: str
    url: str
    certificates: Path | None = None
    verify: bool = True


def find_host(text: str, environment: Mapping[str, str]) -> DockerHost:
    """The daemon that `text` means: an address (`unix:///run/docker.sock`), the name of a context, or nothing.

    DocumentError for an address of another kind, MissingError for a context that is not there.
    """
    if "://" in text:
        return _at(text, f"at {text}", environment)
    if text:
        return _of_context(text, environment)
    if url := environment.get("DOCKER_HOST"):
        return _at(url, f"at {url} (DOCKER_HOST)", environment)
    return _of_context(environment.get("DOCKER_CONTEXT") or _current_context(environment), environment)


def context_names(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The names of all contexts, `default` first; what cannot be read is left out."""
    names = []
    for path in sorted(_context_directory(environment).glob("*/meta.json")):
        try:
            name = _read_object(path).get("Name")
        except DocumentError:
            continue
        names += [name] if isinstance(name, str) else []
    return (_DEFAULT_CONTEXT, *sorted(names))


def _at(url: str, name: str, environment: Mapping[str, str]) -> DockerHost:
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        wanted = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise DocumentError(f"{url!r} is not the address of a docker daemon, wanted one of {wanted}")
    certificates = None
    if environment.get("DOCKER_TLS_VERIFY") and scheme in ("tcp", "https"):
        certificates = Path(environment.get("DOCKER_CERT_PATH") or _config_directory(environment))
    return DockerHost(name, url, certificates)


def _of_context(name: str, environment: Mapping[str, str]) -> DockerHost:
    if name == _DEFAULT_CONTEXT:
        return _at(LOCAL, f"at {LOCAL}", environment)
    identity = hashlib.sha256(name.encode()).hexdigest()
    directory = _context_directory(environment)
    path = directory / identity / "meta.json"
    if not path.is_file():
        raise MissingError(
            f"there is no docker context {name!r}; known are {', '.join(context_names(environment))}",
            hint="make it with `docker context create`, or give an address such as docker=tcp://HOST:2376",
        )
    endpoint = _docker_endpoint(path)
    host = _at(str(endpoint.get("Host")), f"of context {name}", {})
    tls = directory.parent / "tls" / identity / "docker"
    return DockerHost(
        host.name, host.url, tls if tls.is_dir() else None, verify=endpoint.get("SkipTLSVerify") is not True
    )


def _docker_endpoint(path: Path) -> dict[str, Any]:
    endpoints = _read_object(path).get("Endpoints")
    endpoint = endpoints.get("docker") if isinstance(endpoints, dict) else None
    if not isinstance(endpoint, dict):
        raise DocumentError(f"{path}: the context has no endpoint `docker`")
    return endpoint


def _current_context(environment: Mapping[str, str]) -> str:
    path = _config_directory(environment) / "config.json"
    if not path.is_file():
        return _DEFAULT_CONTEXT
    name = _read_object(path).get("currentContext")
    return name if isinstance(name, str) and name else _DEFAULT_CONTEXT


def _context_directory(environment: Mapping[str, str]) -> Path:
    return _config_directory(environment) / "contexts" / "meta"


def _config_directory(environment: Mapping[str, str]) -> Path:
    if directory := environment.get("DOCKER_CONFIG"):
        return Path(directory)
    home = environment.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - raises nothing for an unknown user
    return Path(home) / ".docker"


def _read_object(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_LARGEST_DOCUMENT))
    except (OSError, ValueError, RecursionError) as error:
        raise DocumentError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise DocumentError(f"{path} is {type(document).__name__}, wanted an object")
    return document
