"""The lock: every input of a recipe by digest. The tool writes it; `parse_lock` refuses an edited one.

The format is `schemas/lock-v1.json`. Each section carries the SHA-256 of its canonical JSON, so that an edit is named
by section even without the archive at hand; `lock --check` resolves again and names the entry.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from builder.encoding.canonical_json import encode_canonical, encode_readable, parse_json
from builder.encoding.schema import load_schema, validate
from builder.errors import DocumentError
from builder.model.digest import sha256_hex
from builder.model.source_package import ARCHITECTURE as SOURCE
from builder.model.source_package import orig_component, parse_source_request, path_component

SCHEMA = "tdx-builder/lock/v1"
FILE_NAME = "lock.json"
RELOCK = "run `tdx-builder lock` on the recipe again"
_SECTIONS = ("recipe", "requests", "archives", "packages", "groups", "sources")
_SOURCE_GROUPS = "sources."
_POOL = "pool/"


@dataclass(frozen=True)
class LockedPackage:
    """One .deb or orig tarball: `path` in its archive, and `snapshot`, the date of the suite that listed it there.

    `{snapshot base}/archive/{archive}/{snapshot}/{path}` is its address in a snapshot archive. A tarball has the name
    and version of its source package, and the architecture `source`.
    """

    name: str
    version: str
    architecture: str
    archive: str
    suite: str
    path: str
    size: int
    sha256: str
    snapshot: str

    @property
    def key(self) -> str:
        """What groups refer to: `name=version:architecture`; `name=version:source-COMPONENT` for further tarballs."""
        component = f"-{self.component}" if self.component else ""
        return f"{self.name}={self.version}:{self.architecture}{component}"

    @property
    def component(self) -> str:
        """The component of a source that this is a tarball of; empty for a main tarball and for a .deb."""
        return path_component(self.path) if self.architecture == SOURCE else ""

    @property
    def title(self) -> str:
        """What there is one of in a group: `package kmod`, `source linux`, `source edk2, component brotli`."""
        kind = "source" if self.architecture == SOURCE else "package"
        return f"{kind} {self.name}{f', component {self.component}' if self.component else ''}"

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class LockedFile:
    """The prebuilt file that component `name` is: its address, size in bytes and digest."""

    name: str
    url: str
    size: int
    sha256: str

    @property
    def key(self) -> str:
        """What it is called in messages."""
        return f"{self.name} from {self.url}"


@dataclass(frozen=True)
class LockedSource:
    """One file of the recipe's own: path relative to the recipe, whether it is executable, size and digest."""

    path: str
    executable: bool
    size: int
    sha256: str


@dataclass(frozen=True)
class Lock:
    """Every input by digest. `requests` are the package names the recipe asked for, `groups` what apt made of each.

    `sources` are files of the recipe's own, `files` prebuilt ones that have to be fetched.
    """

    image: str
    version: str
    recipe_sha256: str
    source_date_epoch: int
    archives: Mapping[str, Mapping[str, str]]
    packages: Mapping[str, LockedPackage]
    requests: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, LockedSource]
    files: Mapping[str, LockedFile] = field(default_factory=dict)

    def group(self, name: str) -> tuple[LockedPackage, ...]:
        """The packages of one group, sorted by name."""
        return tuple(self.packages[key] for key in self.groups[name])

    @property
    def downloads(self) -> tuple[LockedPackage | LockedFile, ...]:
        """Everything that is fetched: packages, orig tarballs, prebuilt files."""
        return (*self.packages.values(), *self.files.values())

    @property
    def total_size(self) -> int:
        """Bytes of everything that is fetched."""
        return sum(item.size for item in self.downloads)


def encode_lock(lock: Lock) -> bytes:
    """The lock file's bytes: the same lock always gives the same bytes."""
    sections = _sections(lock)
    digests = {name: _section_digest(section) for name, section in sections.items()}
    return encode_readable({"schema": SCHEMA, **sections, "digests": digests})


def parse_lock(data: bytes, *, what: str) -> Lock:
    """Parse a lock file; DocumentError for a malformed one, and for an edited one naming the section."""
    document = parse_json(data, what=what)
    validate(document, schema_name="lock-v1", what=what)
    for name in (*_SECTIONS, *(("files",) if "files" in document else ())):
        found, wanted = _section_digest(document[name]), document["digests"].get(name)
        if found != wanted:
            raise DocumentError(
                f"{what}: section {name!r} was edited: its SHA-256 is {found}, recorded is {wanted}", hint=RELOCK
            )
    lock = _lock(document)
    _check_references(lock, what)
    if encode_lock(lock) != data:
        raise DocumentError(f"{what}: not in the form that `tdx-builder lock` writes", hint=RELOCK)
    return lock


def checked_source_path(path: str) -> str:
    """`path` if a lock can hold it as the name of a source; DocumentError otherwise."""
    pattern = load_schema("lock-v1")["properties"]["sources"]["propertyNames"]["pattern"]
    if not re.fullmatch(pattern, path):
        raise DocumentError(f"file {path!r}: its name cannot be locked", hint=f"names have to match {pattern}")
    return path


