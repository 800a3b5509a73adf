"""Whether legs can run on a daemon: what must never happen is a leg on one that lacks a wall, or that has no name."""

import pytest

from builder.backends.docker.daemon import Daemon, open_daemon
from builder.backends.docker.host import find_host
from builder.errors import BuilderError, MissingError
from tests.fakes.docker_answers import INFO, answering


def opened(info: object, *, api: object = "1.41") -> Daemon:
    with answering(info, api=api) as url:
        return open_daemon(find_host(url, {}))


def test_a_daemon_is_named_by_what_it_states() -> None:
    daemon = opened(INFO)
    assert (daemon.identity, daemon.version, daemon.storage, daemon.cpus) == ("daemon", "20.10.24", "overlay2", 2)
    assert daemon.keeps_layers_apart


def test_images_go_whole_to_a_daemon_that_keeps_them_in_containerd() -> None:
    store = [["driver-type", "io.containerd.snapshotter.v1"]]
    assert not opened({**INFO, "DriverStatus": store}).keeps_layers_apart


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Architecture": "aarch64"}, "linux/aarch64, and legs need"),
        ({"OSType": "windows"}, "windows/x86_64, and legs need"),
        ({"SecurityOptions": ["name=apparmor"]}, "no seccomp"),
        ({"SecurityOptions": None}, "no seccomp"),
        ({"ID": ""}, "states its ID as ''"),
        ({"ServerVersion": None}, "states its ServerVersion as None"),
        ({"Driver": 1}, "states its Driver as 1"),
        ({"NCPU": "two"}, "states its NCPU as 'two'"),
        ({"NCPU": 0}, "states its NCPU as 0"),
    ],
)
def test_a_daemon_that_legs_cannot_run_on_is_missing(change: dict[str, object], reason: str) -> None:
    with pytest.raises(MissingError, match=reason):
        opened({**INFO, **change})


@pytest.mark.parametrize("info", [[], None, "hello", 1])
def test_an_answer_that_is_no_object_is_no_daemon(info: object) -> None:
    with pytest.raises(MissingError, match="does not answer"):
        opened(info)


@pytest.mark.parametrize("api", ["1.40", "0.9", "new", 1, None])
def test_a_daemon_that_is_too_old_or_does_not_say_is_refused(api: object) -> None:
    with pytest.raises(BuilderError, match=r"docker at tcp://.*(wanted|does not answer)|states its API as"):
        opened(INFO, api=api)
