"""A TPM behind the CRB registers of a machine that is spoken to over qtest. Tests change its attributes to break it."""

import struct
from collections.abc import Callable

from builder.errors import NotProvenError

BASE = 0xFED40000
START, BUFFER = 0x4C, 0x80


class FakeCrb:
    """A Channel of `emulator.qtest`. Commands are run when START is written, if access was asked for before."""

    def __init__(self, pcrs: dict[int, bytes]) -> None:
        self.pcrs = pcrs
        self.space = bytearray(0x1000)
        self.answer: Callable[[bytes], bytes] = lambda honest: honest
        self.busy = 0  # how many more reads of START find it set
        self.commands: list[bytes] = []
        self._output = bytearray()

    def send(self, data: bytes) -> None:
        for line in data.decode("ascii").splitlines():
            self._output += (self._run(line) + "\n").encode("ascii")

    def receive(self) -> bytes:
        if not self._output:
            raise NotProvenError("the fake TPM gave no answer")
        chunk = bytes(self._output[:100])
        del self._output[:100]
        return chunk

    def _run(self, line: str) -> str:
        name, address, size, *rest = line.split(" ")
        offset = int(address, 16) - BASE
        if name == "read":
            if offset == START and self.busy:
                self.busy -= 1
                return "OK 0x01000000"
            return f"OK 0x{self.space[offset : offset + int(size, 16)].hex()}"
        data = bytes.fromhex(rest[0][2:])
        self.space[offset : offset + len(data)] = data
        if offset == START:
            self._execute()
        return "OK"

    def _execute(self) -> None:
        if self.space[0x08] != 1 or self.space[0x40] != 1:  # locality not asked for, or not ready: as from QEMU
            return
        size = struct.unpack_from(">I", self.space, BUFFER + 2)[0]
        command = bytes(self.space[BUFFER : BUFFER + size])
        self.commands.append(command)
        response = self.answer(self._pcr_read(command))
        self.space[BUFFER : BUFFER + len(response)] = response
        self.space[START : START + 4] = bytes(4)

    def _pcr_read(self, command: bytes) -> bytes:
        _, _, code, count, algorithm, size = struct.unpack_from(">HIIIHB", command)
        assert (code, count, algorithm, size) == (0x17E, 1, 0xC, 3)
        wanted = int.from_bytes(command[-3:], "little")
        digests = [value for pcr, value in sorted(self.pcrs.items()) if wanted >> pcr & 1]
        body = struct.pack(">IIHB3sI", 7, 1, algorithm, size, command[-3:] if digests else bytes(3), len(digests))
        body += b"".join(struct.pack(">H", len(value)) + value for value in digests)
        return struct.pack(">HII", 0x8001, 10 + len(body), 0) + body
