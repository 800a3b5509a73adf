"""The app's compose file: which services of the one app image run, and how. Strict, pure, and small on purpose.

The names are those of Docker's compose format, and mean the same there; what is not listed here is refused, so that
nothing stands in the file that does not happen. What a service may do has to be said: `network_mode`, `read_only` and
`cap_drop: [ALL]` have no defaults. Everything runs from one image, named by digest, and nothing is interpolated.

The same text goes into `app-compose.json`, the description of an app in dstack's form (`formats.md` 11.9), whose digest
RTMR[3] is extended with, and becomes arguments of podman, one in each line, for the guest's agent.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from builder.encoding.canonical_json import encode_canonical, parse_json
from builder.errors import DocumentError
from builder.normalize.plain_yaml import Node, Quoted, parse_plain_yaml

PLACEHOLDER = "{app_digest}"
MOST_SERVICES = 32
# Docker's default set without MKNOD, and two more that do not reach out of a container: not NET_ADMIN, which could open
# the guest's packet filter, and nothing of SYS_ADMIN's kind.
CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "IPC_LOCK", "KILL", "NET_BIND_SERVICE", "NET_RAW"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "SYS_NICE"),
)
# Where the kernel gives quotes: the one directory of the guest that a service may see.
QUOTES = "/sys/kernel/config/tsm/report"

_WHAT = "compose file"
_DESCRIPTION = "app-compose.json"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_TEXT = re.compile(r"[ -~]{1,4096}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_USER = re.compile(r"(0|[1-9][0-9]{0,4}):(0|[1-9][0-9]{0,4})")
_DIRECTORY = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+")
_PORT = re.compile(r"([1-9][0-9]{0,4})(?:/(tcp|udp))?")
# plain text that some reader of YAML takes for a number, boolean, null or time
_NOT_TEXT = re.compile(r"[-+.]?[0-9].*|[-+]?\.(inf|nan)|~|null|true|false|yes|no|on|off|y|n|=|<<", re.IGNORECASE)

_REQUIRED = ("image", "network_mode", "read_only", "cap_drop")


@dataclass(frozen=True)
class Service:
    """One service. `options` are arguments of `podman run` before the image, `command` what follows it.

    `restart` is `no`, `on-failure` or `always`; `expose` the (protocol, port) pairs that may be reached from outside;
    `health` the command that tells whether it works, empty if there is none.
    """

    name: str
    options: tuple[str, ...]
    command: tuple[str, ...]
    restart: str
    expose: tuple[tuple[str, int], ...]
    health: tuple[str, ...]


def parse_compose(data: bytes, *, image: str) -> tuple[Service, ...]:
    """The services in the order of the file, all of which run `image` (`NAME@sha256:...`).

    DocumentError names the service, the field, the value found and the value wanted. Not checked: that the image has
    the programs that commands name.
    """
    document = _mapping(parse_plain_yaml(data, what=_WHAT), "the document")
    _only(document, {"name", "services"}, "the document")
    if "name" in document:
        _matching(document["name"], _NAME, "name")
    services = _mapping(document.get("services"), "services")
    if not 1 <= len(services) <= MOST_SERVICES:
        raise DocumentError(f"{_WHAT}: {len(services)} services, wanted 1 to {MOST_SERVICES}")
    return tuple(_service(name, node, image) for name, node in services.items())


def encode_app_compose(compose: bytes, *, name: str, digest: str) -> bytes:
    """app-compose.json for the app `name`: canonical JSON with the compose file, `digest` in place of `{app_digest}`.

    It asks for neither keys nor an instance id, because this guest has no service that would give any. DocumentError
    for what `parse_compose` refuses.
    """
    text = compose.replace(PLACEHOLDER.encode("ascii"), digest.encode("ascii"))
    parse_compose(text, image=f"{name}@{digest}")
    return encode_canonical(
        {
            "docker_compose_file": text.decode("utf-8"),
            "key_provider": "none",
            "manifest_version": 2,
            "name": name,
            "no_instance_id": True,
            "runner": "docker-compose",
        }
    )


def parse_app_services(app_compose: bytes, *, digest: str) -> tuple[Service, ...]:
    """The services of an app-compose.json that `encode_app_compose` wrote. DocumentError for another digest."""
    document = parse_json(app_compose, what=_DESCRIPTION)
    name, compose = (_member(document, field) for field in ("name", "docker_compose_file"))
    return parse_compose(compose.encode("utf-8"), image=f"{name}@{digest}")


def service_files(service: Service) -> dict[str, bytes]:
    """What the guest's agent reads of a service, by file name: one argument, or one port, in each line."""
    lines = {
        "options": service.options,
        "command": service.command,
        "restart": (service.restart,),
        "expose": tuple(f"{protocol} {port}" for protocol, port in service.expose),
        "health": service.health,
    }
    return {name: "".join(f"{line}\n" for line in each).encode("ascii") for name, each in lines.items()}


def _member(document: Any, name: str) -> str:
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, str):
        raise DocumentError(f"{_DESCRIPTION}: {name} is {str(value)[:80]!r}, wanted text")
    return value


def _service(name: str, node: Node, image: str) -> Service:
    what = f"services.{name}"
    if not _NAME.fullmatch(name):
        raise DocumentError(f"{_WHAT}: {what}: wanted a name of lower-case letters, digits and `-`")
    fields = _mapping(node, what)
    _only(fields, {*_OPTIONS, *_REQUIRED, "command", "restart", "expose", "healthcheck"}, what)
    for required in _REQUIRED:
        if required not in fields:
            raise DocumentError(f"{_WHAT}: {what}: {required} is missing", hint="it has no default here")
    if fields["image"] != image:
        raise DocumentError(
            f"{_WHAT}: {what}.image is {fields['image']!r}, wanted {image!r}",
            hint=f"write the image as {image.partition('@')[0]}@{PLACEHOLDER}",
        )
    return Service(
        name=name,
        options=tuple(_options(fields, what)),
        command=_texts(fields.get("command", []), f"{what}.command"),
        restart=_choice(fields.get("restart", Quoted("no")), ("no", "on-failure", "always"), f"{what}.restart"),
        expose=_ports(fields, what),
        health=_health(fields["healthcheck"], f"{what}.healthcheck") if "healthcheck" in fields else (),
    )