def _sections(lock: Lock) -> dict[str, Any]:
    """`files` is left out where there are none, as in every lock from before it could hold any."""
    files = {name: {"url": file.url, "size": file.size, "sha256": file.sha256} for name, file in lock.files.items()}
    return {
        "recipe": {
            "image": lock.image,
            "version": lock.version,
            "sha256": lock.recipe_sha256,
            "source_date_epoch": lock.source_date_epoch,
        },
        "requests": {name: sorted(packages) for name, packages in lock.requests.items()},
        "archives": {name: dict(suites) for name, suites in lock.archives.items()},
        "packages": {key: asdict(package) for key, package in lock.packages.items()},
        "groups": {name: sorted(keys) for name, keys in lock.groups.items()},
        "sources": {
            path: {"executable": source.executable, "size": source.size, "sha256": source.sha256}
            for path, source in lock.sources.items()
        },
        **({"files": files} if files else {}),
    }


def _lock(document: dict[str, Any]) -> Lock:
    recipe = document["recipe"]
    return Lock(
        image=recipe["image"],
        version=recipe["version"],
        recipe_sha256=recipe["sha256"],
        source_date_epoch=recipe["source_date_epoch"],
        archives=document["archives"],
        packages={key: LockedPackage(**entry) for key, entry in document["packages"].items()},
        requests={name: tuple(packages) for name, packages in document["requests"].items()},
        groups={name: tuple(keys) for name, keys in document["groups"].items()},
        sources={path: LockedSource(path=path, **entry) for path, entry in document["sources"].items()},
        files={name: LockedFile(name=name, **entry) for name, entry in document.get("files", {}).items()},
    )


def _check_references(lock: Lock, what: str) -> None:
    for key, package in lock.packages.items():
        _check_package(lock, key, package, what)
    if set(lock.groups) != set(lock.requests):
        raise DocumentError(f"{what}: groups and requests name different groups", hint=RELOCK)
    for name, keys in lock.groups.items():
        _check_group(lock, name, keys, f"{what}: $.groups.{name}")


def _check_package(lock: Lock, key: str, package: LockedPackage, what: str) -> None:
    if package.key != key:
        raise DocumentError(f"{what}: $.packages: entry {key!r} describes {package.key!r}", hint=RELOCK)
    if lock.archives.get(package.archive, {}).get(package.suite) != package.snapshot:
        raise DocumentError(
            f"{what}: $.packages: {key!r} was seen in {package.archive} {package.suite} at {package.snapshot}, "
            "which $.archives does not have",
            hint=RELOCK,
        )
    where = f"{what}: $.packages: {key!r}"
    component = orig_component(package.file_name, name=package.name, version=package.version, what=where)
    is_orig = component is not None
    if is_orig != (package.architecture == SOURCE):
        raise DocumentError(f"{where} is at {package.path!r}, no place for it", hint=RELOCK)
    if is_orig and not package.path.startswith(_POOL):
        raise DocumentError(f"{where} is at {package.path!r}, not below {_POOL}", hint=RELOCK)


def _check_group(lock: Lock, name: str, keys: tuple[str, ...], what: str) -> None:
    for key in keys:
        if key not in lock.packages:
            raise DocumentError(f"{what}: {key!r} is not among the packages", hint=RELOCK)
    packages = lock.group(name)
    if len({package.title for package in packages}) != len(packages):
        raise DocumentError(f"{what}: holds two versions of one package", hint=RELOCK)
    if name.startswith(_SOURCE_GROUPS):
        _check_source_group(lock.requests[name], packages, what)
        return
    if any(package.architecture == SOURCE for package in packages):
        raise DocumentError(f"{what}: holds a source among packages", hint=RELOCK)
    _check_requested(lock.requests[name], packages, what)


def _check_requested(requests: tuple[str, ...], packages: tuple[LockedPackage, ...], what: str) -> None:
    """Every package that was asked for is there. What those depend on, only apt can tell (`lock --check`)."""
    versions = {package.name: package.version for package in packages}
    for request in requests:
        name, _, version = request.partition("/")[0].partition("=")
        found = versions.get(name, "")
        if found != version if version else not found:
            raise DocumentError(f"{what}: asks for {request}, and holds {found or 'nothing of this name'}", hint=RELOCK)


def _check_source_group(requests: tuple[str, ...], packages: tuple[LockedPackage, ...], what: str) -> None:
    """The tarballs of the one source that was asked for, the main one among them."""
    wanted = [parse_source_request(request, what=what) for request in requests]
    found = {(package.name, package.version) for package in packages if package.architecture == SOURCE}
    if len(wanted) != 1 or found != set(wanted) or any(package.architecture != SOURCE for package in packages):
        raise DocumentError(f"{what}: its packages are not the source {', '.join(requests)}", hint=RELOCK)
    if all(package.component for package in packages):
        raise DocumentError(f"{what}: has no main tarball", hint=RELOCK)


def _section_digest(section: Any) -> str:
    return sha256_hex(encode_canonical(section))
