"""Why a running guest is stopped: what it says, how it ends, that it stays up, or the time. QEMU is two sockets."""

import io
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.backends.emulator.boot_watch import SerialPort, Watch
from builder.backends.emulator.qmp import Qmp, QmpClosedError
from builder.errors import NotProvenError
from builder.model.recipe import VmmSpec
from builder.model.rehearsal import BootEnd
from builder.ports import DirectBoot, MachineShape
from tests.fakes.emulated_boot import acpi_with_tpm, predicted, tpm_log
from tests.fakes.fake_qmp import RESET, SHUTDOWN, FakeMachine
from tests.fakes.flat_memory import FlatMemory, firmware_area, with_actions

LOG = with_actions(tpm_log(predicted(), acpi_with_tpm()))
LEFT = FlatMemory({0x12345: firmware_area(LOG)})
NOT_LEFT = FlatMemory({0x12345: firmware_area(LOG[:-1])})
LONG = 20.0  # seconds; no test that passes waits for it
READY = "guest: ready"


def order(*, until: str | None, limit: float) -> DirectBoot:
    nowhere = Path("unused")
    shape = MachineShape(VmmSpec("qemu", "10.0.2", "q35", "host", ("serial",)), 1, 1 << 30, "202502")
    return DirectBoot(shape, nowhere, nowhere, None, None, "quiet", until, limit, nowhere)


def end_of(
    machine: FakeMachine,
    *,
    until: str | None = None,
    limit: float = LONG,
    memory: FlatMemory = NOT_LEFT,
    log: io.BytesIO | None = None,
) -> BootEnd:
    qmp = Qmp(machine.monitor, timeout=LONG)
    serial = SerialPort(machine.serial, log or io.BytesIO())
    return Watch(order(until=until, limit=limit), qmp, serial, memory, staying=0, looking=0.01).run()


@pytest.mark.parametrize(("event", "end"), [(SHUTDOWN, BootEnd.POWERED_OFF), (RESET, BootEnd.RESET)])
@pytest.mark.parametrize("together", [True, False], ids=["with the answer", "after the answer"])
@pytest.mark.parametrize("until", [None, READY])
def test_a_guest_that_ends_is_told_by_how(event: object, end: BootEnd, together: bool, until: str | None) -> None:
    """An event in the packet of the answer leaves nothing to read behind: nothing would wake us."""
    if together:
        machine = FakeMachine(together={"cont": [{"event": "RESUME"}, event]})
    else:
        machine = FakeMachine({"cont": lambda machine: machine.tell(event)})
    with machine:
        assert end_of(machine, until=until) is end
        assert machine.commands == ["qmp_capabilities", "cont", "stop"]


def test_other_events_end_nothing() -> None:
    with FakeMachine({"cont": lambda machine: machine.tell({"event": "RTC_CHANGE"}, {"event": "STOP"})}) as machine:
        assert end_of(machine, limit=0.05) is BootEnd.TIME_LIMIT


@pytest.mark.parametrize(
    "pieces",
    [
        [b"guest: ready\r\n"],
        [b"boot\r\nguest: re", b"ady\r\n"],
        [bytes([byte]) for byte in b"guest: ready"],
        [b"guest: rguest: ready" + b"x" * 300_000],
        [b"x" * 65_530 + b"guest: ready"],
    ],
    ids=["whole", "in two", "byte by byte", "long before the end", "across what is read at once"],
)
def test_a_text_is_seen_in_whatever_pieces_it_comes(pieces: list[bytes]) -> None:
    with FakeMachine({"cont": lambda machine: machine.say(*pieces)}) as machine:
        log = io.BytesIO()
        assert end_of(machine, until=READY, log=log) is BootEnd.TEXT_SEEN
        assert machine.commands[-1] == "stop"
        assert READY.encode() in log.getvalue()


@pytest.mark.parametrize(
    "pieces", [[b"guest: read"], [b"guest: re", b" ady"], [b"ready", b"guest: "], [b"GUEST: READY"]]
)
def test_another_text_is_not_seen(pieces: list[bytes]) -> None:
    with FakeMachine({"cont": lambda machine: machine.say(*pieces)}) as machine:
        assert end_of(machine, until=READY, limit=0.05) is BootEnd.TIME_LIMIT


