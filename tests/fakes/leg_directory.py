"""A build directory as a leg has it, for running its programs with the Python of this test."""

import json
import lzma
import os
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.backends.process import CompletedRun, run
from builder.inside import leg_files
from tests.fakes.deb_files import DEBIAN_BINARY, ar_archive, member, tar_archive


class LegDirectory:
    """A directory with `in/`, `out/` and `inside/`, filled as a workspace fills it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("in", "out"):
            (path / name).mkdir(parents=True)
        for target, source in leg_files().items():
            place = path / "inside" / target
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(source.read_bytes())

    def put(self, target: str, data: bytes) -> str:
        """Place an input and give its path back."""
        place = self.path / target
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        return target

    def put_package(self, name: str, *members: tuple[tarfile.TarInfo, bytes]) -> str:
        """Place a package among the inputs and give its path back."""
        control = tar_archive([member("./control", f"Package: {name}\nVersion: 1\n".encode())])
        parts = [("control.tar.xz", lzma.compress(control)), ("data.tar.xz", lzma.compress(tar_archive(members)))]
        return self.put(f"in/packages/{name}_amd64.deb", ar_archive([DEBIAN_BINARY, *parts]))

    def run(self, program: str, parameters: Any, *, umask: int = 0o022, **environment: str) -> CompletedRun:
        """Run a program with these parameters to its end, whatever its status."""
        self.put("in/parameters.json", json.dumps(parameters).encode())
        return self.start(program, "in/parameters.json", umask=umask, **environment)

    def start(self, program: str, *arguments: str, umask: int = 0o022, **environment: str) -> CompletedRun:
        """Run a program to its end, whatever its status. It finds no package of the test's Python (-S, -E)."""
        return run(
            (sys.executable, "-SE", f"inside/{program}.py", *arguments),
            environment={"PATH": os.defpath, **environment},
            cwd=self.path,
            umask=umask,
            accept=(0, 1),
        )

    def make(self, program: str, parameters: Mapping[str, Any]) -> None:
        """Run a program that must succeed."""
        completed = self.run(program, parameters)
        assert completed.status == 0, completed.stderr.decode()

    def refusal(self, program: str, parameters: Any) -> str:
        """Run a program that must fail: the one line that it says why."""
        completed = self.run(program, parameters)
        assert completed.status == 1
        assert not list((self.path / "out").iterdir()), "a failed program left an output"
        text = completed.stderr.decode()
        assert text.startswith(f"{program}: ")
        assert text.count("\n") == 1
        return text.removeprefix(f"{program}: ").strip()

    def output(self, name: str) -> bytes:
        """The bytes of an output."""
        return (self.path / "out" / name).read_bytes()
