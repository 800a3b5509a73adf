"""The monitor protocol against a peer that answers badly."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from builder.backends.emulator.qmp import Qmp, QmpClosedError
from builder.errors import NotProvenError

GREETING: dict[str, Any] = {"QMP": {"version": {}, "capabilities": []}}
OK: dict[str, Any] = {"return": {}}


@pytest.fixture
def peer() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def say(theirs: socket.socket, *messages: Any) -> None:
    theirs.sendall(b"".join(json.dumps(message).encode() + b"\r\n" for message in messages))


def test_a_command_is_sent_after_the_greeting_and_gives_its_result(peer: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = peer
    say(theirs, GREETING, OK, {"return": {"status": "running"}})
    assert Qmp(ours, timeout=5).execute("query-status") == {"status": "running"}
    sent = [json.loads(line) for line in theirs.recv(1 << 16).splitlines()]
    assert sent == [{"execute": "qmp_capabilities"}, {"execute": "query-status"}]


def test_events_on_the_way_are_kept_and_told_once(peer: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = peer
    say(theirs, GREETING, {"event": "RESUME"}, OK, {"event": "STOP"}, OK, {"event": "SHUTDOWN"})
    qmp = Qmp(ours, timeout=5)
    qmp.execute("cont")
    assert [event["event"] for event in qmp.events()] == ["RESUME", "STOP", "SHUTDOWN"]
    say(theirs, {"event": "RESET"})
    assert [event["event"] for event in qmp.events()] == ["RESET"]


def test_a_message_may_come_in_pieces(peer: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = peer
    say(theirs, GREETING, OK)
    qmp = Qmp(ours, timeout=5)
    theirs.sendall(b'{"event": "SHUT')
    assert qmp.events() == []
    theirs.sendall(b'DOWN"}\r\n{"ev')
    assert [event["event"] for event in qmp.events()] == ["SHUTDOWN"]


@pytest.mark.parametrize("greeting", [b"hello\n", b"[]\n", b"1\n", b"\xff\xfe\n", b'{"return": {}}\n', b'{"QMP": \n'])
def test_a_peer_that_is_no_monitor_is_refused(peer: tuple[socket.socket, socket.socket], greeting: bytes) -> None:
    ours, theirs = peer
    theirs.sendall(greeting)
    with pytest.raises(NotProvenError):
        Qmp(ours, timeout=5)


def test_a_refused_command_is_an_error(peer: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = peer
    say(theirs, GREETING, OK, {"error": {"class": "GenericError", "desc": "no"}})
    with pytest.raises(NotProvenError, match="GenericError"):
        Qmp(ours, timeout=5).execute("cont")


def test_a_monitor_that_is_silent_is_not_waited_for_for_ever(peer: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(NotProvenError, match="no answer within 0.01 s"):
        Qmp(peer[0], timeout=0.01)


def test_a_message_without_end_is_an_error(peer: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = peer
    say(theirs, GREETING, OK)
    qmp = Qmp(ours, timeout=5)
    with pytest.raises(NotProvenError, match="more than 1048576 bytes"):  # noqa: PT012 - it takes several
        for _ in range(100):
            theirs.sendall(b"x" * (1 << 15))
            qmp.events()


def test_a_closed_monitor_is_told_apart(peer: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = peer
    say(theirs, GREETING, OK)
    qmp = Qmp(ours, timeout=5)
    theirs.close()
    with pytest.raises(QmpClosedError):
        qmp.execute("stop")


def test_events_that_came_with_an_answer_are_there_without_waiting(peer: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = peer
    say(theirs, GREETING, OK, OK, {"event": "SHUTDOWN"})
    qmp = Qmp(ours, timeout=0.01)
    qmp.execute("cont")
    assert [event["event"] for event in qmp.events()] == ["SHUTDOWN"]
    assert qmp.pending() == []


def test_what_is_no_event_is_none(peer: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = peer
    say(theirs, GREETING, OK, OK, {"return": {}})
    qmp = Qmp(ours, timeout=5)
    qmp.execute("cont")
    with pytest.raises(NotProvenError, match="which nobody asked for"):
        qmp.events()
