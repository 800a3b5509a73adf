"""A software TPM 2.0 out of a pinned root, for one emulated machine.

Its state is made anew for every machine and lies in the memory of its sandbox. A fresh TPM of libtpms has the banks
SHA-1, SHA-256, SHA-384 and SHA-512 on, so `swtpm_setup` (which would choose banks and make certificates that nobody
asks for here) is not needed. It is reached through one inherited socket: there is no path, no port and no network.
"""

import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.backends import process
from builder.backends.emulator.qemu import Attachment
from builder.backends.leg_arguments import ISOLATION, PROC
from builder.backends.leg_environment import require_in_root
from builder.errors import BuilderError, MissingError, NotProvenError

_SWTPM = "/usr/bin/swtpm"
_VERSION = re.compile(rb"TPM emulator version ([0-9]+\.[0-9]+\.[0-9]+)\b")
_VERSION_SECONDS = 60.0
_ENDING_SECONDS = 0.5  # a TPM that ends tells the machine first
_STATE = "/tmp/tpm"  # noqa: S108 - inside the sandbox


class Swtpm:
    """The swtpm in one pinned root."""

    def __init__(self, root: Path, *, bwrap: str = "bwrap") -> None:
        """`root` holds /usr/bin/swtpm and all it needs. Nothing is run yet."""
        self._root = root
        self._bwrap = shutil.which(bwrap) or bwrap

    def version(self) -> str:
        """What swtpm says it is. MissingError if the root has none, or bubblewrap cannot run it."""
        require_in_root(self._root, _SWTPM, package="swtpm")
        done = process.run(
            [*self._sandbox(), _SWTPM, "--version"], environment={}, timeout=_VERSION_SECONDS, failure=MissingError
        )
        match = _VERSION.search(done.stdout)
        if match is None:
            raise MissingError(f"{self._root}{_SWTPM}: says {done.stdout[:60]!r} for its version, wanted swtpm's x.y.z")
        return match[1].decode("ascii")

    @contextmanager
    def machine_part(self) -> Iterator[Attachment]:
        """A TPM with CRB interface, to attach to one machine during the block.

        If the block fails because the TPM has ended, NotProvenError says so in the words of swtpm.
        """
        require_in_root(self._root, _SWTPM, package="swtpm")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            control = f"type=unixio,clientfd={theirs.fileno()}"
            command = [*self._sandbox(), _SWTPM, "socket", "--tpm2", "--tpmstate", f"dir={_STATE}", "--ctrl", control]
            with process.start(command, environment={}, pass_fds=(theirs.fileno(),)) as program:
                theirs.close()
                try:
                    yield Attachment(_arguments(ours.fileno()), descriptors=(ours.fileno(),))
                except BuilderError as error:
                    if program.wait(_ENDING_SECONDS) is not None:
                        raise program.error(NotProvenError, "ended while the machine needed its TPM") from error
                    raise

    def _sandbox(self) -> tuple[str, ...]:
        mounts = ("--ro-bind", str(self._root), "/", "--dev", "/dev", *PROC, "--tmpfs", "/tmp")  # noqa: S108
        return (self._bwrap, *ISOLATION, *mounts, "--dir", _STATE, "--")


def _arguments(descriptor: int) -> tuple[str, ...]:
    return (
        *("-chardev", f"socket,id=tpm-control,fd={descriptor}", "-tpmdev", "emulator,id=tpm,chardev=tpm-control"),
        *("-device", "tpm-crb,tpmdev=tpm"),
    )
