"""Compose files: what is in them happens, and what would not happen cannot be in them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.normalize.compose import (
    MOST_SERVICES,
    Service,
    encode_app_compose,
    parse_app_services,
    parse_compose,
    service_files,
)

DIGEST = f"sha256:{'ab' * 32}"
IMAGE = f"guest@{DIGEST}"
REQUIRED = "    network_mode: none\n    read_only: true\n    cap_drop: [ALL]\n"
MINIMAL = f"services:\n  web:\n    image: guest@{{app_digest}}\n{REQUIRED}"
FULL = f"""\
name: guest
services:
  web:
    image: guest@{{app_digest}}
    command: [--greet, "a b", '*']
    user: "65534:0"
    environment:
      NAME: the guest
      PORT: "8080"
    read_only: true
    tmpfs: [/tmp, /var/cache]
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE]
    network_mode: host
    expose: ["8080", "53/udp"]
    restart: on-failure
    healthcheck:
      test: [CMD, busybox, wget, "http://127.0.0.1:8080/"]
  worker:
    image: guest@{{app_digest}}
{REQUIRED}"""


def parse(text: str) -> tuple[Service, ...]:
    return parse_compose(text.replace("{app_digest}", DIGEST).encode(), image=IMAGE)


def with_field(line: str) -> str:
    return MINIMAL + f"    {line}\n"


def test_every_field_becomes_arguments_of_podman() -> None:
    web, worker = parse(FULL)
    assert web == Service(
        name="web",
        options=(
            "--network=host",
            "--read-only",
            "--read-only-tmpfs=false",
            "--cap-drop=all",
            "--cap-add=NET_BIND_SERVICE",
            "--user=65534:0",
            "--tmpfs=/tmp",
            "--tmpfs=/var/cache",
            "--env=NAME=the guest",
            "--env=PORT=8080",
        ),
        command=("--greet", "a b", "*"),
        restart="on-failure",
        expose=(("tcp", 8080), ("udp", 53)),
        health=("busybox", "wget", "http://127.0.0.1:8080/"),
    )
    assert worker.options == ("--network=none", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all")
    assert (worker.command, worker.restart, worker.expose, worker.health) == ((), "no", (), ())


def test_a_service_that_may_write_to_its_root_says_so() -> None:
    (service,) = parse(MINIMAL.replace("read_only: true", "read_only: false"))
    assert service.options == ("--network=none", "--cap-drop=all")


def test_a_service_may_see_where_quotes_come_from_and_nothing_else_of_the_guest() -> None:
    (service,) = parse(with_field('volumes: ["/sys/kernel/config/tsm/report:/sys/kernel/config/tsm/report"]'))
    assert service.options[-1] == "--volume=/sys/kernel/config/tsm/report:/sys/kernel/config/tsm/report"


@pytest.mark.parametrize("missing", ["image", "network_mode", "read_only", "cap_drop"])
def test_what_a_service_may_do_has_to_be_said(missing: str) -> None:
    lines = [line for line in MINIMAL.splitlines() if not line.strip().startswith(f"{missing}:")]
    with pytest.raises(DocumentError, match=f"compose file: services.web: {missing} is missing"):
        parse("\n".join(lines))


@pytest.mark.parametrize(
    "image",
    [
        "guest",
        "guest:latest",
        "other@{app_digest}",
        f"guest@sha256:{'00' * 32}",
        "registry.example/guest@{app_digest}",
        "guest:1@{app_digest}",
    ],
)
def test_an_image_that_is_not_pinned_to_the_apps_digest_is_refused(image: str) -> None:
    with pytest.raises(DocumentError, match="services.web.image is "):
        parse(MINIMAL.replace("guest@{app_digest}", image))


@pytest.mark.parametrize(
    "line",
    [
        "privileged: true",
        "devices: [/dev/tdx_guest]",
        "pid: host",
        "security_opt: [seccomp=unconfined]",
        "ports: [8080]",
        "build: .",
        "env_file: secrets",
        "extends: other",
        "deploy: x",
        "sysctls: x",
        "entrypoint: [/bin/sh]",
        "Image: guest",
    ],
)
def test_unknown_fields_are_refused_by_name(line: str) -> None:
    with pytest.raises(DocumentError, match=f"services.web: unknown field '{line.partition(':')[0]}'"):
        parse(with_field(line))


@pytest.mark.parametrize("name", ["", " A", ' ""', " [a]"])
def test_a_name_of_the_document_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(DocumentError, match="compose file: name is "):
        parse(f"name:{name}\n{MINIMAL}")


@pytest.mark.parametrize("text", ["version: 3\n", "volumes:\n  a: b\n", "networks: x\n", "x-extension: y\n"])
def test_unknown_parts_of_the_document_are_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="the document: unknown field"):
        parse(text + MINIMAL)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("network_mode: none", "network_mode: bridge"),
        ("network_mode: none", 'network_mode: "service:other"'),
        ("network_mode: none", "network_mode:"),
        ("read_only: true", 'read_only: "true"'),
        ("read_only: true", "read_only: yes"),
        ("read_only: true", "read_only: True"),
        ("cap_drop: [ALL]", "cap_drop: [NET_RAW]"),
        ("cap_drop: [ALL]", "cap_drop: []"),
        ("cap_drop: [ALL]", "cap_drop: ALL"),
    ],
)
def test_limits_cannot_be_weakened_by_spelling(old: str, new: str) -> None:
    with pytest.raises(DocumentError, match=f"services.web.{old.partition(':')[0]} is "):
        parse(MINIMAL.replace(old, new))


@pytest.mark.parametrize(
    "line",
    [
        "cap_add: [SYS_ADMIN]",
        "cap_add: [NET_ADMIN]",
        "cap_add: [ALL]",
        "cap_add: [net_raw]",
        "user: root",
        "user: 0",
        'user: "0"',
        'user: "00:0"',
        "user: 1000:1000",
        "volumes: [/data]",
        'volumes: ["/:/host"]',
        'volumes: ["/sys/kernel/config/tsm/report:/sys/kernel/config/tsm/report", "/:/host"]',
        "volumes: []",
        "tmpfs: [tmp]",
        "tmpfs: [/tmp/../etc]",
        'tmpfs: ["/tmp:exec"]',
        "restart: unless-stopped",
        "restart: no",
        "restart: on-failure:3",
        "command: /bin/sh -c ls",
        "command: [12]",
        "command: [true]",
        "command: [~]",
        'command: ["${SECRET}"]',
        'command: ["a$b"]',
        'command: [""]',
        'command: ["\u00e9"]',
        "healthcheck:",
        "healthcheck: [CMD, true]",
        "healthcheck: x",
    ],
)
def test_values_that_mean_something_else_elsewhere_are_refused(line: str) -> None:
    with pytest.raises(DocumentError, match=f"services.web.{line.partition(':')[0]}"):
        parse(with_field(line))


@pytest.mark.parametrize("port", ['"0"', '"65536"', '"80-90"', '"80:80"', '"8080/sctp"', '"08"', "8080"])
def test_a_port_is_one_number_and_perhaps_a_protocol(port: str) -> None:
    with pytest.raises(DocumentError, match=r"services\.web\.expose is "):
        parse(with_field(f"expose: [{port}]").replace("network_mode: none", "network_mode: host"))


def test_a_port_without_a_network_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"expose: has no effect without `network_mode: host`"):
        parse(with_field('expose: ["80"]'))


@pytest.mark.parametrize(
    ("health", "message"),
    [
        ("test: [CMD-SHELL, ls]", "test is "),
        ("test: [NONE]", "test is "),
        ("test: [CMD]", "test is "),
        ("test: ls", "test is "),
        ("interval: 1s", "unknown field 'interval'"),
    ],
)
def test_a_health_check_is_a_command_and_nothing_else(health: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        parse(with_field(f"healthcheck:\n      {health}"))


@pytest.mark.parametrize("name", ["A", "web_1", "-web", "a" * 33, "web.service", "x@y"])
def test_names_of_services_are_safe_as_units_and_directories(name: str) -> None:
    with pytest.raises(DocumentError):
        parse(MINIMAL.replace("  web:", f"  {name}:"))


@pytest.mark.parametrize("line", ["1A: x", "A-B: x", "on: x", 'A: "x\\\\n$"', "A:", "A: 1", "A: [b]"])
def test_environment_is_names_with_text(line: str) -> None:
    with pytest.raises(DocumentError):
        parse(with_field(f"environment:\n      {line}"))


def test_no_services_and_too_many_are_refused() -> None:
    with pytest.raises(DocumentError, match="services is 'None', wanted a mapping"):
        parse("name: guest\n")
    many = "".join(f"  s{number}:\n    image: guest@{{app_digest}}\n{REQUIRED}" for number in range(MOST_SERVICES + 1))
    with pytest.raises(DocumentError, match=f"{MOST_SERVICES + 1} services, wanted 1 to {MOST_SERVICES}"):
        parse(f"services:\n{many}")


def test_the_description_is_dstacks_and_holds_the_text_with_the_digest() -> None:
    data = encode_app_compose(FULL.encode(), name="guest", digest=DIGEST)
    assert json.loads(data) == {
        "docker_compose_file": FULL.replace("{app_digest}", DIGEST),
        "key_provider": "none",
        "manifest_version": 2,
        "name": "guest",
        "no_instance_id": True,
        "runner": "docker-compose",
    }
    assert parse_app_services(data, digest=DIGEST) == parse(FULL)


def test_a_comment_changes_the_description_too() -> None:
    one, other = (
        encode_app_compose(text.encode(), name="guest", digest=DIGEST) for text in (MINIMAL, MINIMAL + "# x\n")
    )
    assert one != other


def test_no_description_is_made_of_a_file_that_is_refused() -> None:
    with pytest.raises(DocumentError, match="unknown field 'privileged'"):
        encode_app_compose(with_field("privileged: true").encode(), name="guest", digest=DIGEST)


def test_a_description_of_another_image_is_refused() -> None:
    data = encode_app_compose(MINIMAL.encode(), name="guest", digest=DIGEST)
    with pytest.raises(DocumentError, match=r"services\.web\.image is "):
        parse_app_services(data, digest=f"sha256:{'cd' * 32}")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"name":1,"docker_compose_file":""}', b'{"name":"guest"}'])
def test_a_description_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"app-compose\.json"):
        parse_app_services(data, digest=DIGEST)


def test_every_argument_is_a_line_of_its_own() -> None:
    web, _ = parse(FULL)
    files = service_files(web)
    assert files["options"].decode().splitlines() == list(web.options)
    assert files["command"] == b"--greet\na b\n*\n"
    assert files["restart"] == b"on-failure\n"
    assert files["expose"] == b"tcp 8080\nudp 53\n"
    assert files["health"] == b"busybox\nwget\nhttp://127.0.0.1:8080/\n"


@given(st.lists(st.text(max_size=20), max_size=4))
def test_no_argument_can_become_two(arguments: list[str]) -> None:
    quoted = ", ".join('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in arguments)
    try:
        (service,) = parse(with_field(f"command: [{quoted}]"))
    except DocumentError:
        return
    assert list(service.command) == arguments
    assert service_files(service)["command"].decode("ascii").split("\n")[:-1] == arguments


@given(st.binary(max_size=300))
def test_no_bytes_give_a_traceback(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_compose(data, image=IMAGE)
