"""A resolver whose archive the test writes down."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from builder.errors import DocumentError
from builder.model.digest import sha256_hex
from builder.model.recipe import PackageGroup
from builder.ports import Resolution, ResolvedPackage

DATES = {"bookworm": "20250520T143011Z", "bookworm-backports": "20250521T020202Z"}


def package(name: str, version: str = "1.0", **fields: object) -> ResolvedPackage:
    """A package of the suite bookworm whose bytes are its name and version."""
    data = f"{name} {version}".encode()
    values = {
        "name": name,
        "version": version,
        "architecture": "amd64",
        "archive": "debian",
        "suite": "bookworm",
        "path": f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb",
        "size": len(data),
        "sha256": sha256_hex(data),
    }
    return ResolvedPackage(**{**values, **fields})  # type: ignore[arg-type]


def tarball(name: str, version: str, component: str = "", **fields: object) -> ResolvedPackage:
    """An orig tarball of the suite trixie whose bytes are its name, version and component."""
    upstream = version.rpartition("-")[0].rpartition(":")[2]
    part = f"-{component}" if component else ""
    path = f"pool/main/{name[0]}/{name}/{name}_{upstream}.orig{part}.tar.xz"
    data = f"{name} {version} {component}".encode()
    values = {"architecture": "source", "suite": "trixie", "path": path, "size": len(data), "sha256": sha256_hex(data)}
    return package(name, version, **{**values, **fields})


@dataclass
class FixedResolver:
    """Gives each request the package of that name, and every package named in `depends` for it.

    `tarballs` are those of a source, by `NAME=VERSION`.
    """

    archive: dict[str, ResolvedPackage]
    depends: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dates: Mapping[str, str] = field(default_factory=lambda: dict(DATES))
    tarballs: dict[str, tuple[ResolvedPackage, ...]] = field(default_factory=dict)

    def resolve(self, groups: Mapping[str, PackageGroup]) -> Resolution:
        return Resolution({name: self._group(group) for name, group in groups.items()}, self.dates)

    def _group(self, group: PackageGroup) -> tuple[ResolvedPackage, ...]:
        if group.source:
            return tuple(tarball for request in group.requests for tarball in self.tarballs[request])
        return self._packages(group.requests)

    def _packages(self, requests: tuple[str, ...]) -> tuple[ResolvedPackage, ...]:
        names = set()
        for request in requests:
            name = request.partition("=")[0].partition("/")[0]
            if name not in self.archive:
                raise DocumentError(f"no package {name!r}")
            names |= {name, *self.depends.get(name, ())}
        return tuple(self.archive[name] for name in sorted(names))
