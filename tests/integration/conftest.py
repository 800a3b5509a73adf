"""The quickstart's locked inputs, pinned roots and one real release, made once and shared by all test processes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.backends.deb_root import unpack_root
from builder.backends.http_fetcher import HttpFetcher, HttpSettings
from builder.backends.local_store import LocalStore
from builder.backends.mirrors import find_locations, host_proxies
from builder.cli.main import run
from builder.cli.wiring import default_store
from builder.model.lock import Lock, parse_lock
from builder.pipeline.fetch import fetch_inputs
from tests.fakes.silent_progress import SilentProgress
from tests.integration.debian import debian_files, debian_root, one_file
from tests.integration.docker_daemon import RunningDaemon, docker_daemon
from tests.integration.made_once import made_once

RECIPE = Path(__file__).parents[2] / "recipes/quickstart"
TINY_PACKAGES = {"coreutils", "dash", "libacl1", "libattr1", "libc6", "libgmp10", "libpcre2-8-0", "libselinux1"}


@dataclass(frozen=True)
class RealRelease:
    """A release of the quickstart made by the command line: its directory, manifest, artefacts and public key."""

    out: Path
    manifest: Path
    artifacts: Path
    public_key: Path


@pytest.fixture(scope="session")
def store() -> Path:
    """The user's own store: what is fetched once stays, and every object is checked before it is used."""
    return default_store()


@pytest.fixture(scope="session")
def quickstart_lock() -> Lock:
    return parse_lock((RECIPE / "lock.json").read_bytes(), what="lock.json")


@pytest.fixture(scope="session")
def locked_inputs(store: Path, quickstart_lock: Lock) -> LocalStore:
    """A store that has every locked package, fetched from the mirror of this host if need be."""
    opened = LocalStore(store)
    fetch_inputs(
        quickstart_lock,
        store=opened,
        fetcher=HttpFetcher(HttpSettings(proxies=host_proxies())),
        locations=find_locations((), None, environment=os.environ),
        progress=SilentProgress(),
    )
    return opened


def group_debs(lock: Lock, store: LocalStore, group: str) -> list[Path]:
    """The packages of one group of the lock."""
    paths = [store.path(package.sha256) for package in lock.group(group)]
    return [path for path in paths if path is not None]


@pytest.fixture(scope="session")
def root_debs(quickstart_lock: Lock, locked_inputs: LocalStore) -> list[Path]:
    """The packages of the root that builds artefacts."""
    return group_debs(quickstart_lock, locked_inputs, "roots.tools")


@pytest.fixture(scope="session")
def pinned_root(root_debs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That root, unpacked; legs cannot change it."""
    return made_once(tmp_path_factory, "tools", lambda root: unpack_root(root_debs, root, SilentProgress()))


@pytest.fixture(scope="session")
def tiny_root(quickstart_lock: Lock, locked_inputs: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a shell and coreutils alone, for legs that need a new engine or daemon: it is hashed and loaded in no
    time."""
    packages = [each for each in quickstart_lock.group("roots.tools") if each.name in TINY_PACKAGES]
    debs = [path for each in packages if (path := locked_inputs.path(each.sha256)) is not None]
    assert len(debs) == len(TINY_PACKAGES)
    return made_once(tmp_path_factory, "tiny", lambda root: unpack_root(debs, root, SilentProgress()))


@pytest.fixture(scope="session")
def vmm_root(quickstart_lock: Lock, locked_inputs: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root with QEMU 10.0.2, unpacked."""
    debs = group_debs(quickstart_lock, locked_inputs, "roots.vmm")
    return made_once(tmp_path_factory, "vmm", lambda root: unpack_root(debs, root, SilentProgress()))


@pytest.fixture(scope="session")
def qemu_11_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the QEMU of Debian 13's backports (11.1 or newer)."""
    backport = "trixie-backports"
    parts = ("qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios")
    packages = [f"{part}/{backport}" for part in parts]
    return debian_root(tmp_path_factory, "qemu-11", suites=["trixie", backport], packages=packages)


@pytest.fixture(scope="session")
def debian_13_firmware(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Debian 13's OVMF.fd (edk2 2025.02): code and variable store in one file."""
    root = debian_files(tmp_path_factory, "ovmf-13", suites=["trixie"], packages=["ovmf"])
    return (root / "usr/share/ovmf/OVMF.fd").read_bytes()


@pytest.fixture(scope="session")
def debian_sid_tdx_firmware(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Debian's newest firmware for TDX, with Secure Boot and Microsoft's keys (edk2 2026.02 or newer)."""
    root = debian_files(tmp_path_factory, "ovmf-sid", suites=["sid"], packages=["ovmf-inteltdx"])
    return (root / "usr/share/ovmf/OVMF.inteltdx.ms.fd").read_bytes()


@pytest.fixture(scope="session")
def debian_13_kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian 13's cloud kernel, Linux 6.12."""
    package = "linux-image-cloud-amd64"
    kept = "linux-image-[0-9].*"
    root = debian_files(tmp_path_factory, "kernel-13", suites=["trixie"], packages=[package], keep=kept)
    return one_file(root, "boot/vmlinuz-*")


@pytest.fixture(scope="session")
def local_daemon() -> Iterator[RunningDaemon]:
    """A docker daemon of this test process."""
    with docker_daemon("local") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def other_daemon() -> Iterator[RunningDaemon]:
    """A second one, which stands for another host."""
    with docker_daemon("other") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def real_release(locked_inputs: LocalStore, store: Path, tmp_path_factory: pytest.TempPathFactory) -> RealRelease:
    """The quickstart, released by the command line as a user would."""

    def make(out: Path) -> None:
        out.mkdir()
        key = out / "release-test-key"
        assert run(["key", "new", str(key)]) == 0
        options = ["--key", str(key), "--out", str(out), "--manifests", str(out / "manifests"), "--store", str(store)]
        assert run(["release", str(RECIPE), *options, "--offline"]) == 0

    out = made_once(tmp_path_factory, "release", make)
    (manifest,) = (out / "manifests").rglob("manifest.json")
    return RealRelease(out, manifest, out / "artifacts", out / "release-test-key.pub")
