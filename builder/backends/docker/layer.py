"""Directories of this host as a layer of an image, and layers as the archive that `docker load` reads.

Both are the same bytes wherever they are made. Owners are root's, nothing can be written, and times are those of the
files, so that a step finds the same root in every engine. Files are streamed; nothing is held in memory.
"""

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.encoding.canonical_json import encode_canonical
from builder.errors import DocumentError
from builder.model.digest import sha256_hex
from builder.normalize.tar import encode_tar
from builder.normalize.tree import Kind, Member, file_member

_CHUNK = 1 << 20
_CREATED = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class LayerPart:
    """A directory of the host, and where it goes in the image (`mnt/bytecode`, or nothing for the top).

    `own_times` is false for what was made here: its times are 0 then. Without a `directory` it is an empty one with
    mode 0755: runtimes give a file system in memory the mode of the directory that it is mounted on.
    """

    place: str
    directory: Path | None
    own_times: bool = True


@dataclass(frozen=True)
class Layer:
    """The tar of some directories: SHA-256 (docker's diff id) and size in bytes. It is made anew when it is read."""

    parts: tuple[LayerPart, ...]
    sha256: str
    size: int

    def chunks(self) -> Iterator[bytes]:
        """The bytes; DocumentError at their end if they are not those of the digest any more."""
        digest = hashlib.sha256()
        for chunk in _layer_chunks(self.parts):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != self.sha256:
            places = ", ".join(str(part.directory) for part in self.parts if part.directory is not None)
            raise DocumentError(f"{places}: files changed while they were copied to docker")


@dataclass(frozen=True)
class Image:
    """An image by content: `name` says its digest, `config` is what the daemon has to have of it, byte by byte."""

    name: str
    config: bytes
    layers: tuple[Layer, ...]

    @property
    def layer_ids(self) -> list[str]:
        """The layers as docker names them in RootFS.Layers: a digest of every file of the image."""
        return [f"sha256:{layer.sha256}" for layer in self.layers]


def make_layer(parts: Iterable[LayerPart]) -> Layer:
    """The layer of these directories, read once for its digest."""
    ordered = tuple(parts)
    digest, size = hashlib.sha256(), 0
    for chunk in _layer_chunks(ordered):
        digest.update(chunk)
        size += len(chunk)
    return Layer(ordered, digest.hexdigest(), size)


def make_image(repository: str, layers: tuple[Layer, ...], labels: Mapping[str, str]) -> Image:
    """The image of some layers, called `repository` and the digest of what it consists of."""
    config: dict[str, Any] = {
        "architecture": "amd64",
        "os": "linux",
        "created": _CREATED,
        "config": {"Labels": dict(labels)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.sha256}" for layer in layers]},
        "history": [{"created": _CREATED, "created_by": "tdx-builder"} for _ in layers],
    }
    encoded = encode_canonical(config)
    return Image(f"{repository}:{sha256_hex(encoded)}", encoded, layers)


def image_archive(image: Image, wanted: Callable[[Layer], bool]) -> Iterator[bytes]:
    """What `docker load` reads, with the bytes of the `wanted` layers; of others it has the bytes already."""
    config_name = f"{sha256_hex(image.config)}.json"
    manifest = [
        {"Config": config_name, "RepoTags": [image.name], "Layers": [_layer_name(layer) for layer in image.layers]}
    ]
    members = [
        file_member("manifest.json", encode_canonical(manifest)),
        file_member(config_name, image.config),
        *(
            Member(_layer_name(layer), Kind.FILE, 0o644, size=layer.size, content=layer.chunks())
            for layer in image.layers
            if wanted(layer)
        ),
    ]
    return encode_tar(members, epoch=0)


def _layer_name(layer: Layer) -> str:
    return f"{layer.sha256}.tar"


def _layer_chunks(parts: Iterable[LayerPart]) -> Iterator[bytes]:
    links: dict[tuple[int, int], str] = {}
    seen: set[str] = set()
    for part in parts:
        for above in _directories_above(part.place):
            if above not in seen:  # docker refuses a layer that has a path twice
                yield _header(above, tarfile.DIRTYPE, mode=0o555)
        seen.update(_directories_above(part.place))
        if part.directory is None:
            yield _header(part.place, tarfile.DIRTYPE, mode=0o755)
        else:
            yield from _tree_chunks(part.directory, part, links)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _tree_chunks(directory: Path, part: LayerPart, links: dict[tuple[int, int], str]) -> Iterator[bytes]:
    for path in _walk(directory):
        relative = str(path.relative_to(directory))
        name = "/".join(word for word in (part.place, relative if relative != "." else "") if word)
        if name:
            yield from _entry(path, name, part, links)


def _directories_above(place: str) -> list[str]:
    words = place.split("/")[:-1]
    return ["/".join(words[: count + 1]) for count in range(len(words))]


def _walk(directory: Path) -> Iterator[Path]:
    """The directory and everything below, each after its directory, sorted by bytes; links are not followed."""
    yield directory
    with os.scandir(directory) as entries:
        ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in ordered:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(directory / entry.name)
        else:
            yield directory / entry.name


def _entry(path: Path, name: str, part: LayerPart, links: dict[tuple[int, int], str]) -> Iterator[bytes]:
    found = path.lstat()
    mtime = int(found.st_mtime) if part.own_times else 0
    mode = found.st_mode & 0o555
    if stat.S_ISDIR(found.st_mode):
        yield _header(name, tarfile.DIRTYPE, mode=mode, mtime=mtime)
    elif stat.S_ISLNK(found.st_mode):
        yield _header(name, tarfile.SYMTYPE, mode=0o777, mtime=mtime, target=str(path.readlink()))
    elif not stat.S_ISREG(found.st_mode):
        raise DocumentError(f"{path}: neither file, directory nor link; a pinned root has nothing else")
    elif (first := links.setdefault((found.st_dev, found.st_ino), name)) != name:
        yield _header(name, tarfile.LNKTYPE, mode=mode, mtime=mtime, target=first)
    else:
        yield _header(name, tarfile.REGTYPE, mode=mode, mtime=mtime, size=found.st_size)
        yield from padded_content(path, found.st_size)


def padded_content(path: Path, size: int) -> Iterator[bytes]:
    """A file's bytes as they stand in a tar; DocumentError if there are not `size` of them."""
    left = size
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            left -= len(chunk)
            yield chunk
    if left:
        raise DocumentError(f"{path}: {size - left} bytes, and {size} when it was looked at")
    yield bytes(-size % tarfile.BLOCKSIZE)


def _header(name: str, kind: bytes, *, mode: int, mtime: int = 0, size: int = 0, target: str = "") -> bytes:
    header = tarfile.TarInfo(name)
    header.type, header.mode, header.mtime, header.size, header.linkname = kind, mode, mtime, size, target
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
