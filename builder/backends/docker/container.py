"""One command in a container of its own: its output as it comes, its end however it comes, and nothing left of it."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.backends.docker.daemon import Daemon, api_errors, connected
from builder.backends.docker.owner import remove_all
from builder.backends.output_pump import OutputPump
from builder.errors import BuilderError, BuildFailedError
from builder.ports import LogSink

if TYPE_CHECKING:
    from docker.api import APIClient

_WAIT_SECONDS = 20
_DRAIN_SECONDS = 30.0
_KILL_SECONDS = 10
_KILLED = 128 + 9


@dataclass(frozen=True)
class Ended:
    """How a container ended: its exit status, whether its memory limit killed something, and the end of its output."""

    status: int
    out_of_memory: bool
    output: str

    @property
    def how(self) -> str:
        """In words: `exit status 3`, or what killed it."""
        if self.out_of_memory:
            return f"exit status {self.status}: the kernel killed it, because it ran out of its memory"
        if self.status == _KILLED:  # the daemon hears of the kernel's reason by itself, and the end may come first
            return f"exit status {self.status}: something killed it, often the kernel because it ran out of its memory"
        return f"exit status {self.status}"


class RunningContainers:
    """What runs for one engine, and the means to end it from another thread."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._mutex = threading.Lock()
        self._running: dict[str, Daemon] = {}
        self._cancelled = False

    def check(self) -> None:
        """BuildFailedError once the engine was cancelled."""
        if self._cancelled:
            raise BuildFailedError("the legs in docker were cancelled")

    @contextmanager
    def holding(self, daemon: Daemon, container: str) -> Iterator[None]:
        """The container may run during the block, and is killed there when the engine is cancelled."""
        with self._mutex:
            self.check()
            self._running[container] = daemon
        try:
            yield
        finally:
            with self._mutex:
                del self._running[container]

    def cancel(self) -> None:
        """Kill all that runs; nothing starts any more."""
        with self._mutex:
            self._cancelled = True
            running = dict(self._running)
        for container, daemon in running.items():
            kill_container(daemon, container)

    def started(self, daemon: Daemon, container: str) -> None:
        """To be called when a container has just started: `cancel` may have come too early for it."""
        if self._cancelled:
            kill_container(daemon, container)


def run_container(daemon: Daemon, body: Mapping[str, Any], log: LogSink, running: RunningContainers) -> Ended:
    """Run the container that `body` describes to its end, and remove it. What the log raised is raised here."""
    running.check()
    with (
        connected(daemon) as client,
        _container(daemon, client, body) as container,
        api_errors(daemon, "run a step to its end"),
        _attached(client, container) as output,
    ):
        pump = OutputPump(output, log, keep=False, end=lambda: kill_container(daemon, container))
        with running.holding(daemon, container):
            client.start(container)
            running.started(daemon, container)
            _wait(daemon, container)
        pump.join(_DRAIN_SECONDS)
        lost = pump.is_alive() or output.broken
        state = client.inspect_container(container)["State"]
    running.check()
    if pump.error is not None:
        raise pump.error
    if lost:
        raise BuildFailedError(f"{daemon} has ended a step, and not its output: {output.broken or 'it does not end'}")
    return Ended(int(state["ExitCode"]), bool(state.get("OOMKilled")), pump.tail())


def create_container(daemon: Daemon, client: "APIClient", body: Mapping[str, Any], *, name: str | None = None) -> str:
    """Create a container from the body of the API's call; gives its id. Images are never pulled by this call."""
    with api_errors(daemon, "create a container"):
        return str(client.create_container_from_config(dict(body), name)["Id"])  # type: ignore[no-untyped-call]


@contextmanager
def _container(daemon: Daemon, client: "APIClient", body: Mapping[str, Any]) -> Iterator[str]:
    container = create_container(daemon, client, body)
    try:
        yield container
    except BaseException:
        with suppress(BuilderError):  # what went wrong is more than what is left: the next run removes that
            remove_all(daemon, [container], [])
        raise
    else:
        remove_all(daemon, [container], [])


@contextmanager
def _attached(client: "APIClient", container: str) -> Iterator["_Output"]:
    """The output of a container that has not started yet; it ends with the block at the latest."""
    stream = client.attach(container, stdout=True, stderr=True, stream=True)
    try:
        yield _Output(stream)
    finally:
        with suppress(OSError):
            stream.close()  # else whoever reads it would wait for a daemon that is gone


class _Output:
    """The output of a container as it comes; `broken` is what ended it, if its own end did not."""

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream
        self.broken: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except (OSError, ValueError) as error:
            self.broken = error


def _wait(daemon: Daemon, container: str) -> None:
    """Wait for the end of a container; a daemon that does not answer meanwhile raises instead of hanging."""
    from requests.exceptions import ConnectionError as NoConnection
    from requests.exceptions import ReadTimeout

    with connected(daemon, timeout=_WAIT_SECONDS) as client:
        while True:
            try:
                client.wait(container, timeout=_WAIT_SECONDS)
                return
            except (ReadTimeout, NoConnection):
                if not client.inspect_container(container)["State"]["Running"]:
                    return


def kill_container(daemon: Daemon, container: str) -> None:
    """Kill a container if it runs and its daemon answers; whoever waits for it sees what came of that."""
    with suppress(BuilderError), connected(daemon, timeout=_KILL_SECONDS) as client, api_errors(daemon, "kill a step"):
        client.kill(container)
