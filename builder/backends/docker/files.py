"""Files into the volumes of a leg, and files out of them, as tar streams; nothing is unpacked by name on this host."""

import base64
import io
import json
import shutil
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.backends.docker.daemon import CALL_SECONDS, TRANSFER_SECONDS, Daemon, api_errors, connected
from builder.backends.docker.layer import padded_content
from builder.backends.docker.options import CARRIED
from builder.backends.scratch import make_directory
from builder.errors import BuildFailedError
from builder.model.variation import Variation

if TYPE_CHECKING:
    from docker.api import APIClient

_CHUNK = 1 << 20
_NOT_FOUND = 404


@dataclass(frozen=True)
class CarriedFile:
    """A file or, without `source`, a directory for a volume. `path` starts with the volume's purpose (`in/name`)."""

    path: str
    mode: int
    source: Path | None
    uid: int = 0
    gid: int = 0


def leg_directories(variation: Variation) -> list[CarriedFile]:
    """The directories of an empty workspace, with their owners."""
    shared = ("build/in", "build/inside", "in", "inside", "sys", "sys/fs", "sys/fs/cgroup")
    return [
        *(CarriedFile(path, 0o755, None, variation.uid, variation.gid) for path in ("build", "build/out", "tmp")),
        *(CarriedFile(path, 0o755, None) for path in shared),
    ]


def tree_files(directory: Path, place: str) -> list[CarriedFile]:
    """Everything below a directory of ours, for `place` in a volume, sorted; each after its directory."""
    paths = sorted(directory.rglob("*"))
    return [
        CarriedFile(f"{place}/{path.relative_to(directory)}", 0o755, None)
        if path.is_dir()
        else CarriedFile(f"{place}/{path.relative_to(directory)}", 0o644, path)
        for path in paths
    ]


def put_files(daemon: Daemon, carrier: str, files: Iterable[CarriedFile]) -> None:
    """Write files into the volumes of a leg, each after the directory it lies in."""
    with connected(daemon, timeout=TRANSFER_SECONDS) as client, api_errors(daemon, "take the files of a step"):
        client.put_archive(carrier, "/", _archive(files))


def read_file(daemon: Daemon, carrier: str, path: str, target: Path, *, most: int) -> bool:
    """Copy the regular file at `path` of the volumes to `target`; False if there is something else, or nothing.

    The last part of `path` is never followed if it is a link; the parts before it are the caller's to check.
    BuildFailedError for more than `most` bytes, before the first one is copied: a file with holes costs a step nothing.
    """
    mode = _mode(daemon, carrier, path)
    if mode is None or mode & _GO_TYPES:
        return False
    with _members(daemon, carrier, path) as archive:
        member = archive.next()
        content = archive.extractfile(member) if member is not None and member.isreg() else None
        if member is None or content is None:
            raise BuildFailedError(f"{daemon} says that {path} is a regular file, and gives something else")
        if member.size > most:
            raise BuildFailedError(f"{path} of a step has {member.size} bytes, more than {most}")
        with content, target.open("wb") as file:
            shutil.copyfileobj(content, file)
    return True


def is_directory(daemon: Daemon, carrier: str, path: str) -> bool:
    """Whether `path` of the volumes is a directory, and not a link to one."""
    mode = _mode(daemon, carrier, path)
    return mode is not None and bool(mode & _GO_DIRECTORY)


def read_tree(daemon: Daemon, carrier: str, path: str, target: Path) -> None:
    """Copy the directory `path` of the volumes over the directory `target`: directories and regular files alone."""
    with _members(daemon, carrier, path) as archive:
        for member in archive:
            _extract(archive, member, target)


# Go's os.FileMode, as docker states it (https://pkg.go.dev/io/fs#FileMode): no type bit stands for a regular file
_GO_DIRECTORY = 1 << 31
_GO_TYPES = _GO_DIRECTORY | 1 << 27 | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19


@contextmanager
def _members(daemon: Daemon, carrier: str, path: str) -> Iterator[tarfile.TarFile]:
    """What docker gives of `path`. The SDK's own call would wait for ever for a daemon that stops in the middle."""
    with (
        connected(daemon, timeout=TRANSFER_SECONDS) as client,
        api_errors(daemon, f"give {path} of a step"),
        client.get(
            _url(client, carrier), params={"path": f"{CARRIED}/{path}"}, stream=True, timeout=CALL_SECONDS
        ) as got,
    ):
        got.raise_for_status()
        try:
            with tarfile.open(fileobj=_reader(got.iter_content(_CHUNK)), mode="r|") as archive:
                yield archive
        except tarfile.TarError as error:
            raise BuildFailedError(f"{daemon} gives {path} of a step as a damaged archive: {error}") from error


def _mode(daemon: Daemon, carrier: str, path: str) -> int | None:
    """What docker says `path` is, as Go's os.FileMode; None if there is nothing."""
    with connected(daemon) as client, api_errors(daemon, f"say what {path} of a step is"):
        answer = client.head(_url(client, carrier), params={"path": f"{CARRIED}/{path}"}, timeout=CALL_SECONDS)
        if answer.status_code == _NOT_FOUND:
            return None
        answer.raise_for_status()
    try:
        mode = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))["mode"]
    except (KeyError, ValueError, TypeError) as error:
        raise BuildFailedError(f"{daemon} does not say what {path} of a step is") from error
    if not isinstance(mode, int):
        raise BuildFailedError(f"{daemon} states the mode of {path} as {mode!r}, wanted a number")
    return mode


def _url(client: "APIClient", carrier: str) -> str:
    return f"{client.base_url}/v{client.api_version}/containers/{carrier}/archive"


def _archive(files: Iterable[CarriedFile]) -> Iterator[bytes]:
    now = int(time.time())
    for file in files:
        header = tarfile.TarInfo(f"{CARRIED.lstrip('/')}/{file.path}")
        header.mode, header.mtime, header.uid, header.gid = file.mode, now, file.uid, file.gid
        if file.source is None:
            header.type = tarfile.DIRTYPE
        else:
            header.size = file.source.stat().st_size
        yield header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        if file.source is not None:
            yield from padded_content(file.source, header.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    _, *parts = member.name.rstrip("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise BuildFailedError(f"docker gives a file called {member.name!r}")
    place = target.joinpath(*parts)
    if member.isdir():
        make_directory(place)
    elif (content := archive.extractfile(member) if member.isreg() else None) is not None:
        with content, place.open("wb") as file:
            shutil.copyfileobj(content, file)
        place.chmod(0o644)
    else:
        raise BuildFailedError(f"docker gives {member.name!r}, which is neither file nor directory")


def _reader(chunks: Iterable[bytes]) -> io.BufferedReader:
    return io.BufferedReader(_Chunks(chunks))


class _Chunks(io.RawIOBase):
    """Chunks as a file to be read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = chunk
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
