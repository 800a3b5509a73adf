"""A recipe directory on disk that is right in every field, for tests that make one of them wrong."""

from pathlib import Path

from builder.backends.atomic_file import write_atomically
from builder.pipeline.inputs import load_recipe
from builder.pipeline.lock import lock_recipe
from tests.fakes.fixed_resolver import FixedResolver, package

RECIPE = """\
schema: tdx-builder/recipe/v1
image: sample
version: 1.2.3
source_date_epoch: 1700000000
archives:
  debian:
    suites: [bookworm, bookworm-backports]
    components: [main]
roots:
  tools: [squashfs-tools, kmod]
  vmm: [qemu-system-x86/bookworm-backports]
components:
  firmware: {packages: [ovmf], file: usr/share/OVMF/OVMF_CODE.fd, edk2: "202211"}
  kernel: {packages: [linux-image-cloud-amd64], file: boot/vmlinuz}
  initrd: {packages: [busybox-static], programs: [bin/busybox], modules: [dm-verity], files: files/initrd}
  guest_os: {packages: [libc6=1.0], files: files/guest_os, exclude: [usr/share/doc]}
  app_image: {packages: [], files: files/app, programs: [], entrypoint: [/app]}
command_line: console=ttyS0 roothash={root_hash} size={root_size}
legs:
  require: [build_path, time]
measure:
  vmm: {name: qemu, version: 10.0.2, machine: q35, cpu: max, devices: [virtio-net-pci]}
  vcpus: [1, 2]
  memory: [512M, 2G]
"""
PACKAGES = ("squashfs-tools", "kmod", "qemu-system-x86", "ovmf", "linux-image-cloud-amd64", "busybox-static", "libc6")


def make_recipe_directory(path: Path) -> Path:
    """The recipe with one executable file, one plain file and one file tree without any."""
    for tree in ("initrd", "app", "guest_os"):
        (path / "files" / tree).mkdir(parents=True)
    (path / "recipe.yaml").write_text(RECIPE)
    (path / "files" / "initrd" / "init").write_text("#!/bin/sh\n")
    (path / "files" / "initrd" / "init").chmod(0o755)
    (path / "files" / "app" / "config").write_text("answer = 42\n")
    (path / "files" / "app" / "config").chmod(0o644)
    return path


def locked_recipe(path: Path) -> Path:
    """The same below `path`, with a fresh lock of packages that no archive has."""
    directory = make_recipe_directory(path / "recipe")
    resolver = FixedResolver({name: package(name) for name in PACKAGES})
    lock_recipe(directory, load_recipe(directory), resolver=resolver, write=write_atomically)
    return directory
