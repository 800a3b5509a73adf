"""Which CPU a step gets that may use only one: the one with the fewest of them, so that two run beside each other."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class CpuTurns:
    """Hands out CPUs by number. Safe to use from several threads; other processes are not known of."""

    def __init__(self, cpus: Sequence[int]) -> None:
        """`cpus` are those that may be given, the first ones first; ValueError if there are none."""
        if not cpus:
            raise ValueError("no CPU to give")
        self._mutex = threading.Lock()
        self._steps = dict.fromkeys(cpus, 0)

    @contextmanager
    def turn(self) -> Iterator[int]:
        """A CPU for the length of the block."""
        with self._mutex:
            cpu = min(self._steps, key=self._steps.__getitem__)
            self._steps[cpu] += 1
        try:
            yield cpu
        finally:
            with self._mutex:
                self._steps[cpu] -= 1
