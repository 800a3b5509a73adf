"""A small recipe and locks that belong to it, made in memory."""

from collections.abc import Iterable, Mapping
from hashlib import sha256

from builder.model.lock import Lock, LockedPackage, LockedSource
from builder.model.recipe import Recipe, parse_recipe

RECIPE = b"""\
schema: tdx-builder/recipe/v1
image: sample
version: 1.2.3
source_date_epoch: 1767225600
archives:
  debian: {suites: [bookworm], components: [main]}
roots:
  tools: [python3]
  vmm: [qemu-system-x86]
components:
  firmware: {packages: [ovmf], file: usr/share/ovmf/OVMF.fd, edk2: 202211}
  kernel: {packages: [linux-image=6.12.95-1], file: boot/vmlinuz}
  initrd: {packages: [busybox-static], programs: [bin/busybox], modules: [squashfs], files: files/initrd}
  guest_os: {packages: [base-files/bookworm], files: files/guest_os, exclude: [usr/share/doc]}
  app_image: {packages: [busybox-static], programs: [bin/busybox], files: files/app, entrypoint: [/app, --fast]}
command_line: console=ttyS0 root={root_hash} size={root_size}
legs:
  require: [time]
measure:
  vmm: {name: qemu, version: 10.0.2, machine: "q35,smm=off", cpu: host, devices: [serial]}
  vcpus: [1]
  memory: [1G]
"""

# group -> names of its packages; what the recipe does not ask for, another package depends on
GROUPS: Mapping[str, tuple[str, ...]] = {
    "roots.tools": ("python3", "libc6"),
    "roots.vmm": ("qemu-system-x86", "libc6"),
    "components.firmware": ("ovmf", "ovmf-common"),
    "components.kernel": ("linux-image", "kmod"),
    "components.initrd": ("busybox-static", "libc6"),
    "components.guest_os": ("base-files", "libc6"),
    "components.app_image": ("busybox-static",),
}
SOURCES = ("files/initrd/init", "files/initrd-other/x", "files/guest_os/sbin/init", "files/app/app", "files/app/etc/a")


def sample_recipe(text: bytes = RECIPE) -> Recipe:
    return parse_recipe(text, what="recipe.yaml")


def sample_lock(
    groups: Mapping[str, Iterable[str]] = GROUPS, sources: Iterable[str] = SOURCES, recipe: Recipe | None = None
) -> Lock:
    """A lock with these groups and files; every file is executable."""
    recipe = recipe or sample_recipe()
    packages = {name: _package(name) for names in groups.values() for name in names}
    return Lock(
        image=recipe.image,
        version=recipe.version,
        recipe_sha256=recipe.digest,
        source_date_epoch=recipe.source_date_epoch,
        archives={"debian": {"bookworm": "2026-01-01T00:00:00Z"}},
        packages={package.key: package for package in packages.values()},
        requests={name: group.requests for name, group in recipe.package_groups().items()},
        groups={group: tuple(packages[name].key for name in names) for group, names in groups.items()},
        sources={path: LockedSource(path, True, 1, _digest(path)) for path in sources},
    )


def _package(name: str) -> LockedPackage:
    return LockedPackage(name, "1", "amd64", "debian", "bookworm", f"pool/{name}.deb", 1, _digest(name), "")


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
