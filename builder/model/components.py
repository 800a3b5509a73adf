"""What a recipe says about each component: one frozen value for each form that a component can have.

Firmware and kernel have three forms: a file out of a package, compiled from source, or prebuilt and pinned by digest.
"""

from dataclasses import dataclass
from typing import Any

PackageNames = tuple[str, ...]
PROD = "prod"  # the flavour that the recipe itself describes


@dataclass(frozen=True)
class RootSpec:
    """A pinned root: its packages, and the suites it is resolved from alone; without any, those of the archives."""

    packages: PackageNames
    suites: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prebuilt:
    """A file that nobody here builds, pinned by digest: a file of the recipe's own at `path`, or `size` bytes at `url`.

    Of `path` and `url` exactly one is set. Not checked: where its bytes come from, only that they are the pinned ones.
    """

    sha256: str
    path: str | None = None
    url: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class FirmwarePackage:
    """A firmware file taken out of a package, and the edk2 release it was built from (`measurement.md` 5.1)."""

    packages: PackageNames
    file: str
    edk2: str


@dataclass(frozen=True)
class FirmwareSource:
    """Firmware compiled in the pinned root `root` from the orig tarballs of `source` (`NAME=VERSION`).

    `files` is a tree of the recipe's own; `platform` the .dsc file to build; `defines` are values of edk2's `-D`,
    sorted by name.
    """

    source: str
    root: str
    files: str
    platform: str
    defines: tuple[tuple[str, str], ...]
    edk2: str


@dataclass(frozen=True)
class FirmwarePrebuilt:
    """Firmware from elsewhere, and the edk2 release it was built from."""

    prebuilt: Prebuilt
    edk2: str


FirmwareSpec = FirmwarePackage | FirmwareSource | FirmwarePrebuilt


@dataclass(frozen=True)
class KernelPackage:
    """A kernel image taken out of a package."""

    packages: PackageNames
    file: str


@dataclass(frozen=True)
class KernelSource:
    """A kernel compiled in the pinned root `root` from the orig tarballs of `source` (`NAME=VERSION`).

    `config` are fragments of the recipe's own, in the order in which they are laid over each other; `required` is the
    file of options that the final configuration must have; `patches` a tree of the recipe's own.
    """

    source: str
    root: str
    config: tuple[str, ...]
    required: str
    patches: str | None = None


@dataclass(frozen=True)
class KernelPrebuilt:
    """A kernel image from elsewhere."""

    prebuilt: Prebuilt


KernelSpec = KernelPackage | KernelSource | KernelPrebuilt


@dataclass(frozen=True)
class InitrdSpec:
    """An initrd: programs with the libraries they need, kernel modules, and the recipe's own files."""

    packages: PackageNames
    programs: tuple[str, ...]
    modules: tuple[str, ...]
    files: str


@dataclass(frozen=True)
class GuestOsSpec:
    """A root file system with a dm-verity tree: unpacked packages, the recipe's own files, and symbolic links.

    `without` are packages that others depend on and that are not unpacked, `exclude` directories of the others;
    `links` are (path, target), sorted by path; `filesystem` is `squashfs` or `erofs`. With `mkosi`, a tree of the
    recipe's own, the packages are put together by mkosi in the pinned root `root`, and `files` may be None.
    """

    packages: PackageNames
    files: str | None
    exclude: tuple[str, ...] = ()
    without: PackageNames = ()
    links: tuple[tuple[str, str], ...] = ()
    filesystem: str = "squashfs"
    mkosi: str | None = None
    root: str | None = None


@dataclass(frozen=True)
class AppImageSpec:
    """An OCI image with one layer: unpacked packages and the recipe's own files; `compose` is a file of the recipe."""

    packages: PackageNames
    files: str
    programs: tuple[str, ...]
    entrypoint: tuple[str, ...]
    compose: str | None = None


@dataclass(frozen=True)
class DiskImageSpec:
    """A disk image with a UKI: the packages with the EFI stub, and the stub's path in them."""

    packages: PackageNames
    stub: str


@dataclass(frozen=True)
class FlavourSpec:
    """How a flavour differs from `prod`: packages added to the guest OS, files laid over its own, another command line.

    None says that nothing is laid over, and that the command line is that of `prod`.
    """

    packages: PackageNames
    files: str | None
    command_line: str | None


@dataclass(frozen=True)
class Components:
    """Every component of a recipe."""

    firmware: FirmwareSpec
    kernel: KernelSpec
    initrd: InitrdSpec
    guest_os: GuestOsSpec
    app_image: AppImageSpec
    disk_image: DiskImageSpec | None


def parse_components(document: dict[str, Any]) -> Components:
    """The member `components` of a recipe that fits its schema already."""
    disk_image = document.get("disk_image")
    return Components(
        firmware=_firmware(document["firmware"]),
        kernel=_kernel(document["kernel"]),
        initrd=InitrdSpec(**frozen(document["initrd"])),
        guest_os=_guest_os(document["guest_os"]),
        app_image=AppImageSpec(**frozen(document["app_image"])),
        disk_image=None if disk_image is None else DiskImageSpec(**frozen(disk_image)),
    )


def parse_root(entry: list[str] | dict[str, Any]) -> RootSpec:
    """A root: a list of packages, or an object that has suites as well."""
    return RootSpec(tuple(entry)) if isinstance(entry, list) else RootSpec(**frozen(entry))


def parse_flavour(entry: dict[str, Any]) -> FlavourSpec:
    """A flavour, every member of which may be left out."""
    return FlavourSpec(tuple(entry.get("packages", ())), entry.get("files"), entry.get("command_line"))


def frozen(entry: dict[str, Any]) -> dict[str, Any]:
    """An object of a recipe with its lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}


def _firmware(entry: dict[str, Any]) -> FirmwareSpec:
    if "source" in entry:
        return FirmwareSource(**{**frozen(entry), "defines": _pairs(entry, "defines")})
    if "prebuilt" in entry:
        return FirmwarePrebuilt(Prebuilt(**entry["prebuilt"]), entry["edk2"])
    return FirmwarePackage(**frozen(entry))


def _kernel(entry: dict[str, Any]) -> KernelSpec:
    if "source" in entry:
        return KernelSource(**frozen(entry))
    if "prebuilt" in entry:
        return KernelPrebuilt(Prebuilt(**entry["prebuilt"]))
    return KernelPackage(**frozen(entry))


def _guest_os(entry: dict[str, Any]) -> GuestOsSpec:
    return GuestOsSpec(**{"files": None, **frozen(entry), "links": _pairs(entry, "links")})


def _pairs(entry: dict[str, Any], name: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(entry.get(name, {}).items()))