def test_a_text_before_the_end_of_the_guest_is_seen() -> None:
    def ends(machine: FakeMachine) -> None:
        machine.say(b"guest: ready\r\n")

    with FakeMachine({"qmp_capabilities": ends}, together={"cont": [SHUTDOWN]}) as machine:
        assert end_of(machine, until=READY) is BootEnd.TEXT_SEEN


def test_a_guest_that_does_not_stop_talking_is_stopped_at_the_limit() -> None:
    with FakeMachine({"cont": lambda machine: machine.keep_saying(b"no news " * 8000)}) as machine:
        assert end_of(machine, until=READY, limit=0.3) is BootEnd.TIME_LIMIT
        assert machine.commands[-1] == "stop"


def test_a_text_amid_a_guest_that_does_not_stop_talking_is_seen() -> None:
    with FakeMachine({"cont": lambda machine: machine.keep_saying(b"x" * 70_000 + b"guest: ready")}) as machine:
        assert end_of(machine, until=READY) is BootEnd.TEXT_SEEN


def test_a_guest_that_ends_while_it_talks_is_told_so() -> None:
    def talks_and_ends(machine: FakeMachine) -> None:
        machine.keep_saying(b"no news " * 8000)
        machine.tell(SHUTDOWN)

    with FakeMachine({"cont": talks_and_ends}) as machine:
        assert end_of(machine, until=READY) is BootEnd.POWERED_OFF


def test_a_guest_that_left_boot_services_and_runs_on_stays_up() -> None:
    with FakeMachine() as machine:
        assert end_of(machine, memory=LEFT) is BootEnd.STAYED_UP
        assert machine.commands[-1] == "stop"


def test_a_guest_that_has_not_left_boot_services_does_not_stay_up() -> None:
    with FakeMachine() as machine:
        assert end_of(machine, memory=NOT_LEFT, limit=0.1) is BootEnd.TIME_LIMIT


def test_a_guest_that_is_waited_for_does_not_pass_by_staying_up() -> None:
    with FakeMachine() as machine:
        assert end_of(machine, memory=LEFT, until=READY, limit=0.1) is BootEnd.TIME_LIMIT


class SlowMemory(FlatMemory):
    """A memory in which the search takes longer than the boot may."""

    def find(self, pattern: bytes) -> Iterator[int]:
        time.sleep(0.2)
        yield from super().find(pattern)


def test_nothing_is_parsed_once_the_limit_passed_in_a_search() -> None:
    memory = SlowMemory({0x12345: firmware_area(LOG)})
    with FakeMachine() as machine:
        assert end_of(machine, memory=memory, limit=0.1) is BootEnd.TIME_LIMIT
    assert memory.reads == []


def test_a_qemu_that_goes_away_is_an_error() -> None:
    def goes(machine: FakeMachine) -> None:
        machine.monitor_end.shutdown(socket.SHUT_RDWR)

    with FakeMachine({"cont": goes}) as machine, pytest.raises(QmpClosedError):
        end_of(machine)


def test_an_answer_that_nobody_asked_for_is_an_error() -> None:
    with FakeMachine(together={"cont": [{"return": {}}]}) as machine, pytest.raises(NotProvenError, match="asked for"):
        end_of(machine)


def test_what_is_kept_of_the_serial_port_has_an_end() -> None:
    ours, theirs = socket.socketpair()
    log = io.BytesIO()
    with ours, theirs:
        serial = SerialPort(ours, log)
        for _ in range(20 << 4):
            theirs.sendall(b"x" * (1 << 16))
            assert not serial.read(b"y")
        theirs.sendall(b"y")
        assert serial.read(b"y"), "what is not kept is read"
    assert len(log.getvalue()) == 16 << 20


def test_a_serial_port_that_is_closed_says_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        assert not SerialPort(ours, io.BytesIO()).read(b"x")
