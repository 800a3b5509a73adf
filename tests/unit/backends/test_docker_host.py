"""Which daemon is meant, by docker's own rules, and what is said where there is none."""

import socket
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from builder.backends.docker.daemon import open_daemon
from builder.backends.docker.host import LOCAL, context_names, find_host
from builder.backends.docker.tunnel import local_end, ssh_arguments
from builder.errors import DocumentError, MissingError
from tests.fakes.docker_contexts import endpoint, write_context


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_context(tmp_path, "far", endpoint("far", "ssh://builder@far.example"))
    write_context(tmp_path, "near", endpoint("near", "unix:///run/near.sock", SkipTLSVerify=False))
    return tmp_path


def test_nothing_said_is_the_local_daemon(tmp_path: Path) -> None:
    assert find_host("", {"DOCKER_CONFIG": str(tmp_path)}).url == LOCAL
    assert find_host("", {"HOME": str(tmp_path)}).url == LOCAL
    assert find_host("default", {"HOME": str(tmp_path), "DOCKER_CONTEXT": "other"}).url == LOCAL


def test_docker_host_wins_over_a_context_and_that_over_the_current_one(config: Path) -> None:
    (config / "config.json").write_text('{"currentContext": "near"}')
    environment = {"DOCKER_CONFIG": str(config)}
    assert find_host("", environment).url == "unix:///run/near.sock"
    environment["DOCKER_CONTEXT"] = "far"
    assert find_host("", environment).url == "ssh://builder@far.example"
    environment["DOCKER_HOST"] = "tcp://10.0.0.1:2375"
    assert find_host("", environment).url == "tcp://10.0.0.1:2375"
    assert find_host("near", environment).url == "unix:///run/near.sock", "what was asked for by name comes first"
    assert find_host("unix:///x", environment).url == "unix:///x"


def test_an_unknown_context_is_missing_and_the_known_are_named(config: Path) -> None:
    with pytest.raises(MissingError, match="no docker context 'nowhere'; known are default, far, near"):
        find_host("nowhere", {"DOCKER_CONFIG": str(config)})


@pytest.mark.parametrize(
    "text",
    ["not json", "[]", '{"Name": "bad"}', '{"Endpoints": {"docker": []}}', '{"Endpoints": 1}', "[" * 100_000, ""],
)
def test_a_context_that_is_damaged_is_refused(tmp_path: Path, text: str) -> None:
    write_context(tmp_path, "bad", {})
    (path,) = tmp_path.glob("contexts/meta/*/meta.json")
    path.write_text(text)
    with pytest.raises(DocumentError, match=r"meta\.json"):
        find_host("bad", {"DOCKER_CONFIG": str(tmp_path)})
    assert context_names({"DOCKER_CONFIG": str(tmp_path)})[0] == "default"


def test_a_context_without_an_address_is_refused(tmp_path: Path) -> None:
    write_context(tmp_path, "bad", endpoint("bad", ""))
    with pytest.raises(DocumentError, match="not the address of a docker daemon"):
        find_host("bad", {"DOCKER_CONFIG": str(tmp_path)})


@pytest.mark.parametrize("url", ["ftp://host", "unix://", "://", "tcp://", "npipe:////./pipe/docker"])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(DocumentError, match="wanted one of unix://, tcp://"):
        find_host(url, {})


def test_certificates_are_those_of_the_environment_or_the_context(config: Path) -> None:
    environment = {"DOCKER_CONFIG": str(config), "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certificates"}
    assert find_host("tcp://far:2376", environment).certificates == Path("/certificates")
    assert find_host("unix:///x", environment).certificates is None
    assert find_host("near", environment).certificates is None
    tls = config / "contexts/tls" / sha256(b"near").hexdigest() / "docker"
    tls.mkdir(parents=True)
    found = find_host("near", environment)
    assert (found.certificates, found.verify) == (tls, True)


def test_a_socket_that_is_not_there_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="does not answer") as caught:
        open_daemon(find_host(f"unix://{tmp_path}/none.sock", {}))
    assert "apt install docker.io" in str(caught.value.hint)
    assert "DOCKER_HOST" in str(caught.value.hint)


def test_a_server_that_is_no_docker_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(MissingError, match="does not answer"):
            open_daemon(find_host(f"unix://{path}", {}))
        thread.join()


def test_an_address_without_ssh_needs_no_tunnel() -> None:
    assert local_end("tcp://far:2376") == "tcp://far:2376"


def test_ssh_asks_nothing_and_takes_no_option_from_the_address() -> None:
    words = ssh_arguments("ssh://builder@far.example:2222/run/other.sock", "/run/near.sock")
    assert "BatchMode=yes" in words
    assert words[-3:] == ["--", "far.example", "cat"]
    assert words[-5:-3] == ["-L", "/run/near.sock:/run/other.sock"]
    assert words[words.index("-l") + 1] == "builder"
    assert words[words.index("-p") + 1] == "2222"
    assert "/run/near.sock:/var/run/docker.sock" in ssh_arguments("ssh://far", "/run/near.sock")
    assert ssh_arguments("ssh://-oProxyCommand=evil", "/run/near.sock")[-3] == "--"


@pytest.mark.parametrize(
    "url", ["ssh://", "ssh:///run/x.sock", "ssh://user:secret@far", "ssh://far?x=1", "ssh://far:port"]
)
def test_an_address_that_ssh_cannot_take_is_refused(url: str) -> None:
    with pytest.raises(DocumentError, match="ssh"):
        ssh_arguments(url, "/run/near.sock")
