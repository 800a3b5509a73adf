"""Layer 3: what the pipeline asks of the outside world. Backends implement these; only `cli` wires them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from builder.model.recipe import PackageGroup, VmmSpec
from builder.model.variation import Variation

if TYPE_CHECKING:  # the measuring core is large, and most verbs do without it
    from builder.measure.acpi.blobs import AcpiBlobs
    from builder.measure.rehearsal import BootObservation

LogSink = Callable[[bytes], None]


class Progress(Protocol):
    """Where long work reports to. Safe to call from several threads."""

    def start(self, task: str, total: int | None = None) -> None:
        """`task` begins; `total` in bytes or units where known."""

    def advance(self, task: str, amount: int) -> None:
        """`amount` more of `task` is done; a negative amount if some of it has to be done again."""

    def finish(self, task: str, note: str = "") -> None:
        """`task` ended."""


class ArtifactStore(Protocol):
    """Content-addressed files that survive being killed at any moment: an object is there whole or not at all."""

    def path(self, sha256: str) -> Path | None:
        """A read-only file with this digest, or None."""

    def add_file(self, source: Path, *, move: bool = False) -> tuple[str, int]:
        """Store a file's bytes, hashing them once; gives SHA-256 and size. `move` may consume the source."""

    def partial(self, sha256: str) -> AbstractContextManager[Path]:
        """A file to download into, kept for resuming after an interruption, locked against a second writer.

        On a clean exit the file is hashed and becomes the object if the digest is `sha256`; otherwise it is deleted
        and FetchError raised.
        """


class StepIndex(Protocol):
    """Entries of the step cache by the digest of their task."""

    def read(self, sha256: str) -> bytes | None:
        """The entry as it was written, or None."""

    def write(self, sha256: str, data: bytes) -> None:
        """Write an entry; it is there whole or not at all."""


@dataclass(frozen=True)
class RemoteFile:
    """One file to fetch: its pinned size and digest, and the addresses to try in order."""

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]


class Fetcher(Protocol):
    """Gets pinned files into a store, several at a time; no byte is used before size and digest are checked."""

    def fetch(self, files: Sequence[RemoteFile], store: ArtifactStore, progress: Progress) -> int:
        """Fetch what is missing; gives the number of files fetched. FetchError names every file that failed."""


@dataclass(frozen=True)
class ArchiveMember:
    """A file of an input archive. `path` is where its bytes come from or go to; None for reading without keeping."""

    name: str
    size: int
    sha256: str
    path: Path | None


class InputReader(Protocol):
    """An input archive, read from its beginning in the one order that its members have.

    DocumentError where it is not the archive that the caller describes: another member, a link, bytes after the end.
    """

    def document(self, name: str, *, limit: int) -> bytes:
        """The next member, called `name`, of at most `limit` bytes. Its digest is the caller's to check."""

    def object(self, member: ArchiveMember) -> None:
        """The next member, copied to its path; FetchError if its digest is not `member.sha256`."""

    def finish(self) -> None:
        """There is nothing more."""


InputWriter = Callable[[Path, Sequence[ArchiveMember]], None]


@dataclass(frozen=True)
class ResolvedPackage:
    """A package as apt resolved it, or an orig tarball of a source (architecture `source`): what its archive's signed
    index says about it."""

    name: str
    version: str
    architecture: str
    archive: str
    suite: str
    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Resolution:
    """apt's answer for every group, and the state of each suite (the Date of its signed Release file, UTC)."""

    groups: Mapping[str, tuple[ResolvedPackage, ...]]
    suite_dates: Mapping[str, str]


class Resolver(Protocol):
    """Resolves package names to exact packages, and sources to orig tarballs, with apt in a private state directory."""

    def resolve(self, groups: Mapping[str, PackageGroup]) -> Resolution:
        """Each group by itself, from an empty system. FetchError if the indexes cannot be had, DocumentError for
        names that apt cannot satisfy and for a version of a source that is not there."""


class Workspace(Protocol):
    """One step's sandbox: a fresh build directory with `in/`, `out/` and `inside/`, and nothing else of the host."""

    def put(self, source: Path, target: str, *, executable: bool = False) -> None:
        """Place a host file at `target` (relative to the build directory), read-only, mode 0755 or 0644."""

    def run(self, argv: Sequence[str], environment: Mapping[str, str], log: LogSink) -> None:
        """Run to the end under the variation. BuildFailedError names the command, its status and the end of its log."""

    def get(self, name: str) -> Path:
        """The host's path of the regular file `out/<name>`; BuildFailedError if it is missing or not a regular file."""


class Sandbox(Protocol):
    """An engine that runs steps in a pinned root with no network and a clean environment."""

    @property
    def engine(self) -> str:
        """`bubblewrap`, `docker`, ..."""

    @property
    def engine_version(self) -> str:
        """The engine's own version text."""

    def open(self, root: Path, variation: Variation, scratch: Path) -> AbstractContextManager[Workspace]:
        """A workspace on the pinned root unpacked at `root`, whose files live below the host directory `scratch`."""

    def not_varied(self, variation: Variation) -> Mapping[str, str]:
        """Axes of this variation that this engine on this machine cannot apply, with the reason."""

    def cancel(self) -> None:
        """End what runs in any workspace of this engine, now and from now on; for another thread, on Ctrl-C."""


@dataclass(frozen=True)
class MachineShape:
    """The machine whose ACPI tables are wanted: a VMM with its machine options and devices, vCPUs, memory in bytes.

    `edk2` is the release of the firmware (`202502`), which decides where it puts MMCONFIG and PCI windows.
    """

    vmm: VmmSpec
    vcpus: int
    memory: int
    edk2: str


class AcpiReader(Protocol):
    """Reads the ACPI blobs of a machine shape from a VMM that runs no guest. Safe to call from several threads."""

    def read(self, shape: MachineShape) -> "AcpiBlobs":
        """The blobs as the firmware finds them. DocumentError for a shape that the VMM or a rule refuses, another
        version than the shape's included; NotProvenError if the reading itself fails."""


@dataclass(frozen=True)
class DirectBoot:
    """A direct kernel boot of a machine shape from files. `disk` is what the shape's first virtio disk holds; without
    a `kernel`, which takes initrd and command line with it, the firmware boots from there.

    The boot ends when the guest powers off or resets, when `until` is on its serial port, at the latest after `limit`
    seconds; without `until` also some time after the guest has left boot services. `serial_log` gets what the serial
    port says, while it is said.
    """

    shape: MachineShape
    firmware: Path
    kernel: Path | None
    initrd: Path | None
    disk: Path | None
    command_line: str
    until: str | None
    limit: float
    serial_log: Path


class BootEmulator(Protocol):
    """Boots unchanged files on an emulated machine with a TPM, and looks at it from outside."""

    def programs(self) -> Mapping[str, str]:
        """The emulators by name, with the versions they state. MissingError if one is absent."""

    def boot(self, order: DirectBoot) -> "BootObservation":
        """What the boot left behind. DocumentError for a machine or file that the VMM refuses, MissingError if an
        emulator is absent, NotProvenError if nothing could be read from the machine."""


class EspReader(Protocol):
    """Reads an EFI system partition. Paths start with `/`; case does not matter, as on FAT."""

    def names(self, directory: str) -> Sequence[str]:
        """What is in a directory, sorted; nothing if it is not there."""

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, None if it is not there. DocumentError for a damaged file system."""