def _options(fields: Mapping[str, Node], what: str) -> Iterator[str]:
    for name, option in _OPTIONS.items():
        if name in fields:
            yield from option(fields[name], f"{what}.{name}")


def _network_option(node: Node, what: str) -> Iterator[str]:
    yield f"--network={_choice(node, ('none', 'host'), what)}"


def _read_only_option(node: Node, what: str) -> Iterator[str]:
    """podman would add directories that can be written to; the compose file names its own."""
    if isinstance(node, Quoted) or node not in ("true", "false"):
        raise _wrong(node, what, "true or false")
    if node == "true":
        yield from ("--read-only", "--read-only-tmpfs=false")


def _cap_drop_option(node: Node, what: str) -> Iterator[str]:
    if node != ["ALL"]:
        raise _wrong(node, what, "[ALL]")
    yield "--cap-drop=all"


def _cap_add_options(node: Node, what: str) -> Iterator[str]:
    for name in _texts(node, what):
        if name not in CAPABILITIES:
            raise _wrong(name, what, f"one of {', '.join(CAPABILITIES)}")
        yield f"--cap-add={name}"


def _user_option(node: Node, what: str) -> Iterator[str]:
    yield f"--user={_matching(node, _USER, what)}"


def _tmpfs_options(node: Node, what: str) -> Iterator[str]:
    items = node if isinstance(node, list) else [node]
    yield from (f"--tmpfs={_matching(item, _DIRECTORY, what)}" for item in items)


def _volume_option(node: Node, what: str) -> Iterator[str]:
    if node != [f"{QUOTES}:{QUOTES}"]:
        raise _wrong(node, what, f'["{QUOTES}:{QUOTES}"]')
    yield f"--volume={QUOTES}:{QUOTES}"


def _environment_options(node: Node, what: str) -> Iterator[str]:
    for name, value in _mapping(node, what).items():
        _matching(name, _VARIABLE, what)
        yield f"--env={name}={_text(value, f'{what}.{name}')}"


_OPTIONS: Mapping[str, Callable[[Node, str], Iterator[str]]] = {
    "network_mode": _network_option,
    "read_only": _read_only_option,
    "cap_drop": _cap_drop_option,
    "cap_add": _cap_add_options,
    "user": _user_option,
    "tmpfs": _tmpfs_options,
    "volumes": _volume_option,
    "environment": _environment_options,
}


def _ports(fields: Mapping[str, Node], what: str) -> tuple[tuple[str, int], ...]:
    """`expose` and not `ports`: with the host's network nothing is mapped, and compose refuses `ports` there."""
    texts = _texts(fields.get("expose", []), f"{what}.expose")
    if texts and fields["network_mode"] != "host":
        raise DocumentError(f"{_WHAT}: {what}.expose: has no effect without `network_mode: host`")
    return tuple(_port(text, f"{what}.expose") for text in texts)


def _port(text: str, what: str) -> tuple[str, int]:
    match = _PORT.fullmatch(text)
    if match is None or int(match[1]) > 65535:
        raise _wrong(text, what, 'a port such as "8080" or "53/udp"')
    return match[2] or "tcp", int(match[1])


def _health(node: Node, what: str) -> tuple[str, ...]:
    fields = _mapping(node, what)
    _only(fields, {"test"}, what)
    test = _texts(fields.get("test"), f"{what}.test")
    if len(test) < 2 or test[0] != "CMD":
        raise _wrong(list(test), f"{what}.test", "[CMD, program, argument, ...]")
    return test[1:]


def _mapping(node: Node, what: str) -> dict[str, Node]:
    if not isinstance(node, dict):
        raise _wrong(node, what, "a mapping")
    return node


def _only(fields: Mapping[str, Node], known: set[str], what: str) -> None:
    unknown = sorted(set(fields) - known)
    if unknown:
        raise DocumentError(
            f"{_WHAT}: {what}: unknown field {unknown[0]!r}", hint=f"known here: {', '.join(sorted(known))}"
        )


def _texts(node: Node, what: str) -> tuple[str, ...]:
    if not isinstance(node, list):
        raise _wrong(node, what, "a sequence")
    return tuple(_text(item, what) for item in node)


def _text(node: Node, what: str) -> str:
    """Printable ASCII in one line, that no reader of YAML takes for anything else, and compose does not interpolate."""
    if not isinstance(node, str) or not _TEXT.fullmatch(node) or "$" in node:
        raise _wrong(node, what, "printable ASCII without `$`")
    if not isinstance(node, Quoted) and _NOT_TEXT.fullmatch(node):
        raise _wrong(node, what, "text; put it in quotes if it is")
    return str(node)


def _choice(node: Node, choices: tuple[str, ...], what: str) -> str:
    text = _text(node, what)
    if text not in choices:
        raise _wrong(node, what, " or ".join(choices))
    return text


def _matching(node: Node, pattern: re.Pattern[str], what: str) -> str:
    text = _text(node, what)
    if not pattern.fullmatch(text):
        raise _wrong(node, what, f"text of the form {pattern.pattern}")
    return text


def _wrong(found: Any, what: str, wanted: str) -> DocumentError:
    return DocumentError(f"{_WHAT}: {what} is {str(found)[:80]!r}, wanted {wanted}")
