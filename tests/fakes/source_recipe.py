"""A recipe that builds from source, has a prebuilt kernel and a flavour, and its directory on disk."""

from pathlib import Path

from builder.backends.atomic_file import write_atomically
from builder.model.digest import sha256_hex
from builder.model.recipe import Recipe, parse_recipe
from builder.pipeline.lock import LockOutcome, lock_recipe
from tests.fakes.fixed_resolver import DATES, FixedResolver, package, tarball

KERNEL_URL = "https://example.org/kernels/vmlinuz-6.12"
KERNEL = b"a kernel that was built elsewhere"
PREBUILT_URL = f"{{url: '{KERNEL_URL}', size: {len(KERNEL)}, sha256: {sha256_hex(KERNEL)}}}"
PREBUILT_PATH = f"{{path: files/vmlinuz, sha256: {sha256_hex(KERNEL)}}}"
FIRMWARE_SOURCE = """\
source: edk2=2025.02-8+deb13u1
    root: toolchain
    files: files/firmware
    platform: OvmfPkg/OvmfPkgX64.dsc
    defines: {TPM2_ENABLE: TRUE, CC_MEASUREMENT_ENABLE: FALSE}
    edk2: 202502"""
KERNEL_SOURCE = """\
source: linux=6.18.15-1~bpo13+1
    root: toolchain
    config: [files/kernel/base.config, files/kernel/tdx.config]
    required: files/kernel/required.config
    patches: files/kernel/patches"""
RECIPE = f"""\
schema: tdx-builder/recipe/v1
image: sample
version: 1.2.3
source_date_epoch: 1700000000
archives:
  debian:
    suites: [bookworm, bookworm-backports]
    source_suites: [trixie]
    components: [main]
roots:
  tools: [squashfs-tools]
  vmm: [qemu-system-x86/bookworm-backports]
  toolchain: {{packages: [gcc, make], suites: [trixie]}}
components:
  firmware:
    {FIRMWARE_SOURCE}
  kernel:
    prebuilt: {PREBUILT_URL}
  initrd: {{packages: [busybox-static], programs: [bin/busybox], modules: [], files: files/initrd}}
  guest_os:
    packages: [systemd]
    files: files/guest_os
    links:
      sbin/init: usr/lib/systemd/systemd
      etc/systemd/system/default.target: /usr/lib/systemd/system/multi-user.target
    filesystem: erofs
  app_image:
    {{packages: [], files: files/app, programs: [], entrypoint: [/app], compose: files/compose.yaml}}
command_line: console=ttyS0 roothash={{root_hash}} size={{root_size}}
legs:
  require: [build_path, time]
measure:
  vmm: {{name: qemu, version: 10.0.2, machine: q35, cpu: max, devices: [virtio-net-pci]}}
  vcpus: [1, 2]
  memory: [512M, 2G]
flavours:
  dev: {{packages: [openssh-server], files: files/dev, command_line: "debug roothash={{root_hash}}"}}
"""
FILES = {
    "files/firmware/no-modules.patch": "patch\n",
    "files/kernel/base.config": "CONFIG_A=y\n",
    "files/kernel/tdx.config": "CONFIG_B=y\n",
    "files/kernel/required.config": "CONFIG_B=y\n",
    "files/kernel/patches/0001.patch": "patch\n",
    "files/initrd/init": "#!/bin/sh\n",
    "files/guest_os/etc/issue": "prod\n",
    "files/app/app": "app\n",
    "files/compose.yaml": "image: {app_digest}\n",
    "files/dev/etc/issue": "dev\n",
}
SOURCE = "edk2=2025.02-8+deb13u1"
PACKAGES = ("squashfs-tools", "qemu-system-x86", "gcc", "make", "busybox-static", "systemd", "openssh-server")


def parse_source_recipe(text: str = RECIPE, *, flavour: str = "prod") -> Recipe:
    return parse_recipe(text.encode(), what="recipe.yaml", flavour=flavour)


def source_resolver() -> FixedResolver:
    """Every package of the recipe, and the source of its firmware in two tarballs."""
    packages = {name: package(name) for name in PACKAGES}
    dates = {**DATES, "trixie": "20260102T030405Z"}
    resolver = FixedResolver(packages, dates=dates)
    resolver.tarballs[SOURCE] = (
        tarball("edk2", "2025.02-8+deb13u1", "brotli"),
        tarball("edk2", "2025.02-8+deb13u1"),
    )
    return resolver


def make_source_recipe(path: Path, text: str = RECIPE) -> Path:
    """The directory of the recipe, not locked."""
    for name, content in {**FILES, "recipe.yaml": text}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
    (path / "files/vmlinuz").write_bytes(KERNEL)
    return path


def lock_source_recipe(directory: Path, resolver: FixedResolver | None = None) -> LockOutcome:
    recipe = parse_source_recipe((directory / "recipe.yaml").read_text())
    return lock_recipe(directory, recipe, resolver=resolver or source_resolver(), write=write_atomically)
