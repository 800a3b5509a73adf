"""A Debian archive with signed suites on a local mirror: indexes only, as that is all apt resolves from.

A key is made with gpg for each archive; nothing outside of the directory given is touched.
"""

import hashlib
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.local_mirror import LocalMirror

DATE = "Tue, 20 May 2025 14:30:11 UTC"


@dataclass(frozen=True)
class Stanza:
    """A package of an index."""

    name: str
    version: str = "1.0"
    architecture: str = "amd64"
    depends: str = ""
    recommends: str = ""
    essential: bool = False
    filename: str = ""

    @property
    def data(self) -> bytes:
        return f"{self.name} {self.version} {self.architecture}".encode()

    def text(self) -> str:
        upstream = self.version.rpartition(":")[2]
        path = self.filename or f"pool/main/{self.name[0]}/{self.name}/{self.name}_{upstream}_{self.architecture}.deb"
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.architecture,
            "Essential": "yes" if self.essential else "",
            "Depends": self.depends,
            "Recommends": self.recommends,
            "Filename": path,
            "Size": str(len(self.data)),
            "SHA256": hashlib.sha256(self.data).hexdigest(),
            "Description": "made up",
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


@dataclass(frozen=True)
class SourceStanza:
    """A source of an index: `files` are the names of its files, whose bytes are their names."""

    name: str
    version: str
    files: tuple[str, ...]
    directory: str = ""
    binaries: tuple[str, ...] = ()

    def text(self) -> str:
        lines = (f" {hashlib.sha256(file.encode()).hexdigest()} {len(file)} {file}" for file in self.files)
        fields = {
            "Package": self.name,
            "Binary": ", ".join(self.binaries or (self.name,)),
            "Version": self.version,
            "Format": "3.0 (quilt)",
            "Directory": self.directory or f"pool/main/{self.name[0]}/{self.name}",
            "Checksums-Sha256": "\n" + "\n".join(lines),
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items())


@dataclass
class DebianArchive:
    """Publishes suites on a mirror below `/debian`."""

    mirror: LocalMirror
    home: Path
    keyring: Path = field(init=False)

    def __post_init__(self) -> None:
        self.home.mkdir(mode=0o700)
        self._gpg("--passphrase", "", "--quick-generate-key", "archive@example.org", "ed25519", "sign", "never")
        self.keyring = self.home / "keyring.gpg"
        self.keyring.write_bytes(self._gpg("--export"))

    @property
    def url(self) -> str:
        return f"{self.mirror.url}/debian"

    def publish(
        self,
        suite: str,
        stanzas: Iterable[Stanza],
        *,
        sources: Iterable[SourceStanza] = (),
        date: str = DATE,
        **fields: str,
    ) -> None:
        """A suite with one component; `fields` are added to its Release file, with `_` for `-`."""
        indexes = {
            "main/binary-amd64/Packages": "\n".join(stanza.text() for stanza in stanzas).encode(),
            "main/source/Sources": "\n".join(stanza.text() for stanza in sources).encode(),
        }
        index = f"/debian/dists/{suite}"
        lines = {"Origin": "Debian", "Label": "Debian", "Suite": suite, "Codename": suite, "Date": date}
        lines |= {"Architectures": "amd64", "Components": "main"}
        lines |= {name.replace("_", "-"): value for name, value in fields.items()}
        release = "".join(f"{name}: {value}\n" for name, value in lines.items())
        release += "SHA256:\n"
        for name, data in indexes.items():
            release += f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}\n"
            self.mirror.files[f"{index}/{name}"] = data
        self.mirror.files[f"{index}/InRelease"] = self._gpg("--clearsign", data=release.encode())

    def _gpg(self, *arguments: str, data: bytes = b"") -> bytes:
        argv = ["gpg", "--batch", "--quiet", "--homedir", str(self.home), *arguments]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        return subprocess.run(argv, input=data, env=environment, capture_output=True, check=True).stdout

    def close(self) -> None:
        """End the agent that gpg started."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False, capture_output=True)
